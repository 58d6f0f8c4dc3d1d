"""The binary outcome of what a policy wrote: a right answer, given in time."""

from collections.abc import Sequence

from models.policy.protocol import Completion
from models.reward.protocol import Judgement
from models.reward.verifier import judge
from storage.records import Problem


def judge_completions(attempts: Sequence[tuple[Problem, Completion]]) -> list[Judgement]:
    """One judgement an attempt, in order. A text that was cut off is truncated, whatever stands in it."""
    judged = iter(judge([(problem, completion.text) for problem, completion in attempts if is_whole(completion)]))
    return [next(judged) if is_whole(completion) else explain(completion) for _, completion in attempts]


def is_whole(completion: Completion) -> bool:
    """Whether the policy ended it itself."""
    return completion.stop_reason == "end"


def explain(completion: Completion) -> Judgement:
    """The judgement of a text that has no end."""
    return Judgement(solved=False, reason="truncated" if completion.stop_reason == "length" else "error")
