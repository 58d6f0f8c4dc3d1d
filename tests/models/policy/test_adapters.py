"""Policies that are adapters alone."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file

from models.policy.adapters import DESCRIPTION, WEIGHTS, Adapter, find_adapter
from models.policy.find import PolicyError
from models.policy.load import Policy, load_policy, load_tokenizer, open_engine, save_policy
from models.policy.protocol import Request
from models.policy.remote import lora_slot
from models.policy.scratch import build_model
from models.policy.settings import PolicySettings, ScratchSettings

IDS = torch.tensor([[3, 4, 5, 6]])


@pytest.fixture
def home(policy: Policy, tmp_path: Path) -> Path:
    """A model, and adapters of it that do something."""
    home = tmp_path / "home"
    save_policy(policy, home / "base")
    model, tokenizer = load_policy(home / "base")
    torch.manual_seed(1)
    config = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
    model.add_adapter(config)
    save_policy(Policy(model, tokenizer), home / "adapters")
    assert json.loads((home / "adapters" / DESCRIPTION).read_text())["base_model_name_or_path"] == "base"
    return home


def test_they_are_small_and_are_opened_merged_into_their_model(policy: Policy, home: Path) -> None:
    assert {path.name for path in (home / "adapters").glob("*.safetensors")} == {WEIGHTS}
    apart = load_policy(home / "adapters", merge=False).model
    merged = load_policy(home / "adapters").model
    assert [name for name, _ in merged.named_modules()] == [name for name, _ in policy.model.named_modules()]
    torch.testing.assert_close(merged(IDS).logits, apart(IDS).logits, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(merged(IDS).logits, policy.model(IDS).logits, atol=0.01)
    engine = open_engine(home / "adapters", PolicySettings(device="cpu"))
    engine.add(0, Request(prompt="4 26 7>15;", max_new_tokens=3))
    assert engine.step()[0][1].token_ids


def test_only_they_learn_on(home: Path) -> None:
    learning = {
        name
        for name, weights in load_policy(home / "adapters", merge=False).model.named_parameters()
        if weights.requires_grad
    }
    assert learning and all("lora_" in name for name in learning)
    assert all(weights.requires_grad for weights in load_policy(home / "adapters").model.parameters())


def test_a_home_that_was_moved_takes_their_model_along(home: Path, tmp_path: Path) -> None:
    before = load_policy(home / "adapters").model(IDS).logits
    home.rename(tmp_path / "moved")
    assert find_adapter(tmp_path / "moved" / "adapters") == Adapter(tmp_path / "moved" / "base", 2)
    torch.testing.assert_close(load_policy(tmp_path / "moved" / "adapters").model(IDS).logits, before)
    learnt = load_policy(tmp_path / "moved" / "adapters", merge=False)
    save_policy(learnt, tmp_path / "moved" / "next")
    torch.testing.assert_close(load_policy(tmp_path / "moved" / "next").model(IDS).logits, before)
    same = [(tmp_path / "moved" / name / DESCRIPTION).read_text() for name in ("adapters", "next")]
    assert same[0] == same[1]


def test_a_folder_of_whole_weights_has_none(home: Path) -> None:
    assert find_adapter(home / "base") is None


def describe(home: Path, **said: object) -> None:
    path = home / "adapters" / DESCRIPTION
    path.write_text(json.dumps({**json.loads(path.read_text()), **said}))


@pytest.mark.parametrize("name", ["", ".", "..", "../home/base", "adapters", "elsewhere", "org/model", None, 5])
def test_those_without_their_model_beside_them_are_refused(home: Path, name: object) -> None:
    describe(home, base_model_name_or_path=name)
    with pytest.raises(PolicyError, match="which are not beside them"):
        load_policy(home / "adapters")


@pytest.mark.parametrize("said", ["{}", "not json", '{"base_model_name_or_path": "base", "r": 2}', "[]"])
def test_what_describes_none_is_refused(home: Path, said: str) -> None:
    (home / "adapters" / DESCRIPTION).write_text(said)
    with pytest.raises(PolicyError, match="describes no adapters"):
        load_policy(home / "adapters")


@pytest.mark.parametrize("said", [{"peft_type": "LOHA"}, {"r": "two"}, {"r": None}, {"r": 2.5}])
def test_other_kinds_are_refused(home: Path, said: dict[str, object]) -> None:
    describe(home, **said)
    with pytest.raises(PolicyError, match="expected LORA and a whole number"):
        load_policy(home / "adapters")


@pytest.mark.parametrize("merge", [True, False])
@pytest.mark.parametrize("said", [{"target_modules": 5}, {"target_modules": ["o_proj"]}, {"r": 3}, {"lora_alpha": "x"}])
def test_a_description_of_others_than_are_there_is_refused(home: Path, said: dict[str, object], merge: bool) -> None:
    describe(home, **said)
    with pytest.raises(PolicyError, match="do not fit their model"):
        load_policy(home / "adapters", merge=merge)


@pytest.mark.parametrize("merge", [True, False])
def test_where_some_are_missing_they_are_refused_not_filled_with_noise(home: Path, merge: bool) -> None:
    weights = load_file(home / "adapters" / WEIGHTS)
    missing = sorted(weights)[0]
    del weights[missing]
    save_file(weights, home / "adapters" / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(PolicyError, match=r"\(1 weights, "):
        load_policy(home / "adapters", merge=merge)


def test_pickled_ones_are_refused(home: Path) -> None:
    (home / "adapters" / WEIGHTS).rename(home / "adapters" / "adapter_model.bin")
    with pytest.raises(PolicyError, match="from safetensors alone"):
        load_policy(home / "adapters")


def test_those_of_another_model_are_refused(home: Path) -> None:
    path = home / "base" / "config.json"
    config = json.loads(path.read_text())
    shutil.rmtree(home / "base")
    tokenizer = load_tokenizer(home / "adapters")
    shape = ScratchSettings(hidden_size=2 * config["hidden_size"], num_layers=1, num_heads=2)
    save_policy(Policy(build_model(shape, tokenizer, seed=0), tokenizer), home / "base")
    for merge in (True, False):
        with pytest.raises(PolicyError, match="do not fit their model"):
            load_policy(home / "adapters", merge=merge)


def test_vllm_makes_room_for_ranks_of_its_own() -> None:
    assert [lora_slot(rank) for rank in (1, 8, 9, 64, 500)] == [8, 8, 16, 64, 512]
    with pytest.raises(PolicyError, match="up to rank 512"):
        lora_slot(513)
