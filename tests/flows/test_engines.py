"""Whole wheels on the real engines."""

import json
from pathlib import Path

import pytest

from tests.flows.conftest import FLYWHEEL, Wheel

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


VLLM = ROOT / ".venv-vllm" / "bin"


@pytest.mark.needs("vllm")
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("command", "sets"),
    [
        (VLLM / "flywheel", ["policy.engine=vllm"]),
        (FLYWHEEL, ["policy.engine=server", f"policy.server={VLLM / 'vllm'} serve"]),
    ],
    ids=["in process", "as a server"],
)
def test_the_wheel_turns_on_vllm(fresh: Wheel, command: Path, sets: list[str]) -> None:
    fresh.command = command
    sets = [*sets, "policy.dtype=float32", "run.workers=1", "scratch.num_heads=3"]
    process = fresh.start("run", "--rounds", "1", *(f"--set={text}" for text in sets))
    out, err = process.communicate(timeout=800)
    assert process.returncode == 0, out + err
    assert "On the final problems" in out
    (row,) = fresh.ask("SELECT count(*) AS attempts, sum(solved::INT)::INT AS solved FROM trajectories WHERE round = 1")
    assert row["attempts"] == 24 * 8 and 10 < row["solved"] < row["attempts"]
    rounds = json.loads(fresh("history", "--json").stdout)
    assert [row["round"] for row in rounds] == [0, 1]
    assert rounds[1]["accuracy"] > rounds[0]["accuracy"]
    (row,) = fresh.ask("SELECT max(abs(logprob)) AS most FROM (SELECT unnest(logprobs) AS logprob FROM trajectories)")
    assert 0 < row["most"] < 50


def test_without_vllm_it_is_told_before_anything_starts(fresh: Wheel) -> None:
    told = fresh("run", "--set=policy.engine=vllm", "--set=run.workers=1", status=1).stderr
    assert 'policy.engine is "vllm", which is not installed here' in told
    told = fresh("run", "--set=policy.engine=vllm", status=1).stderr
    assert "set run.workers to 1" in told


def test_rounds_may_make_adapters_alone_in_a_home_that_moves(wheel: Wheel, tmp_path: Path) -> None:
    sets = ["learning.lora_rank=4", "learning.keep_adapters=true", "learning.learning_rate=2e-2", "gate.alpha=0.99"]
    options = [f"--set={text}" for text in sets]
    wheel("run", "--rounds", "2", *options)
    moved = wheel.copy(tmp_path / "moved")
    refused = moved("run", "--rounds", "1", *options, "--set=learning.lora_rank=8", status=1).stderr
    assert "a round would go on with adapters of rank 4, and learning.lora_rank is 8: set it to 4; or merge" in refused
    moved("run", "--rounds", "1", *options)
    rows = moved.ask("SELECT round, folder, loss FROM checkpoints ORDER BY round")
    home = moved.folder / ".flywheel"
    kept = [row["round"] for row in rows if not (home / row["folder"] / "model.safetensors").exists()]
    assert kept == [3, 4, 5]
    described = [json.loads((home / row["folder"] / "adapter_config.json").read_text()) for row in rows[-3:]]
    assert {each["base_model_name_or_path"] for each in described} <= {Path(row["folder"]).name for row in rows[:3]}
    assert [row["round"] for row in json.loads(moved("history", "--json").stdout)] == [0, 1, 2, 3, 4, 5]
    assert "12+50" in moved("solve", "62>12 50;").stdout.replace(" ", "")
