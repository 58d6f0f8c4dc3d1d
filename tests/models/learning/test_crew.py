from collections.abc import Iterator, Sequence
from dataclasses import replace
from threading import Barrier

import pytest
import torch
from transformers import PreTrainedModel

from models.learning import trainer
from models.learning.adapters import adapted
from models.learning.batches import Example, collate
from models.learning.cloning import Cloning
from models.learning.crew import LEAST_TOKENS, MOST_WEIGHTS, Crew, crew_size
from models.learning.scoring import target_logits, target_logprobs
from models.learning.settings import TrainingSettings
from models.learning.trainer import train
from tests.models.learning.test_batches import example
from tests.models.learning.test_trainer import are_equal, dropping, tiny, weights_of

ROWS = [example(f"e{place}", 2 + place % 3, 1 + place % 5) for place in range(7)]
LARGE = TrainingSettings(batch_tokens=4 * LEAST_TOKENS)


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """A crew lowers them for its caller as well."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def backward(model: PreTrainedModel, rows: Sequence[Example]) -> int:
    batch = collate([(row,) for row in rows], model.device)
    Cloning()(target_logprobs(target_logits(model, batch), batch.targets), batch).total.backward()
    return len(rows)


def gradients(model: PreTrainedModel) -> list[torch.Tensor | None]:
    return [weights.grad for weights in model.parameters()]


@pytest.mark.parametrize("size", [1, 2, 3, 9])
def test_the_parts_gradients_add_up_to_that_of_all_at_once(size: int) -> None:
    alone, first = tiny(), tiny()
    backward(alone, ROWS)
    crew = Crew(first, size)
    for _ in range(2):  # twins keep nothing
        first.zero_grad()
        assert sum(crew.backward(backward, ROWS)) == len(ROWS)
        for one, other in zip(gradients(alone), gradients(first), strict=True):
            assert one is not None and other is not None
            assert torch.allclose(one, other, atol=1e-5)


def test_twins_follow_the_weights_and_only_adapters_have_a_gradient() -> None:
    alone, first = tiny(), tiny()
    with adapted(alone, 2, seed=0), adapted(first, 2, seed=0):
        crew = Crew(first, 2)
        for model in (alone, first):
            with torch.no_grad():
                for weights in model.parameters():
                    weights.add_(0.01)
        backward(alone, ROWS)
        crew.backward(backward, ROWS)
        for one, other in zip(gradients(alone), gradients(first), strict=True):
            assert (one is None) == (other is None)
            assert one is None or (other is not None and torch.allclose(one, other, atol=1e-5))


def test_each_part_is_computed_by_a_thread_of_its_own() -> None:
    all_are_at_it = Barrier(3)
    models = Crew(tiny(), 3).backward(lambda model, rows: (all_are_at_it.wait(timeout=20), id(model))[1], ROWS)
    assert len(set(models)) == 3


def test_a_part_that_fails_is_told_when_no_other_is_at_work_any_more() -> None:
    done: list[int] = []

    def fail(model: PreTrainedModel, rows: Sequence[Example]) -> None:
        if rows[0] is ROWS[0]:
            raise torch.OutOfMemoryError("for a test")
        done.append(backward(model, rows))

    with pytest.raises(torch.OutOfMemoryError):
        Crew(tiny(), 2).backward(fail, ROWS)
    assert done == [4]


def test_small_models_have_as_many_as_there_are_cores_and_tokens_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert crew_size(tiny(), LARGE, 1) == 3
    assert crew_size(tiny(), replace(LARGE, batch_tokens=2 * LEAST_TOKENS), 1) == 2
    assert crew_size(tiny(), replace(LARGE, batch_tokens=LEAST_TOKENS - 1), 1) == 1
    assert crew_size(tiny(), replace(LARGE, forward_tokens=2 * LEAST_TOKENS), 1) == 2
    assert crew_size(tiny(), replace(LARGE, precision="bfloat16"), 1) == 1
    assert crew_size(tiny(), LARGE, 2) == 1
    assert crew_size(dropping(), LARGE, 1) == 1
    large = tiny()
    monkeypatch.setattr(large, "num_parameters", lambda: MOST_WEIGHTS + 1)
    assert crew_size(large, LARGE, 1) == 1


def test_a_training_by_parts_is_the_same_each_time_and_as_one_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    units = [(example(f"e{place}", 4, 1 + place % 20),) for place in range(200)]

    def learn(num_threads: int) -> dict[str, torch.Tensor]:
        monkeypatch.setattr(torch, "get_num_threads", lambda: num_threads)
        model = tiny()
        train(model, units, Cloning(), replace(LARGE, epochs=3.0), seed=0)
        return weights_of(model)

    by_parts, again, in_one = learn(2), learn(2), learn(1)
    assert are_equal(by_parts, again)
    for name, weights in in_one.items():
        assert torch.allclose(weights, by_parts[name], atol=1e-4)


def test_a_training_has_the_cores_there_are_and_its_parts_their_share(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[int] = set()
    torch.set_num_threads(4)
    monkeypatch.setattr(trainer, "num_cores", lambda: 2)
    train(
        tiny(),
        [(row,) for row in ROWS],
        Cloning(),
        replace(LARGE, epochs=2.0),
        seed=0,
        on_step=lambda _: seen.add(torch.get_num_threads()),
    )
    assert seen == {1}
    assert torch.get_num_threads() == 2
