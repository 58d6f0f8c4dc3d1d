"""Sampling without replacement: what it never writes again, and that it is otherwise as the policy would."""

import math
from collections import Counter
from dataclasses import replace

import pytest

from models.policy.load import Policy
from models.policy.protocol import Completion, Known, Request
from models.policy.replacement import build_trie
from models.policy.transformers_engine import TransformersEngine

PAIR = Request(prompt="4 7 26>15;", temperature=1.3, boundary=2, max_steps=1, max_new_tokens=8)
"""Asks for a step of two tokens."""


def complete(policy: Policy, requests: list[Request]) -> list[Completion]:
    engine = TransformersEngine(policy.model, policy.tokenizer, max_rows=512)
    for key, request in enumerate(requests):
        engine.add(key, request)
    found: dict[int, Completion] = {}
    while len(found) < len(requests):
        found |= dict(engine.step())
    return [found[key] for key in range(len(requests))]


def known(completion: Completion) -> Known:
    return Known(tuple(completion.token_ids), tuple(completion.logprobs))


def test_a_share_is_what_is_known_of_all_that_begins_so() -> None:
    trie = build_trie([Known((1, 2), (math.log(0.5), math.log(0.4))), Known((1, 3), (math.log(0.5), math.log(0.1)))])
    assert trie[1].share == pytest.approx(0.5)
    assert trie[1].below[2].share == trie[1].below[3].share == 1.0
    assert trie[1].log_left == pytest.approx(math.log(0.5)) and trie[1].below[2].log_left == -math.inf
    assert build_trie([]) == {}


def test_no_step_is_written_twice_until_all_are(policy: Policy) -> None:
    written: list[Known] = []
    for seed in range(60):
        (step,) = complete(policy, [replace(PAIR, seed=seed, known=tuple(written))])
        assert known(step).token_ids not in {each.token_ids for each in written}
        written.append(known(step))
    assert math.fsum(math.exp(sum(each.logprobs)) for each in written) < 1


def test_the_rest_is_drawn_as_the_policy_would(policy: Policy) -> None:
    drawn = complete(policy, [replace(PAIR, seed=seed) for seed in range(4000)])
    steps = {known(step).token_ids: known(step) for step in drawn}
    often = [steps[tokens] for tokens, _ in Counter(known(step).token_ids for step in drawn).most_common(12)]
    written = tuple(often[:3])
    left = 1 - sum(math.exp(sum(step.logprobs)) for step in written)
    assert 0.05 < left < 0.95
    again = complete(policy, [replace(PAIR, seed=seed, known=written) for seed in range(10_000, 14_000)])
    counts = Counter(known(step).token_ids for step in again)
    assert not counts.keys() & {step.token_ids for step in written}
    for step in often[3:]:
        expected = math.exp(sum(step.logprobs)) / left
        spread = math.sqrt(expected * (1 - expected) / len(again))
        assert counts[step.token_ids] / len(again) == pytest.approx(expected, abs=4.5 * spread)


def test_log_probabilities_stay_the_policys(policy: Policy) -> None:
    (first,) = complete(policy, [PAIR])
    (other,) = complete(policy, [replace(PAIR, known=(known(first),))])
    same = next(
        step
        for step in complete(policy, [replace(PAIR, seed=seed) for seed in range(4000)])
        if step.token_ids == other.token_ids
    )
    assert other.logprobs == pytest.approx(same.logprobs, abs=1e-5)


def test_greedy_takes_the_best_that_is_left(policy: Policy) -> None:
    best = replace(PAIR, temperature=0.0)
    (first,) = complete(policy, [best])
    (second,) = complete(policy, [replace(best, known=(known(first),))])
    assert second.token_ids != first.token_ids


def test_rows_beside_one_that_knows_something_are_as_they_were(policy: Policy) -> None:
    (first,) = complete(policy, [PAIR])
    plain = [replace(PAIR, seed=seed) for seed in range(20)]
    mixed = complete(policy, [replace(PAIR, known=(known(first),)), *plain])
    assert [step.token_ids for step in mixed[1:]] == [step.token_ids for step in complete(policy, plain)]
