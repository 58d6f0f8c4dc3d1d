"""Sampling and learning in turn, on a problem so small that it is soon learnt: write the letter that is asked for."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from models.learning.draft import Draft
from models.learning.examples import Attempt
from models.learning.finetune import Watch, finetune_on_policy
from models.learning.settings import LearningSettings
from models.learning.trainer import StepReport
from models.policy.load import Policy, save_policy
from models.policy.protocol import Engine, Request
from models.policy.scratch import build_model, build_tokenizer
from models.policy.settings import ScratchSettings

LETTERS = "abcd"
SETTINGS = LearningSettings(objective="dr_grpo", learning_rate=1e-2, on_policy_steps=40, batch_tokens=1024)


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    tokenizer = build_tokenizer([LETTERS + ">"], context=8)
    shape = ScratchSettings(hidden_size=16, num_layers=1, num_heads=2, context=8)
    save_policy(Policy(build_model(shape, tokenizer, seed=0), tokenizer), tmp_path / "parent")
    return tmp_path / "parent"


def sample(step: int, engine: Engine) -> Sequence[Attempt]:
    """Eight attempts at each letter."""
    asked = [(letter, number) for letter in LETTERS for number in range(8)]
    for key, (letter, number) in enumerate(asked):
        seed = 1000 * step + 10 * LETTERS.index(letter) + number
        engine.add(key, Request(prompt=f"{letter}>", seed=seed, max_new_tokens=1))
    found = dict(engine.step())
    return [
        Attempt(
            name=f"{step}-{key}",
            group=letter,
            prompt=f"{letter}>",
            token_ids=found[key].token_ids,
            logprobs=found[key].logprobs,
            temperature=1.0,
            solved=found[key].text == letter,
            values=None,
            lengths=None,
        )
        for key, (letter, _) in enumerate(asked)
    ]


def follow(
    parent: Path, settings: LearningSettings = SETTINGS, watch: Watch | None = None
) -> tuple[Policy, list[float]]:
    """The trained policy, and the share that was right in each step."""
    shares = []

    def counted(step: int, engine: Engine) -> Sequence[Attempt]:
        attempts = sample(step, engine)
        shares.append(sum(attempt.solved for attempt in attempts) / len(attempts))
        return attempts

    trained = finetune_on_policy(
        parent, counted, settings, seed=0, device="cpu", max_new_tokens=1, max_rows=64, watch=watch or Watch()
    )
    assert trained.num_examples == sum(step.num_examples for step in trained.report.steps)
    return trained.policy, shares


def test_it_learns_from_what_it_samples_meanwhile(parent: Path) -> None:
    _, shares = follow(parent)
    assert sum(shares[:3]) / 3 < 0.4 and sum(shares[-3:]) / 3 > 0.7


def test_a_divergence_from_the_start_may_be_held_against_it(parent: Path) -> None:
    held = LearningSettings(
        objective="dr_grpo", learning_rate=1e-2, on_policy_steps=40, batch_tokens=1024, kl_weight=100.0
    )
    _, shares = follow(parent, held)
    assert sum(shares[-3:]) / 3 < 0.6


def test_a_step_without_anything_to_learn_changes_nothing(parent: Path) -> None:
    def alike(step: int, engine: Engine) -> Sequence[Attempt]:
        return [attempt._replace(solved=True) for attempt in sample(step, engine)]

    trained = finetune_on_policy(parent, alike, SETTINGS, seed=0, device="cpu", max_new_tokens=1, max_rows=64)
    assert trained.num_examples == 0 and all(step.loss == step.num_tokens == 0 for step in trained.report.steps)


def test_broken_off_before_it_learnt_anything_it_goes_on(parent: Path, tmp_path: Path) -> None:
    def late(step: int, engine: Engine) -> Sequence[Attempt]:
        return [attempt._replace(solved=attempt.solved and step > 2) for attempt in sample(step, engine)]

    def break_off(step: StepReport) -> None:
        if step.step == 2:
            raise KeyboardInterrupt

    draft = Draft(folder=tmp_path / "draft", every_s=0.0)
    options: dict[str, Any] = {"seed": 0, "device": "cpu", "max_new_tokens": 1, "max_rows": 64}
    with pytest.raises(KeyboardInterrupt):
        finetune_on_policy(parent, late, SETTINGS, watch=Watch(on_step=break_off, draft=draft), **options)
    trained = finetune_on_policy(parent, late, SETTINGS, watch=Watch(draft=draft), **options)
    assert len(trained.report.steps) == SETTINGS.on_policy_steps and trained.num_examples > 0


def test_broken_off_it_goes_on_to_the_same_weights(parent: Path, tmp_path: Path) -> None:
    def break_off(step: StepReport) -> None:
        if step.step == 17:
            raise KeyboardInterrupt

    whole, _ = follow(parent)
    draft = Draft(folder=tmp_path / "draft", every_s=0.0)
    with pytest.raises(KeyboardInterrupt):
        follow(parent, watch=Watch(on_step=break_off, draft=draft))
    resumed, shares = follow(parent, watch=Watch(draft=draft))
    assert 0 < len(shares) < SETTINGS.on_policy_steps
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name])
