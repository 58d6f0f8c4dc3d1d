import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from models.policy.find import PolicyError
from models.policy.load import Policy, choose_device, choose_dtype, load_policy, open_engine, save_policy
from models.policy.protocol import Request
from models.policy.settings import PolicySettings


@pytest.fixture
def folder(policy: Policy, tmp_path: Path) -> Path:
    save_policy(policy, tmp_path / "policy")
    return tmp_path / "policy"


def test_a_policy_saved_and_loaded_is_the_same(policy: Policy, folder: Path) -> None:
    model, tokenizer = load_policy(folder)
    assert model.state_dict().keys() == policy.model.state_dict().keys()
    assert all(torch.equal(weights, model.state_dict()[name]) for name, weights in policy.model.state_dict().items())
    assert tokenizer("4 26 7>15;")["input_ids"] == policy.tokenizer("4 26 7>15;")["input_ids"]
    assert load_policy(folder, dtype=torch.bfloat16).model.dtype == torch.bfloat16


def test_several_threads_may_load_it_at_once(policy: Policy, folder: Path) -> None:
    with ThreadPoolExecutor(4) as threads:
        loaded = list(threads.map(lambda _: load_policy(folder).model.state_dict(), range(40)))
    expected = policy.model.state_dict()
    assert all(torch.equal(weights, expected[name]) for each in loaded for name, weights in each.items())


def test_the_engine_that_the_settings_name_answers(folder: Path) -> None:
    engine = open_engine(folder, PolicySettings(device="cpu", max_rows=2))
    engine.add(7, Request(prompt="4 26 7>15;", max_new_tokens=3))
    ((key, answer),) = engine.step()
    assert (key, answer.prompt_tokens, len(answer.logprobs)) == (7, 10, len(answer.token_ids))


def test_a_folder_with_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="holds no policy that can be opened"):
        load_policy(tmp_path)


def test_a_folder_with_a_tokenizer_only_is_refused(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "model.safetensors").unlink()
    with pytest.raises(PolicyError, match="holds no policy that can be opened"):
        load_policy(folder)


def test_pickled_weights_are_refused(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(PolicyError, match="holds no policy that can be opened"):
        load_policy(folder)


def test_spoilt_weights_are_refused(folder: Path) -> None:
    with (folder / "model.safetensors").open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(PolicyError, match="holds no policy that can be opened"):
        load_policy(folder)


def test_weights_of_another_shape_are_refused(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 40}))
    with pytest.raises(PolicyError, match="holds no policy that can be opened"):
        load_policy(folder)


def test_a_model_with_weights_missing_is_refused_not_filled_with_noise(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(PolicyError, match=r"lacks weights \(1, model\.norm\.weight first\)"):
        load_policy(folder)


def test_a_tokenizer_without_an_end_mark_is_refused(folder: Path) -> None:
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text())
    del config["eos_token"]
    path.write_text(json.dumps(config))
    with pytest.raises(PolicyError, match="has no end mark"):
        load_policy(folder)


def test_code_in_a_folder_is_not_run(folder: Path) -> None:
    (folder / "modeling_evil.py").write_text(f"open({str(folder / 'ran')!r}, 'w').close()\n")
    config = json.loads((folder / "config.json").read_text())
    config |= {"auto_map": {"AutoModelForCausalLM": "modeling_evil.Evil"}}
    (folder / "config.json").write_text(json.dumps(config))
    load_policy(folder)
    assert not (folder / "ran").exists()


def test_saving_twice_leaves_one_policy(policy: Policy, folder: Path) -> None:
    files = sorted(path.name for path in folder.iterdir())
    save_policy(policy, folder)
    assert sorted(path.name for path in folder.iterdir()) == files


@pytest.mark.parametrize(("device", "chosen"), [("auto", "cpu"), ("cpu", "cpu")])
def test_without_cuda_the_cpu_is_chosen(monkeypatch: pytest.MonkeyPatch, device: str, chosen: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device(device) == chosen


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(PolicyError, match="'cuda', and torch sees no CUDA devices"):
        choose_device("cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(PolicyError, match="'cuda:2', and torch sees 2 CUDA devices"):
        choose_device("cuda:2")
    assert choose_device("cuda:1") == "cuda:1"


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "", "mps"])
def test_a_device_of_another_kind_is_no_setting(device: str) -> None:
    with pytest.raises(ValueError, match="expected auto, cpu, cuda or cuda:N"):
        PolicySettings(device=device)


@pytest.mark.parametrize(
    ("dtype", "device", "chosen"),
    [
        ("auto", "cpu", torch.float32),
        ("auto", "cuda:1", torch.bfloat16),
        ("float32", "cuda", torch.float32),
        ("bfloat16", "cpu", torch.bfloat16),
    ],
)
def test_precision_follows_the_device_unless_told(dtype: str, device: str, chosen: torch.dtype) -> None:
    assert choose_dtype(dtype, device) == chosen
