import math

import pytest

from models.policy.protocol import Completion, Known, Piece
from models.search.tree import CLOSED_BELOW, MOST_FAILURES, Node


def written(*steps: str, stop_reason: str = "end", probability: float = 0.5) -> Completion:
    """Steps of characters; each character has the probability."""
    text = "".join(steps)
    return Completion(
        text=text.rstrip("$"),
        token_ids=[*map(ord, text)],
        logprobs=[math.log(probability)] * len(text),
        prompt_tokens=4,
        stop_reason=stop_reason,
        pieces=[Piece(step.rstrip("$"), len(step)) for step in steps],
    )


def test_a_rollout_adds_each_of_its_steps() -> None:
    root = Node()
    leaf = root.grow(written("a;", "bb;", "$"))
    assert [node.text for node in root.walk()] == ["", "a;", "bb;", ""]
    assert [node.text for node in leaf.path()] == ["a;", "bb;", ""]
    assert [node.stop_reason for node in leaf.path()] == ["step", "step", "end"]
    assert leaf.prefix == tuple(map(ord, "a;bb;$"))
    assert leaf.is_closed and not root.is_closed


def test_what_was_written_up_to_a_step_is_an_answer() -> None:
    leaf = Node().grow(written("a;", "bb;", "$"))
    answer = leaf.answer(seed=9, prompt_tokens=4)
    assert (answer.text, answer.token_ids, answer.stop_reason) == ("a;bb;", [*map(ord, "a;bb;$")], "end")
    assert answer.logprobs == pytest.approx([math.log(0.5)] * 6)
    assert (answer.seed, answer.prompt_tokens) == (9, 4)
    assert leaf.parent and leaf.parent.answer(9, 4).stop_reason == "step"


def test_equal_siblings_are_one_step_and_all_tokens_are_charged() -> None:
    root = Node()
    leaves = [root.grow(written("a;", "b$")), root.grow(written("a;", "c$")), root.grow(written("a;", "b$"))]
    assert leaves[0] is leaves[2] is not leaves[1]
    assert [(node.text, node.draws, node.num_tokens) for node in root.walk()] == [
        ("", 0, 0), ("a;", 3, 6), ("b", 2, 4), ("c", 1, 2),
    ]  # fmt: skip
    assert sum(node.num_tokens for node in root.walk()) == 12


def test_a_value_is_backed_up_to_every_step_above() -> None:
    root = Node()
    root.grow(written("a;", "b$")).back_up(1.0)
    root.grow(written("a;", "c$")).back_up(0.5)
    root.grow(written("d$")).back_up(0.0)
    assert [(node.text, node.visits, node.value) for node in root.walk()] == [
        ("", 3, 0.5), ("a;", 2, 0.75), ("b", 1, 1.0), ("c", 1, 0.5), ("d", 1, 0.0),
    ]  # fmt: skip


def test_a_subtree_closes_once_all_of_it_is_seen() -> None:
    root = Node()
    for step, share in (("a$", 0.6), ("b$", 0.3)):
        leaf = root.grow(written(step, probability=math.sqrt(share)))
        leaf.back_up(0.0)
    assert root.unseen == pytest.approx(0.1) and not root.is_closed
    root.grow(written("c$", probability=math.sqrt(0.09))).back_up(0.0)
    assert root.unseen == pytest.approx(0.01) and root.is_closed


def test_what_is_open_below_keeps_it_open() -> None:
    root = Node()
    root.grow(written("a;", stop_reason="step", probability=1.0)).back_up(0.0)
    assert root.unseen == 0.0 and not root.is_closed


def test_a_step_after_which_nothing_can_be_written_is_closed_with_a_reason() -> None:
    root = Node()
    step = root.grow(written("a;", stop_reason="step"))
    for _ in range(MOST_FAILURES):
        assert not step.is_closed
        failed = step.grow(written(stop_reason="error"))
        failed.back_up(0.0)
    assert failed.stop_reason == "error" and failed.is_closed and step.is_closed and not root.is_closed
    assert failed.draws == MOST_FAILURES and len(step.children) == 1
    assert failed.answer(0, 4).token_ids == step.answer(0, 4).token_ids


def test_whole_steps_are_known_and_not_written_again() -> None:
    root = Node()
    step = root.grow(written("ab;", stop_reason="step"))
    root.grow(written("a", stop_reason="length"))
    root.grow(written(stop_reason="error"))
    assert root.known() == (Known(step.token_ids, step.logprobs),)
    root.seen = 1 - CLOSED_BELOW / 2
    assert root.known() == ()  # hardly any other is left


def test_an_answer_that_may_not_be_longer_is_cut_off() -> None:
    step = Node().grow(written("abc;", stop_reason="step"))
    step.cut_off(5)
    assert step.stop_reason == "step"
    step.cut_off(4)
    assert (step.stop_reason, step.is_closed) == ("length", True)


def test_likelihood_and_prior_do_not_favour_short_steps() -> None:
    root = Node()
    root.grow(written("a$", probability=0.4))
    root.grow(written("bbbbb$", probability=0.6))
    short, long = root.children.values()
    assert (short.likelihood, long.likelihood) == pytest.approx((0.4, 0.6))
    assert (short.prior, long.prior, root.prior) == pytest.approx((0.4, 0.6, 1.0))
