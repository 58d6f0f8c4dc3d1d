"""What an engine remembers of texts that are continued: the same answers, for less computing."""

import random
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM

from models.policy.cache import SpareLayer, open_cache
from models.policy.load import Policy
from models.policy.prefixes import Part, Prefixes, Stretch
from models.policy.protocol import Completion, Request
from models.policy.transformers_engine import TransformersEngine
from tests.models.policy.test_transformers_engine import ARCHITECTURES, PROMPTS, drain

A_TOKEN = 2 * 2 * 4 * 8 * 4
"""Bytes of the default policy's past."""


def grow(engine: TransformersEngine, rounds: int = 3, width: int = 4) -> Iterator[tuple[Request, Completion]]:
    """Random trees: each round goes on from steps of any round before."""
    rng = random.Random(0)
    open_steps: list[Request] = [
        Request(prompt=prompt, temperature=1.5, max_new_tokens=24, boundary=2 if n % 2 else 3, max_steps=1 + n % 3)
        for n, prompt in enumerate(PROMPTS)
    ]
    for each in range(rounds):
        asked = [replace(rng.choice(open_steps), seed=100 * each + n) for n in range(width * len(PROMPTS))]
        for request, completion in zip(asked, drain(engine, asked), strict=True):
            yield request, completion
            ends = [
                sum(piece.num_tokens for piece in completion.pieces[: n + 1]) for n in range(len(completion.pieces))
            ]
            if completion.stop_reason == "step":
                open_steps += [
                    replace(request, prefix=request.prefix + tuple(completion.token_ids[:end])) for end in ends
                ]


def check_alike(engine: TransformersEngine, policy: Policy) -> None:
    """What it answers is what an engine answers that remembers nothing."""
    for request, completion in grow(engine):
        (alone,) = drain(TransformersEngine(policy.model, policy.tokenizer), [request])
        assert completion.token_ids == alone.token_ids
        assert completion.logprobs == pytest.approx(alone.logprobs, abs=1e-4)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_text_that_is_continued_goes_on_as_if_it_was_read_anew(policy: Policy, name: str) -> None:
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(ARCHITECTURES[name]).eval()
    check_alike(TransformersEngine(model, policy.tokenizer, max_rows=7), Policy(model, policy.tokenizer))


@pytest.mark.parametrize("tokens", [1, 9, 40, 150])
def test_a_past_that_made_room_is_computed_again(policy: Policy, tokens: int) -> None:
    engine = TransformersEngine(policy.model, policy.tokenizer, max_rows=7)
    engine._prefixes = Prefixes(most_bytes=tokens * A_TOKEN)
    check_alike(engine, policy)


def test_of_a_step_that_is_continued_its_last_token_alone_is_computed(policy: Policy) -> None:
    engine = TransformersEngine(policy.model, policy.tokenizer)
    engine.end_ids = ()
    request = Request(prompt=PROMPTS[0], seed=1, max_new_tokens=30, boundary=5, max_steps=2)
    (first,) = drain(engine, [request])
    assert engine.num_computed_tokens == 10 + 9
    later = [replace(request, prefix=tuple(first.token_ids[:end]), max_new_tokens=1) for end in (5, 10)]
    drain(engine, later + [replace(request, seed=seed, max_new_tokens=1) for seed in range(4)])
    assert engine.num_computed_tokens == 10 + 9 + 3


def test_where_the_weights_changed_nothing_is_remembered(policy: Policy) -> None:
    engine = TransformersEngine(policy.model, policy.tokenizer)
    request = Request(prompt=PROMPTS[0], seed=1, max_new_tokens=30, boundary=5, max_steps=1)
    drain(engine, [request])
    engine.forget()
    before = engine.num_computed_tokens
    drain(engine, [replace(request, max_new_tokens=1)])
    assert engine.num_computed_tokens - before == 10


def test_texts_without_steps_are_not_remembered(policy: Policy) -> None:
    engine = TransformersEngine(policy.model, policy.tokenizer)
    for _ in range(2):
        drain(engine, [Request(prompt=PROMPTS[0], max_new_tokens=1)])
    assert engine.num_computed_tokens == 20


def test_a_buffer_is_written_round_and_round_and_gives_back_what_was_written() -> None:
    rng, prefixes = random.Random(0), Prefixes(most_bytes=2 * 2 * 3 * 4 * 50)
    known: dict[tuple[int, ...], torch.Tensor] = {}
    for number in range(60):
        cache = open_cache(2)
        for layer in cache.layers:
            assert isinstance(layer, SpareLayer)
            layer.update(torch.randn(2, 1, 20, 3), torch.randn(2, 1, 20, 3))
        num = rng.randint(1, 19)
        tokens = tuple([number] * (num + 1))
        (stretch,) = prefixes.write(cache, [Part(1, 20 - num, num)])
        prefixes.name(tokens, (stretch,))
        known[tokens] = torch.stack([layer.all_values[1, :, 20 - num : 20] for layer in cache.layers])  # type: ignore[attr-defined]
        found = [each for each in known if prefixes.find(each)]
        assert tokens in found and sum(len(each) - 1 for each in found) <= 50
        loaded, pads = prefixes.load(found)
        for row, each in enumerate(found):
            begin = pads[row]
            values = torch.stack([layer.all_values[row, :, begin : begin + len(each) - 1] for layer in loaded.layers])  # type: ignore[attr-defined]
            assert torch.equal(values, known[each])
    assert 2 <= len(found) < 60


def test_what_is_larger_than_the_buffer_is_not_found() -> None:
    prefixes, cache = Prefixes(most_bytes=2 * 3 * 4 * 10), open_cache(1)
    cache.update(torch.randn(1, 1, 20, 3), torch.randn(1, 1, 20, 3), 0)
    large, small = prefixes.write(cache, [Part(0, 0, 11), Part(0, 0, 4)])
    prefixes.name((1,) * 12, (large,))
    prefixes.name((2,) * 5, (small,))
    assert prefixes.find((1,) * 12) is None and prefixes.find((2,) * 5) == (Stretch(0, 4),)
