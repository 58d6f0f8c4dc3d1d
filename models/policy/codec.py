"""Between text and tokens, as every engine needs it: prompts in, answers and their steps out."""

import math
from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from models.policy.prompting import encode_prompt
from models.policy.protocol import Boundary, Completion, Piece, Request

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
MOST_PROMPTS = 100_000
"""Prompts that are remembered."""


class Codec:
    """`Codec(tokenizer).encode("4 7 26>15;")`."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self._prompts: dict[str, tuple[int, ...]] = {}
        self._closers: dict[str, frozenset[int]] = {}

    def encode(self, prompt: str) -> tuple[int, ...]:
        """Token ids of a prompt, remembered for its other samples."""
        if prompt not in self._prompts:
            if len(self._prompts) > MOST_PROMPTS:
                self._prompts.clear()
            self._prompts[prompt] = encode_prompt(self.tokenizer, prompt)
        return self._prompts[prompt]

    def completes_step(self, tokens: Sequence[int], first: int, boundary: Boundary) -> bool:
        """Whether the last token completes a step that began at `first`."""
        if isinstance(boundary, int):
            return len(tokens) - first == boundary
        if tokens[-1] not in self._find_closers(boundary):
            return False
        return len(boundary) == 1 or boundary in self._decode(tokens[first:])

    def completion(
        self,
        request: Request,
        prompt_tokens: int,
        tokens: list[int],
        logprobs: list[float],
        cuts: Sequence[int],
        stop_reason: str,
    ) -> Completion:
        """An answer of these tokens, whose steps were complete after `cuts` of them.

        Empty, as an error, where it could not begin or logits that are not finite made it.
        """
        if stop_reason == "error" or not math.isfinite(sum(logprobs)):
            return Completion(
                text="",
                token_ids=[],
                logprobs=[],
                prompt_tokens=prompt_tokens,
                stop_reason="error",
                seed=request.seed,
            )
        pieces = self._pieces(request.prefix, tokens, cuts, is_ended=stop_reason == "end")
        return Completion(
            text="".join(piece.text for piece in pieces),
            token_ids=tokens,
            logprobs=logprobs,
            prompt_tokens=prompt_tokens,
            stop_reason=stop_reason,
            seed=request.seed,
            pieces=pieces if request.boundary else [],
        )

    def _pieces(self, prefix: Sequence[int], tokens: list[int], cuts: Sequence[int], *, is_ended: bool) -> list[Piece]:
        """The steps, each with what it adds to the text before it: a tokenizer may join tokens across them."""
        num_tokens = len(tokens)
        ends = [*cuts, num_tokens] if not cuts or cuts[-1] < num_tokens else cuts
        num_shown = num_tokens - is_ended
        texts = [self._decode_whole((*prefix, *tokens[: min(end, num_shown)])) for end in ends]
        starts = [len(self._decode_whole(prefix)) if prefix else 0, *map(len, texts)]
        return [
            Piece(text[start:], end - first)
            for text, start, end, first in zip(texts, starts, ends, [0, *ends], strict=False)
        ]

    def _find_closers(self, boundary: str) -> frozenset[int]:
        """The tokens that can complete a boundary: those with its last character."""
        if boundary not in self._closers:
            texts = self.tokenizer.batch_decode([[i] for i in range(len(self.tokenizer))])
            self._closers[boundary] = frozenset(i for i, text in enumerate(texts) if boundary[-1] in text)
        return self._closers[boundary]

    def _decode_whole(self, tokens: Sequence[int]) -> str:
        """Without a last character whose bytes are not all there, which the next step completes."""
        return self._decode(tokens).rstrip(REPLACEMENT)

    def _decode(self, tokens: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(tokens), clean_up_tokenization_spaces=False))
