"""A training that is killed goes on to the same weights: for real, in processes that end by kill -9."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from models.learning.cloning import Cloning
from models.learning.draft import Draft
from models.learning.trainer import StepReport, train
from tests.models.learning.test_batches import UNITS, settings
from tests.models.learning.test_trainer import tiny

ROOT = Path(__file__).parents[3]
PROGRAM = """
import sys
from pathlib import Path
from safetensors.torch import save_file
from models.learning.cloning import Cloning
from models.learning.draft import Draft
from models.learning.trainer import train
from tests.models.learning.test_batches import UNITS, settings
from tests.models.learning.test_trainer import tiny, weights_of

folder = Path(sys.argv[1])
model = tiny()
train(
    model, UNITS, Cloning(), settings(epochs=40.0), seed=0,
    on_step=lambda step: print(step.step, flush=True), say=print, draft=Draft(folder=folder / "draft", every_s=0.0),
)
save_file(weights_of(model), folder / "weights.safetensors")
"""


@pytest.mark.slow
def test_a_killed_training_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    steps = [int(step) for step in run(undisturbed)]
    assert steps == list(range(1, len(steps) + 1)) and len(steps) > 100
    first_of_each = []
    for num_steps in (30, 30, 30):
        first_of_each.append(kill_after(killed, num_steps))
    last = [int(step) for step in run(killed)]
    assert first_of_each == sorted(first_of_each) and 1 < first_of_each[1] < last[0] < last[-1] == len(steps)
    weights = [(folder / "weights.safetensors").read_bytes() for folder in (undisturbed, killed)]
    assert weights[0] == weights[1]


def test_how_a_step_is_computed_may_change_meanwhile_and_what_it_learns_may_not(tmp_path: Path) -> None:
    said: list[str] = []

    def steps(**changes: Any) -> list[int]:
        draft, taken = Draft(folder=tmp_path, every_s=0.0), list[int]()

        def stop(step: StepReport) -> None:
            taken.append(step.step)
            if len(taken) == 3:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            train(
                tiny(),
                UNITS,
                Cloning(),
                settings(epochs=40.0, **changes),
                seed=0,
                on_step=stop,
                say=said.append,
                draft=draft,
            )
        return taken

    assert steps() == [1, 2, 3]
    assert steps(forward_tokens=16, recompute=True)[0] > 1 and not said
    assert steps(learning_rate=1e-4) == [1, 2, 3]
    (told,) = said
    assert "is another, of other lessons or settings: it starts over" in told


def start(folder: Path) -> "subprocess.Popen[str]":
    folder.mkdir(exist_ok=True)
    return subprocess.Popen([sys.executable, "-c", PROGRAM, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True)


def run(folder: Path) -> list[str]:
    process = start(folder)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    return out.split()


def kill_after(folder: Path, num_steps: int) -> int:
    """Gives the step that it began with."""
    process = start(folder)
    assert process.stdout is not None
    steps = [int(process.stdout.readline()) for _ in range(num_steps)]
    process.kill()
    process.communicate()
    return steps[0]
