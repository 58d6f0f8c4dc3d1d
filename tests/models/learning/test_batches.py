import math
from collections import Counter
from typing import Any

import pytest
import torch

from models.learning.batches import IGNORED, Example, Unit, collate, plan_batches
from models.learning.settings import TrainingSettings

CPU = torch.device("cpu")


def example(name: str, prompt: int, completion: int, share: float = 1.0) -> Example:
    return Example(
        name=name,
        prompt_ids=tuple(1 + i % 11 for i in range(prompt)),
        completion_ids=tuple(1 + (prompt + 3 * i) % 11 for i in range(completion)),
        share=share,
    )


UNITS: list[Unit] = [(example(f"e{i}", prompt=1 + i % 5, completion=1 + i % 7),) for i in range(40)]


def settings(**changes: Any) -> TrainingSettings:
    return TrainingSettings(**{"batch_tokens": 64, "epochs": 1.0, "learning_rate": 1e-2} | changes)


def names_in(plan: list[list[Unit]]) -> list[str]:
    return [row.name for batch in plan for unit in batch for row in unit]


def test_every_example_stands_in_every_epoch_once() -> None:
    names = names_in(plan_batches(UNITS, settings(epochs=3.0), seed=0))
    assert (
        Counter(names[:40]) == Counter(names[40:80]) == Counter(names[80:]) == Counter(unit[0].name for unit in UNITS)
    )
    assert names[:40] != names[40:80]


@pytest.mark.parametrize(("epochs", "num_examples"), [(0.25, 10), (1.5, 60), (2.1, 84), (0.001, 1), (3.0, 120)])
def test_a_part_of_an_epoch_is_a_part_of_the_examples(epochs: float, num_examples: int) -> None:
    names = names_in(plan_batches(UNITS, settings(epochs=epochs), seed=0))
    assert len(names) == num_examples
    assert max(Counter(names).values()) == math.ceil(epochs)


def test_an_example_takes_part_in_its_share_of_the_passes() -> None:
    units = [(example(f"{share}-{i}", 3, 4, share=share),) for share in (1.0, 0.5, 0.1) for i in range(20)]
    names = names_in(plan_batches(units, settings(epochs=5.0), seed=0))
    passes = Counter(name.partition("-")[0] for name in names)
    assert passes["1.0"] == 100 and 160 <= len(names) <= 165
    assert 40 <= passes["0.5"] <= 60 and 3 <= passes["0.1"] <= 17


def test_batches_keep_to_their_budget_padding_counted() -> None:
    plan = plan_batches(UNITS, settings(batch_tokens=30), seed=0)
    assert all(len(batch) * max(unit[0].num_tokens for unit in batch) <= 30 for batch in plan)
    assert len(plan) < 16


def test_an_example_over_the_budget_goes_alone() -> None:
    units = [(example("long", 10, 30),), *UNITS[:5], (example("longer", 10, 40),)]
    names = [names_in([batch]) for batch in plan_batches(units, settings(batch_tokens=20), seed=0)]
    assert sorted(row for row in names if row[0].startswith("long")) == [["long"], ["longer"]]


def test_a_plan_follows_from_its_seed() -> None:
    plans = [plan_batches(UNITS, settings(), seed=seed) for seed in (1, 1, 2)]
    assert plans[0] == plans[1] != plans[2]


def test_nothing_to_learn_from_is_an_error() -> None:
    with pytest.raises(ValueError, match="nothing to learn from"):
        plan_batches([], settings(), seed=0)


def test_a_batch_is_padded_on_the_right_and_learns_completions_only() -> None:
    rows = [
        Example(name="a", prompt_ids=(5, 6), completion_ids=(7, 8, 1), advantages=(0.1, 0.2, 0.3), temperature=0.5),
        Example(name="b", prompt_ids=(9,), completion_ids=(1,)),
    ]
    batch = collate([(row,) for row in rows], CPU)
    assert batch.names == ("a", "b")
    assert batch.input_ids.tolist() == [[5, 6, 7, 8, 1], [9, 1, 0, 0, 0]]
    assert batch.targets.tolist() == [
        [IGNORED, 7, 8, 1, IGNORED],
        [1, IGNORED, IGNORED, IGNORED, IGNORED],
    ]
    assert batch.num_tokens == 7
    assert batch.temperatures is not None and batch.temperatures.tolist() == [0.5, 1.0]
    assert batch.advantages is not None and batch.sampled is None
    torch.testing.assert_close(batch.advantages, torch.tensor([[0, 0.1, 0.2, 0.3, 0], [0, 0, 0, 0, 0]]))


def test_what_is_prompt_in_every_row_has_no_targets() -> None:
    batch = collate([(example("a", 4, 2),), (example("b", 3, 3),)], CPU)
    assert batch.input_ids.shape == (2, 6)
    assert batch.targets.shape == (2, 4)
    assert (batch.targets != IGNORED).int().tolist() == [[0, 1, 1, 0], [1, 1, 1, 0]]


def test_a_pair_stays_together_and_counts_as_two() -> None:
    pairs = [(example(f"{i} chosen", 3, 1 + i % 4), example(f"{i} rejected", 3, 1 + i % 3)) for i in range(20)]
    plan = plan_batches(pairs, settings(batch_tokens=40), seed=0)
    assert all(2 * len(batch) * max(e.num_tokens for unit in batch for e in unit) <= 40 for batch in plan)
    assert Counter(unit for batch in plan for unit in batch) == Counter(pairs)


def test_numbers_belong_to_tokens() -> None:
    with pytest.raises(AssertionError, match="a has 1 numbers for its tokens"):
        Example(name="a", prompt_ids=(1,), completion_ids=(2, 3), advantages=(1.0,))


def test_an_example_has_a_prompt_and_something_to_learn() -> None:
    for prompt, completion in ((0, 1), (1, 0)):
        with pytest.raises(AssertionError, match="e7 has an empty prompt or nothing to learn"):
            example("e7", prompt, completion)
