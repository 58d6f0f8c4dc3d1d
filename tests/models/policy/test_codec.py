"""Steps of a text as tokenizers cut it, which may be in the middle of a character."""

from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as Decoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from transformers import PreTrainedTokenizerFast

from models.policy.codec import Codec
from models.policy.protocol import Request


def by_bytes() -> PreTrainedTokenizerFast:
    """Each byte is a token."""
    tokenizer = Tokenizer(
        BPE(vocab={letter: place for place, letter in enumerate(sorted(ByteLevel.alphabet()))}, merges=[])
    )
    tokenizer.pre_tokenizer, tokenizer.decoder = ByteLevel(add_prefix_space=False), Decoder()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def test_a_character_that_is_cut_stands_whole_in_the_step_that_completes_it() -> None:
    codec = Codec(by_bytes())
    text = "a–b≠c"
    tokens = list(codec.encode(text))
    assert len(tokens) == 9
    for size in (1, 2, 3, 4):
        request, pieces = Request(prompt="p", seed=0, boundary=size), list[str]()
        for first in range(0, len(tokens), size):  # a request a step, as trees ask
            request = Request(prompt="p", prefix=tuple(tokens[:first]), seed=0, boundary=size)
            new = tokens[first : first + size]
            pieces.append(codec.completion(request, 1, new, [0.0] * len(new), [len(new)], "step").text)
        assert "".join(pieces) == text
    at_once = codec.completion(Request(prompt="p", seed=0, boundary=2), 1, tokens, [0.0] * 9, [2, 4, 6, 8], "length")
    assert (at_once.text, [piece.text for piece in at_once.pieces]) == (text, ["a", "–", "b", "≠", "c"])
