import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from time import monotonic

import pytest
from huggingface_hub import constants
from huggingface_hub.utils import close_session

from models.policy.find import PolicyError, find_model


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


def test_a_local_folder_is_found_where_it_is_if_it_is_whole(tmp_path: Path) -> None:
    for name, lacking in (
        ("pytorch_model.bin", r"config\.json"),
        ("config.json", "weights as safetensors"),
        ("model-00001-of-00002.safetensors", ""),
        ("model.safetensors.index.json", r"model-00002-of-00002\.safetensors"),
        ("model-00002-of-00002.safetensors", ""),
    ):
        weights = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
        (tmp_path / name).write_text(json.dumps({"weight_map": weights}))
        if lacking:
            with pytest.raises(PolicyError, match=f"has no {lacking}; policy.model is"):
                find_model(str(tmp_path))
        else:
            assert find_model(str(tmp_path)) == tmp_path


def test_a_cached_model_without_its_weights_is_fetched_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "models--nobody--nothing"
    (folder / "snapshots" / "1234").mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("1234")
    (folder / "snapshots" / "1234" / "config.json").write_text("{}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(PolicyError, match="is not on this machine and cannot be fetched"):
        find_model("nobody/nothing")
    (folder / "snapshots" / "1234" / "model.safetensors").write_text("")
    assert find_model("nobody/nothing") == folder / "snapshots" / "1234"


def test_a_silent_name_server_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    let_out(monkeypatch, "https://hub.invalid")
    monkeypatch.setattr("models.policy.find.PATIENCE_S", 0.5)
    is_over = Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: is_over.wait())
    with pytest.raises(PolicyError, match=r"hub\.invalid .*timed out"):
        find_model("nobody/nothing")
    is_over.set()


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


def test_finding_a_model_imports_no_torch() -> None:
    program = "import sys, models.policy.find; assert not {'torch', 'transformers'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", program], check=True)
