from pathlib import Path

import pytest
import torch

from models.learning.adapters import adapted
from models.learning.cloning import Cloning
from models.learning.draft import Draft
from models.learning.trainer import StepReport, train
from tests.models.learning.test_batches import UNITS, settings
from tests.models.learning.test_trainer import are_equal, tiny, weights_of


def differences(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: after[name] - before[name] for name in before if not torch.equal(before[name], after[name])}


def test_adapters_are_merged_into_the_weights_they_stand_for_and_leave_nothing_behind() -> None:
    model = tiny()
    before, names = weights_of(model), [name for name, _ in model.named_modules()]
    with adapted(model, 2, seed=0):
        train(model, UNITS, Cloning(), settings(learning_rate=0.05), seed=0)
        inputs = torch.tensor([[1, 2, 3]])
        told = model(input_ids=inputs).logits
    changed = differences(before, weights_of(model))
    assert set(changed) == {f"model.layers.0.{name}.weight" for name in LINEAR}
    assert all(torch.linalg.matrix_rank(change, rtol=1e-3) == 2 for change in changed.values())
    assert [name for name, _ in model.named_modules()] == names
    assert all(weights.requires_grad for weights in model.parameters())
    torch.testing.assert_close(model(input_ids=inputs).logits, told)


LINEAR = [f"self_attn.{kind}_proj" for kind in "qkvo"] + [f"mlp.{kind}_proj" for kind in ("gate", "up", "down")]


def test_without_a_rank_all_weights_learn() -> None:
    model = tiny()
    before = weights_of(model)
    with adapted(model, 0, seed=0):
        train(model, UNITS, Cloning(), settings(), seed=0)
    assert set(differences(before, weights_of(model))) == set(before)


def test_until_they_learn_adapters_change_nothing() -> None:
    model = tiny()
    before = weights_of(model)
    with adapted(model, 4, seed=0):
        pass
    assert are_equal(before, weights_of(model))


def test_the_seed_decides_what_they_learn_and_torchs_own_noise_is_left_alone() -> None:
    def learn(seed: int) -> dict[str, torch.Tensor]:
        model = tiny()
        noise = torch.get_rng_state()
        with adapted(model, 2, seed=seed):
            train(model, UNITS, Cloning(), settings(), seed=0)
        assert torch.equal(torch.get_rng_state(), noise)
        return weights_of(model)

    assert are_equal(learn(1), learn(1))
    assert not are_equal(learn(1), learn(2))


def test_broken_off_they_go_on_to_the_same_weights_from_a_draft_of_their_size(tmp_path: Path) -> None:
    def break_off(step: StepReport) -> None:
        if step.step == 3:
            raise KeyboardInterrupt

    undisturbed, model = tiny(), tiny()
    with adapted(undisturbed, 2, seed=0):
        train(undisturbed, UNITS, Cloning(), settings(), seed=0)
    draft = Draft(folder=tmp_path, every_s=0)
    with pytest.raises(KeyboardInterrupt), adapted(model, 2, seed=0):
        train(model, UNITS, Cloning(), settings(), seed=0, on_step=break_off, draft=draft)
    resumed, steps = tiny(), list[int]()
    with adapted(resumed, 2, seed=0):
        train(resumed, UNITS, Cloning(), settings(), seed=0, on_step=lambda step: steps.append(step.step), draft=draft)
    assert steps[0] in (2, 3)
    assert are_equal(weights_of(undisturbed), weights_of(resumed))
