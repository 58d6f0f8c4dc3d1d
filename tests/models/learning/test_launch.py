"""Several processes train the policy that one alone does, each with its part of weights and batches; on CPUs here."""

import subprocess
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch

from models.learning.examples import Attempt, Pair, Solution
from models.learning.finetune import Lessons, Trained, Watch, build_from_scratch, finetune
from models.learning.launch import ProcessesError, finetune_together
from models.learning.settings import InitializationSettings, LearningSettings
from models.learning.trainer import NonFiniteLossError, StepReport, TrainingError
from models.policy.settings import ScratchSettings

TEXTS = [(f"{a} {b}>{a + b};", f"{a}+{b}={a + b};") for a in range(1, 5) for b in range(1, 5)]
SHAPE = ScratchSettings(hidden_size=16, num_layers=2, num_heads=2, context=64)
SETTINGS = LearningSettings(epochs=2.0, batch_tokens=60, learning_rate=1e-2, processes=2)


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("launch") / "parent"
    start = InitializationSettings(epochs=1.0, learning_rate=1e-2)
    build_from_scratch(TEXTS, "0123456789", start, SHAPE, seed=0, device="cpu").save(folder)
    return folder


def tokens(text: str) -> list[int]:
    """Any ids the policy knows, the end mark last."""
    return [3 + ord(character) % 10 for character in text] + [1]


SOLUTIONS = [Solution(f"t{n}", prompt, tokens(answer), 1.0, 1.0) for n, (prompt, answer) in enumerate(TEXTS)]
PAIRS = [Pair(f"p{n}", prompt, [], tokens(answer), tokens(answer[::-1])) for n, (prompt, answer) in enumerate(TEXTS)]
ATTEMPTS = [
    Attempt(f"t{n}{right}", str(n), prompt, tokens(answer), [-1.0] * (len(answer) + 1), 1.0, right, None, None)
    for n, (prompt, answer) in enumerate(TEXTS[:6])
    for right in (True, False)
]


def one(parent: Path, lessons: Lessons, settings: LearningSettings) -> Trained:
    return finetune(parent, lessons, settings, seed=3, device="cpu", max_new_tokens=32)


def two(
    parent: Path, lessons: Lessons, settings: LearningSettings, folder: Path, watch: Watch | None = None
) -> Trained:
    return finetune_together(
        parent, lessons, settings, seed=3, device="cpu", max_new_tokens=32, folder=folder, watch=watch or Watch()
    )


@pytest.mark.parametrize(
    ("lessons", "settings"),
    [
        pytest.param(SOLUTIONS, SETTINGS, id="cloning"),
        pytest.param(
            SOLUTIONS, replace(SETTINGS, batch_tokens=20), id="no work for one of them", marks=pytest.mark.slow
        ),
        pytest.param(
            SOLUTIONS, replace(SETTINGS, forward_tokens=16, recompute=True), id="in parts", marks=pytest.mark.slow
        ),
        pytest.param(SOLUTIONS, replace(SETTINGS, lora_rank=2), id="adapters", marks=pytest.mark.slow),
        pytest.param(
            SOLUTIONS, replace(SETTINGS, lora_rank=2, keep_adapters=True), id="kept adapters", marks=pytest.mark.slow
        ),
        pytest.param(PAIRS, replace(SETTINGS, objective="dpo", refining_rate=1.0), id="pairs", marks=pytest.mark.slow),
        pytest.param(
            ATTEMPTS, replace(SETTINGS, objective="grpo", kl_weight=0.1), id="attempts", marks=pytest.mark.slow
        ),
    ],
)
def test_two_come_to_what_one_does(parent: Path, tmp_path: Path, lessons: Lessons, settings: LearningSettings) -> None:
    seen: list[StepReport] = []
    alone = one(parent, lessons, settings)
    shared = two(parent, lessons, settings, tmp_path / "a höme", Watch(on_step=seen.append))
    assert seen == shared.report.steps
    assert len(seen) > 2 and shared.num_examples == alone.num_examples
    for step, other in zip(shared.report.steps, alone.report.steps, strict=True):
        assert step.loss == pytest.approx(other.loss, abs=1e-5)
        assert step.grad_norm == pytest.approx(other.grad_norm, abs=1e-4)
        assert (step.num_examples, step.num_tokens) == (other.num_examples, other.num_tokens)
        assert step.measured == pytest.approx(other.measured, abs=1e-4)
    before = one(parent, lessons, replace(settings, learning_rate=1e-9)).policy.model.state_dict()
    for name, weights in shared.policy.model.state_dict().items():
        assert torch.allclose(weights, alone.policy.model.state_dict()[name], atol=1e-4), name
    assert any((weights - before[name]).abs().max() > 1e-3 for name, weights in alone.policy.model.state_dict().items())


def test_what_ends_one_training_ends_theirs_with_the_same_words(parent: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    trained = one(parent, SOLUTIONS, SETTINGS)
    with torch.no_grad():
        next(trained.policy.model.parameters()).fill_(float("nan"))
    trained.save(broken)
    with pytest.raises(NonFiniteLossError) as alone:
        one(broken, SOLUTIONS, SETTINGS)
    with pytest.raises(TrainingError) as shared:
        two(broken, SOLUTIONS, SETTINGS, tmp_path / "job")
    assert str(shared.value) == str(alone.value)
    with pytest.raises(ValueError, match="nothing to learn from"):
        two(parent, [], SETTINGS, tmp_path / "empty")


def test_who_waits_may_end_it_before_the_first_step(parent: Path, tmp_path: Path) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        two(parent, SOLUTIONS, replace(SETTINGS, epochs=500.0), tmp_path, Watch(on_wait=stop))
    assert not list(tmp_path.glob("policy"))


def test_whoever_watches_may_end_it_and_no_process_is_left(parent: Path, tmp_path: Path) -> None:
    def stop(step: StepReport) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        two(parent, SOLUTIONS, replace(SETTINGS, epochs=500.0), tmp_path, Watch(on_step=stop))
    deadline = time.monotonic() + 20
    while (left := processes_of(tmp_path)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left


@pytest.mark.slow
def test_one_that_is_killed_ends_them_all(parent: Path, tmp_path: Path) -> None:
    def kill(step: StepReport) -> None:
        for process in psutil.process_iter(["cmdline"]):
            if (process.info["cmdline"] or [])[1:] == ["-u", "-m", "models.learning.launch", str(tmp_path)]:
                process.kill()
                return

    with pytest.raises(ProcessesError, match=r"memory is short(.|\n)*SIGKILL"):
        two(parent, SOLUTIONS, replace(SETTINGS, epochs=500.0), tmp_path, Watch(on_step=kill))
    assert not processes_of(tmp_path)


def processes_of(folder: Path) -> list[str]:
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if "models.learning.launch" in line and str(folder) in line]
