"""Solves one typed problem with several attempts, and says how the answer was chosen. Keeps nothing."""

from collections import Counter
from dataclasses import dataclass

from models.policy.protocol import Completion, Engine
from models.reward.math import find_answer
from models.reward.outcome import is_whole, judge_completions
from models.reward.verifier import reads_gold
from models.search.best_of_n import GREEDY, BestOfN
from models.search.driver import drive
from models.search.protocol import Task
from storage.records import Problem, make_seed


@dataclass(frozen=True, kw_only=True, slots=True)
class Solution:
    """`Solution(answer="(26-4)-7", text="26-4=22,7;22-7=15;", is_verified=True, why="…", …)`."""

    answer: str
    text: str
    is_verified: bool
    """Whether the rules that the problem itself states accept it."""
    why: str
    num_samples: int
    num_tokens: int


def solve(problem: Problem, engine: Engine, *, num_samples: int, max_new_tokens: int) -> Solution:
    """The best attempt: one that the rules of the game accept, else the most frequent answer. Reads no gold answer."""
    strategy = GREEDY if num_samples == 1 else BestOfN(samples=num_samples, temperature=1.0)
    task = Task(prompt=problem.prompt, seed=make_seed("solve", problem.problem_id), max_new_tokens=max_new_tokens)
    attempts = [c for done in drive([(0, strategy.search(task))], engine) for _, found in done for c in found.attempts]
    answer, attempt, why, is_verified = (
        choose_vote(attempts) if reads_gold(problem) else choose_legal(problem, attempts)
    )
    return Solution(
        answer=answer,
        text=attempt.text,
        is_verified=is_verified,
        why=why,
        num_samples=len(attempts),
        num_tokens=sum(len(attempt.token_ids) for attempt in attempts),
    )


def choose_legal(problem: Problem, attempts: list[Completion]) -> tuple[str, Completion, str, bool]:
    """An attempt that the rules accept, else the first."""
    judgements = judge_completions([(problem, attempt) for attempt in attempts])
    legal = [index for index, judgement in enumerate(judgements) if judgement.solved]
    chosen = legal[0] if legal else 0
    why = f"the rules of the game accept {len(legal)} of {len(attempts)} attempts" + (
        "" if legal else "; this is the first"
    )
    return judgements[chosen].answer, attempts[chosen], why, bool(legal)


def choose_vote(attempts: list[Completion]) -> tuple[str, Completion, str, bool]:
    """The most frequent answer among those that were ended, else the first attempt's."""
    answers = [find_answer(attempt.text) for attempt in attempts]
    votes = Counter(answer for answer, attempt in zip(answers, attempts, strict=True) if is_whole(attempt) and answer)
    answer, num = votes.most_common(1)[0] if votes else (answers[0], 0)
    return answer, attempts[answers.index(answer)], f"{num} of {len(attempts)} attempts agree; not verified", False
