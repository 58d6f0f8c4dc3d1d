import json
import socket
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest
import torch
from huggingface_hub import constants
from huggingface_hub.utils import close_session
from safetensors.torch import load_file, save_file

from models.policy.load import (
    Policy,
    PolicyError,
    choose_device,
    choose_dtype,
    find_model,
    load_policy,
    open_engine,
    save_policy,
)
from models.policy.protocol import Request
from models.policy.settings import PolicySettings


@pytest.fixture
def folder(policy: Policy, tmp_path: Path) -> Path:
    save_policy(policy, tmp_path / "policy")
    return tmp_path / "policy"


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A loopback port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def let_out(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    """Allow the hub's client out, to this endpoint only."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr("huggingface_hub.hf_api.api.endpoint", endpoint)
    close_session()  # a new one reads proxies anew


def test_a_policy_saved_and_loaded_is_the_same(policy: Policy, folder: Path) -> None:
    model, tokenizer = load_policy(folder)
    assert model.state_dict().keys() == policy.model.state_dict().keys()
    assert all(torch.equal(weights, model.state_dict()[name]) for name, weights in policy.model.state_dict().items())
    assert tokenizer("4 26 7>15;")["input_ids"] == policy.tokenizer("4 26 7>15;")["input_ids"]
    assert load_policy(folder, dtype=torch.bfloat16).model.dtype == torch.bfloat16


def test_the_engine_that_the_settings_name_answers(folder: Path) -> None:
    engine = open_engine(folder, PolicySettings(device="cpu", max_rows=2))
    engine.add(7, Request(prompt="4 26 7>15;", max_new_tokens=3))
    ((key, answer),) = engine.step()
    assert (key, answer.prompt_tokens, len(answer.logprobs)) == (7, 10, len(answer.token_ids))


def test_a_local_folder_is_found_where_it_is(folder: Path) -> None:
    assert find_model(str(folder)) == folder


@pytest.mark.parametrize("name", ["/nowhere/at/all", "./nowhere", "~/nowhere-at-all", "a/b/c"])
def test_a_missing_folder_is_said_to_be_missing(name: str) -> None:
    with pytest.raises(PolicyError, match="there is no folder"):
        find_model(name)


@pytest.mark.parametrize("name", ["nobody/nothing", "nothing", "not a name!", ""])
def test_offline_a_name_is_refused_at_once_with_the_command_that_fetches_it(name: str) -> None:
    started = monotonic()
    with pytest.raises(PolicyError, match=f"the model {name!r} is not on this machine.*hf download {name}"):
        find_model(name)
    assert monotonic() - started < 2


def test_a_closed_endpoint_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = f"http://127.0.0.1:{closed_port()}"
    let_out(monkeypatch, endpoint)
    started = monotonic()
    with pytest.raises(PolicyError, match=f"cannot be fetched from {endpoint} .*refused"):
        find_model("nobody/nothing")
    assert monotonic() - started < 3


def test_a_closed_proxy_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{closed_port()}")
    let_out(monkeypatch, "https://hub.invalid")
    with pytest.raises(PolicyError, match=r"cannot be fetched from https://hub\.invalid .*refused"):
        find_model("nobody/nothing")


@pytest.mark.slow
@pytest.mark.parametrize("through_proxy", [False, True])
def test_an_endpoint_that_never_answers_is_given_up_within_ten_seconds(
    monkeypatch: pytest.MonkeyPatch, silent_port: int, through_proxy: bool
) -> None:
    silent = f"http://127.0.0.1:{silent_port}"
    if through_proxy:
        monkeypatch.setenv("HTTPS_PROXY", silent)
    let_out(monkeypatch, "https://hub.invalid" if through_proxy else silent)
    started = monotonic()
    with pytest.raises(PolicyError, match="timed out"):
        find_model("nobody/nothing")
    assert monotonic() - started < 10


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
