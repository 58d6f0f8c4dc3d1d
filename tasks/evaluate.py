"""Measures a checkpoint on a split: one greedy answer a problem, and samples for pass@8 on fewer."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from time import monotonic
from typing import Any, NamedTuple

from models.evaluation.metrics import mean_pass_at_k, wilson_interval
from models.evaluation.settings import EvaluationSettings
from models.policy.load import sampling_gpus
from models.policy.pool import borrowed_engine
from models.policy.protocol import Completion, Engine
from models.policy.settings import PolicySettings
from models.reward.outcome import judge_completions
from models.reward.protocol import Judgement
from models.search.best_of_n import GREEDY, BestOfN
from models.search.driver import drive
from models.search.protocol import Strategy, Task
from storage.chance import known_chance, measure_chance
from storage.curriculum import problems_of
from storage.problems import ProblemSettings
from storage.records import Evaluation, Outcome, Problem, Split, make_id, make_seed
from tasks.choose import Thinking, choose
from tasks.devices import held
from tasks.progress import Progress, report
from tasks.stage import log, stage, warn
from tasks.turn import Turn
from tasks.wording import minutes, show_accuracy

PASS_SAMPLES = 8
SAMPLING = BestOfN(samples=PASS_SAMPLES, temperature=1.0)


@stage("evaluate")
def evaluate(
    turn: Turn,
    checkpoint_id: str,
    split: Split,
    policy: PolicySettings,
    settings: EvaluationSettings,
    problems: ProblemSettings,
    thinking: Thinking | None = None,
) -> Evaluation:
    """Publish an evaluation and its outcomes, unless they are there; gives the evaluation.

    It measures greedy answers, and samples beside; with `thinking` what a search comes to, and nothing beside.
    Raises ValueError for a guide that reads the gold answer.
    """
    known = {**asdict(settings), "max_new_tokens": policy.max_new_tokens, "dtype": policy.dtype}
    asked = json.dumps(known | ({"search": repr(thinking)} if thinking else {}))
    evaluation_id = make_id("evaluation", turn.line, checkpoint_id, split, asked)
    if not turn.lake.has("evaluations", evaluation_id):
        started = monotonic()
        asked_greedily = problems_of(turn.warehouse, split)
        asked_by_samples = [] if thinking else asked_greedily[: settings.pass_problems]
        asking = Asking(total=len(asked_greedily) + len(asked_by_samples))
        with (
            held(turn.home, sampling_gpus(policy), warn),
            borrowed_engine(turn.registry.open(checkpoint_id), policy, warn) as engine,
        ):
            greedy = asking.run(engine, GREEDY, asked_greedily, policy.max_new_tokens, thinking)
            sampled = asking.run(engine, SAMPLING, asked_by_samples, policy.max_new_tokens)
        chance = known_chance(turn.warehouse, turn.line, split) or measure_chance(problems, asked_greedily)
        row = Evaluation(
            evaluation_id=evaluation_id,
            checkpoint_id=checkpoint_id,
            line=turn.line,
            run_id=turn.run_id,
            round=turn.round,
            split=split,
            strategy=thinking.label if thinking else GREEDY.label,
            settings=asked,
            chance=chance.uniform_play,
            brute_force=chance.brute_force,
            seconds=monotonic() - started,
            **measures(greedy, sampled),
        )
        turn.lake.republish(
            "outcomes", evaluation_id, [*outcomes(evaluation_id, greedy, 0), *outcomes(evaluation_id, sampled, 1)]
        )
        turn.lake.publish("evaluations", evaluation_id, [row])
    evaluation = read(turn, evaluation_id)
    cost = f"{evaluation.num_tokens:,} tokens in {minutes(evaluation.seconds)}"
    log(f"{split}: {show_accuracy(asdict(evaluation))}, {cost}")
    return evaluation


def read(turn: Turn, evaluation_id: str) -> Evaluation:
    """A published evaluation."""
    (evaluation,) = turn.lake.read("evaluations", evaluation_id)
    assert isinstance(evaluation, Evaluation)
    return evaluation


class Answered(NamedTuple):
    """A problem, its answers and what became of them."""

    problem: Problem
    completions: list[Completion]
    judgements: list[Judgement]
    num_tokens: int
    """All that was generated for them."""

    @property
    def num_solved(self) -> int:
        return sum(judgement.solved for judgement in self.judgements)


def make_task(problem: Problem, max_new_tokens: int) -> Task:
    """What to search, the same for every checkpoint."""
    return Task(prompt=problem.prompt, seed=make_seed("evaluation", problem.problem_id), max_new_tokens=max_new_tokens)


@dataclass
class Asking:
    """Asks a split's problems and tells how far it is; the solved share that it tells is not of samples."""

    total: int
    done: int = 0
    solved: int = 0
    tried: int = 0
    tokens: int = 0

    def run(
        self,
        engine: Engine,
        strategy: Strategy,
        problems: Sequence[Problem],
        max_new_tokens: int,
        thinking: Thinking | None = None,
    ) -> list[Answered]:
        """The answers to problems, in the problems' order whatever the engine's; one each where it thinks."""
        strategy, guide = (thinking.strategy, thinking.open_guide()) if thinking else (strategy, None)
        searches = ((problem, strategy.search(make_task(problem, max_new_tokens))) for problem in problems)
        answered: dict[str, Answered] = {}
        for finished in drive(searches, engine, guide):
            for problem, found in finished:
                attempts = found.attempts
                if thinking:
                    attempts = [attempts[choose(problem, attempts, thinking).place]]
                judgements = judge_completions([(problem, attempt) for attempt in attempts])
                answered[problem.problem_id] = Answered(problem, attempts, judgements, found.num_tokens)
            newest = [answered[problem.problem_id] for problem, _ in finished]
            self.count(newest, are_first=thinking is not None or strategy is GREEDY)
        return [answered[problem.problem_id] for problem in problems]

    def count(self, answered: Sequence[Answered], *, are_first: bool) -> None:
        """Add to the counts and report them."""
        self.done += len(answered)
        if are_first:
            self.solved += sum(a.num_solved for a in answered)
            self.tried += len(answered)
        self.tokens += sum(answer.num_tokens for answer in answered)
        report(
            Progress(
                stage="evaluate",
                done=self.done,
                total=self.total,
                solved=self.solved,
                tried=self.tried,
                tokens=self.tokens,
            )
        )


def outcomes(evaluation_id: str, answered: Sequence[Answered], first_sample: int) -> Iterator[Outcome]:
    """A row an answer."""
    for problem, completions, judgements, _ in answered:
        for sample, (completion, judgement) in enumerate(zip(completions, judgements, strict=True), first_sample):
            yield Outcome(
                evaluation_id=evaluation_id,
                problem_id=problem.problem_id,
                sample=sample,
                solved=judgement.solved,
                reason=judgement.reason,
                text=completion.text,
                num_tokens=len(completion.token_ids),
            )


def measures(greedy: Sequence[Answered], sampled: Sequence[Answered]) -> dict[str, Any]:
    """The numbers of an evaluation."""
    num_solved = sum(answer.num_solved for answer in greedy)
    low, high = wilson_interval(num_solved, len(greedy))
    answers = [completion for answer in greedy for completion in answer.completions]
    samples = [completion for answer in sampled for completion in answer.completions]
    logprobs = [logprob for completion in samples for logprob in completion.logprobs]
    tries = [(len(answer.judgements), answer.num_solved) for answer in sampled]
    return {
        "num_problems": len(greedy),
        "num_solved": num_solved,
        "accuracy": num_solved / len(greedy),
        "low": low,
        "high": high,
        "pass_at_8": mean_pass_at_k(tries, PASS_SAMPLES) if tries else None,
        "num_pass_problems": len(tries),
        "mean_tokens": fmean(len(answer.token_ids) for answer in answers),
        "truncated_share": fmean(answer.stop_reason == "length" for answer in answers),
        "entropy": -fmean(logprobs) if logprobs else None,
        "num_tokens": sum(answer.num_tokens for answer in (*greedy, *sampled)),
    }
