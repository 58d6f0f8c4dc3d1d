"""From what the warehouse holds, and from texts, to what the trainer reads."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from models.learning.advantages import Baseline, advantages, overlong_penalty, step_advantages
from models.learning.batches import Example, Unit
from models.policy.prompting import encode_answer, encode_prompt


class Solution(NamedTuple):
    """A prompt and the tokens that some policy of the same vocabulary answered with."""

    name: str
    prompt: str
    token_ids: list[int]
    share: float
    weight: float


class Pair(NamedTuple):
    """Two ways to go on from a prompt and the tokens after it, the first preferred."""

    name: str
    prompt: str
    prefix: list[int]
    chosen: list[int]
    rejected: list[int]


class Attempt(NamedTuple):
    """An answer as it was sampled, right or wrong."""

    name: str
    group: str
    """Names the attempts that it is compared with."""
    prompt: str
    token_ids: list[int]
    logprobs: list[float]
    temperature: float
    solved: bool
    values: list[float] | None
    """Shares of right ends below its tree's root and each of its steps, the outcome last; None without a tree."""
    lengths: list[int] | None
    """Tokens of each of its steps."""


def from_solutions(tokenizer: PreTrainedTokenizerBase, solutions: Iterable[Solution]) -> list[Unit]:
    """Solutions as they were sampled, token for token."""
    solutions = list(solutions)
    are_alike = all(solution.weight == 1 for solution in solutions)
    return [
        (
            Example(
                name=solution.name,
                prompt_ids=encode_prompt(tokenizer, solution.prompt),
                completion_ids=tuple(solution.token_ids),
                share=solution.share,
                advantages=() if are_alike else (solution.weight,) * len(solution.token_ids),
            ),
        )
        for solution in solutions
    ]


def from_texts(tokenizer: PreTrainedTokenizerBase, texts: Iterable[tuple[str, str]]) -> list[Unit]:
    """Pairs of prompt and answer, an end mark after each answer."""
    return [
        (
            Example(
                name=f"demonstration {number}",
                prompt_ids=encode_prompt(tokenizer, prompt),
                completion_ids=encode_answer(tokenizer, answer),
            ),
        )
        for number, (prompt, answer) in enumerate(texts, start=1)
    ]


def from_pairs(tokenizer: PreTrainedTokenizerBase, pairs: Iterable[Pair]) -> list[Unit]:
    """The chosen and the rejected one side by side, after what they share."""
    return [
        tuple(
            Example(
                name=f"{pair.name} {kind}",
                prompt_ids=encode_prompt(tokenizer, pair.prompt) + tuple(pair.prefix),
                completion_ids=tuple(token_ids),
            )
            for kind, token_ids in (("chosen", pair.chosen), ("rejected", pair.rejected))
        )
        for pair in pairs
    ]


def from_attempts(
    tokenizer: PreTrainedTokenizerBase,
    attempts: Iterable[Attempt],
    *,
    baseline: Baseline,
    by_steps: bool,
    longest: int,
    overlong_tokens: int,
) -> list[Unit]:
    """Attempts with what each token was worth, those that were worth nothing left out, and groups of one outcome.

    By steps, where there is a tree, else by the outcome beside those of the group, less the penalty of answers that
    are nearly as long as may be.
    """
    examples = []
    for _, members in groupby(sorted(attempts, key=attrgetter("group", "name")), key=attrgetter("group")):
        group = list(members)
        if len({attempt.solved for attempt in group}) < 2:
            continue
        rewards = [
            attempt.solved + overlong_penalty(len(attempt.token_ids), longest, overlong_tokens) for attempt in group
        ]
        for attempt, advantage in zip(group, advantages(rewards, baseline), strict=True):
            examples.append(_weighed(tokenizer, attempt, _credit(attempt, advantage, by_steps)))
    return [(example,) for example in examples if any(example.advantages)]


def _credit(attempt: Attempt, advantage: float, by_steps: bool) -> tuple[float, ...]:
    if by_steps and attempt.values and attempt.lengths:
        return step_advantages(attempt.values, attempt.lengths)
    return (advantage,) * len(attempt.token_ids)


def _weighed(tokenizer: PreTrainedTokenizerBase, attempt: Attempt, advantages: Sequence[float]) -> Example:
    return Example(
        name=attempt.name,
        prompt_ids=encode_prompt(tokenizer, attempt.prompt),
        completion_ids=tuple(attempt.token_ids),
        temperature=attempt.temperature,
        advantages=tuple(advantages),
        sampled=tuple(attempt.logprobs),
    )
