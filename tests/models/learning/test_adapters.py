from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models.learning.adapters import adapted
from models.learning.cloning import Cloning
from models.learning.draft import Draft
from models.learning.examples import Solution
from models.learning.finetune import Trained, build_from_scratch, finetune
from models.learning.settings import InitializationSettings, LearningSettings
from models.learning.trainer import StepReport, train
from models.policy.adapters import Adapter, find_adapter
from models.policy.load import load_policy
from models.policy.settings import ScratchSettings
from storage.demonstrations import CHARACTERS
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


def saved(trained: Trained, folder: Path) -> Path:
    trained.save(folder)
    return folder


SOLUTIONS = [Solution(f"s{n}", "1 2>3;", (3, 4, 5, 6), 1.0, 1.0) for n in range(8)]
KEEPING = LearningSettings(lora_rank=2, keep_adapters=True, learning_rate=1e-2, batch_tokens=40, epochs=2.0)


def learn(parent: Path, settings: LearningSettings) -> Trained:
    return finetune(parent, SOLUTIONS, settings, seed=0, device="cpu", max_new_tokens=16)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    texts = [("1 2>3;", "1+2=3;")]
    trained = build_from_scratch(
        texts, CHARACTERS, InitializationSettings(), ScratchSettings(hidden_size=32, num_heads=2), seed=0, device="cpu"
    )
    return saved(trained, tmp_path_factory.mktemp("home") / "base")


def test_kept_apart_they_come_to_what_merging_them_does_and_learn_on(base: Path) -> None:
    merged, apart = learn(base, replace(KEEPING, keep_adapters=False)), learn(base, KEEPING)
    folder = saved(apart, base.parent / "first")
    assert not (folder / "model.safetensors").exists()
    opened = load_policy(folder).model.state_dict()
    for name, weights in merged.policy.model.state_dict().items():
        assert torch.allclose(weights, opened[name], atol=1e-5), name

    second = learn(folder, KEEPING)
    assert second.report.steps[0].loss < apart.report.steps[0].loss
    again = load_policy(saved(second, base.parent / "second"), merge=False).model
    assert find_adapter(base.parent / "second") == Adapter(base, 2)
    for name, weights in second.policy.model.state_dict().items():
        assert torch.equal(weights, again.state_dict()[name]), name
    unchanged = dict(load_policy(base).model.named_parameters())
    frozen = {name: weights for name, weights in again.named_parameters() if "lora_" not in name}
    assert len(frozen) == len(unchanged)
    for name, weights in frozen.items():
        assert torch.equal(weights, unchanged[name.replace(".base_layer", "")]), name


def test_whole_weights_may_go_on_from_them(base: Path) -> None:
    folder = saved(learn(base, KEEPING), base.parent / "to be merged")
    whole = learn(folder, LearningSettings(batch_tokens=40))
    assert (saved(whole, base.parent / "whole") / "model.safetensors").exists()
    assert whole.report.steps[0].loss < learn(base, LearningSettings(batch_tokens=40)).report.steps[0].loss


def test_those_of_another_rank_do_not_go_on(base: Path) -> None:
    folder = saved(learn(base, KEEPING), base.parent / "of rank 2")
    with pytest.raises(ValueError, match=r"of rank 2 and learning\.lora_rank is 4: set it to 2"):
        learn(folder, replace(KEEPING, lora_rank=4))
    with pytest.raises(ValueError, match="keep_adapters asks for adapters"):
        LearningSettings(keep_adapters=True)
