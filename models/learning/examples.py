"""From texts to what the trainer reads."""

from collections.abc import Iterable
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from models.learning.trainer import Example
from models.policy.prompting import encode_answer, encode_prompt


class Solution(NamedTuple):
    """A prompt and the tokens that some policy of the same vocabulary answered with."""

    name: str
    prompt: str
    token_ids: list[int]
    share: float


def from_solutions(tokenizer: PreTrainedTokenizerBase, solutions: Iterable[Solution]) -> list[Example]:
    """Solutions as they were sampled, token for token."""
    return [
        Example(
            name=solution.name,
            prompt_ids=encode_prompt(tokenizer, solution.prompt),
            completion_ids=tuple(solution.token_ids),
            share=solution.share,
        )
        for solution in solutions
    ]


def from_texts(tokenizer: PreTrainedTokenizerBase, texts: Iterable[tuple[str, str]]) -> list[Example]:
    """Pairs of prompt and answer, an end mark after each answer."""
    return [
        Example(
            name=f"demonstration {number}",
            prompt_ids=encode_prompt(tokenizer, prompt),
            completion_ids=encode_answer(tokenizer, answer),
        )
        for number, (prompt, answer) in enumerate(texts, start=1)
    ]
