"""Losses and gradients against TRL's, as benchmarks/peers_losses.py wrote them down, and against worked examples."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from models.learning.advantages import advantages, overlong_penalty, step_advantages
from models.learning.batches import IGNORED, Batch, Example
from models.learning.gradient import Gradient, kl_estimate
from models.learning.objectives import GRADIENT_KINDS, open_objective
from models.learning.preference import Preference
from models.learning.settings import LearningSettings

TRL = json.loads((Path(__file__).parent / "trl.json").read_text(encoding="utf-8"))
MASK = torch.tensor([[float(place < length) for place in range(5)] for length in TRL["lengths"]])
EXAMPLES = [Example(name=str(n), prompt_ids=(1,), completion_ids=(2,) * n) for n in TRL["lengths"]]


def batch(**numbers: torch.Tensor) -> Batch:
    """The rows that TRL was given."""
    targets = torch.where(MASK > 0, 2, IGNORED)
    empty: dict[str, Any] = dict.fromkeys(("temperatures", "advantages", "sampled", "old", "reference"))
    return Batch(names=tuple("abcdef"), input_ids=targets, targets=targets, num_tokens=20, **(empty | numbers))


def rows(name: str) -> torch.Tensor:
    return torch.tensor(TRL[name])


def loss_and_gradient(objective: Any, given: Batch) -> tuple[float, torch.Tensor]:
    logprobs = rows("logprobs").requires_grad_()
    loss = objective(logprobs, given).total / objective.size(EXAMPLES)
    loss.backward()
    assert logprobs.grad is not None
    return loss.item(), logprobs.grad


@pytest.mark.parametrize(
    "said", TRL["gradients"], ids=lambda said: f"{said['objective']}-{said['beta']}-{said['is_corrected']}"
)
def test_a_policy_gradient_is_trls(said: dict[str, Any]) -> None:
    kind = GRADIENT_KINDS[said["objective"]]
    ours = [advantages(group, kind.baseline) for group in TRL["rewards"]]
    torch.testing.assert_close(torch.tensor(ours), torch.tensor(said["advantages"]), rtol=0, atol=1e-5)
    settings = LearningSettings(objective=said["objective"], kl_weight=said["beta"], importance_cap=TRL["cap"])
    given = batch(
        advantages=torch.tensor(ours).view(-1, 1) * MASK,
        old=rows("old"),
        reference=rows("reference"),
        **({"sampled": rows("sampled")} if said["is_corrected"] else {}),
    )
    loss, gradient = loss_and_gradient(open_objective(settings, longest=TRL["longest"]), given)
    assert loss == pytest.approx(said["loss"], abs=1e-5)
    torch.testing.assert_close(gradient, torch.tensor(said["gradient"]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("said", TRL["preferences"], ids=lambda said: f"nll {said['nll_weight']}")
def test_a_preference_is_trls(said: dict[str, Any]) -> None:
    objective = Preference(beta=said["beta"], nll_weight=said["nll_weight"])
    loss, gradient = loss_and_gradient(objective, batch(old=rows("reference")))
    assert loss == pytest.approx(said["loss"], abs=1e-5)
    torch.testing.assert_close(gradient, torch.tensor(said["gradient"]), rtol=0, atol=1e-5)


def test_reinforce_is_the_advantage_times_the_score_a_row() -> None:
    objective = open_objective(LearningSettings(objective="reinforce"), longest=8)
    worth = torch.tensor([1.0, -0.5, 2.0, 0.0, 1.0, -1.0]).view(-1, 1) * MASK
    loss, gradient = loss_and_gradient(objective, batch(advantages=worth, old=rows("logprobs")))
    assert loss == pytest.approx(-(worth * rows("logprobs")).sum().item() / 6, abs=1e-6)
    torch.testing.assert_close(gradient, -worth / 6)


def test_the_leave_one_out_baseline_is_the_mean_of_the_others() -> None:
    assert advantages([1.0, 0.0, 0.0, 0.5], "leave_one_out") == pytest.approx([1 - 0.5 / 3, -0.5, -0.5, 0.5 - 1 / 3])
    assert advantages([1.0], "leave_one_out") == [0.0]


def test_alike_attempts_are_worth_nothing() -> None:
    for baseline in ("leave_one_out", "standardised", "centred"):
        assert advantages([1.0, 1.0, 1.0], baseline) == [0.0, 0.0, 0.0]


def test_answers_near_the_limit_are_punished_softly() -> None:
    assert [overlong_penalty(n, longest=20, margin=4) for n in (3, 16, 18, 20)] == [0.0, 0.0, -0.25, -0.5]
    assert overlong_penalty(20, longest=20, margin=0) == 0.0


def test_the_credit_of_the_steps_adds_up_to_the_outcome_less_what_was_expected() -> None:
    credits = step_advantages([0.25, 0.5, 0.0, 1.0], [2, 1, 3])
    assert credits == (0.25, 0.25, -0.5, 1.0, 1.0, 1.0)
    assert sum(dict(zip((0, 2, 3), (credits[0], credits[2], credits[3]), strict=True)).values()) == 1.0 - 0.25


def test_a_sampler_that_was_less_sure_counts_up_to_the_cap() -> None:
    objective = Gradient(mean="token", clip_low=0.2, clip_high=0.2, kl_weight=0.0, importance_cap=2.0, longest=8)
    logprobs = rows("logprobs")
    gradients = [
        loss_and_gradient(objective, batch(advantages=MASK, old=logprobs, sampled=logprobs - math.log(ratio)))[1]
        for ratio in (1.0, 1.5, 9.0)
    ]
    torch.testing.assert_close(gradients[1], 1.5 * gradients[0])
    torch.testing.assert_close(gradients[2], 2.0 * gradients[0])


def test_what_is_clipped_is_counted_and_has_no_gradient() -> None:
    objective = Gradient(mean="token", clip_low=0.2, clip_high=0.28, kl_weight=0.0, importance_cap=2.0, longest=8)
    old = rows("logprobs") - math.log(1.3) * MASK
    given = batch(advantages=torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0, -1.0]).view(-1, 1) * MASK, old=old)
    measured = objective(rows("logprobs"), given).measured
    _, gradient = loss_and_gradient(objective, given)
    assert (gradient[::2] == 0).all() and (gradient[1::2] * MASK[1::2] != 0).sum() == MASK[1::2].sum()
    assert measured["clip_share"].total / measured["clip_share"].number == pytest.approx(8 / 20, abs=1e-6)


def test_the_divergence_is_never_negative_and_nothing_where_nothing_changed() -> None:
    assert (kl_estimate(rows("logprobs"), rows("old")) >= 0).all()
    assert kl_estimate(rows("old"), rows("old")).abs().max() == 0


def test_pairs_that_are_learnt_have_a_margin() -> None:
    measured = Preference(beta=0.1, nll_weight=0.0)(rows("logprobs"), batch(old=rows("reference"))).measured
    gains = (rows("logprobs") - rows("reference")).sum(-1)
    margins = gains[::2] - gains[1::2]
    assert (measured["margin"].total / 3).item() == pytest.approx(0.1 * margins.mean().item(), abs=1e-6)
    assert measured["pairs_right"].total == (margins > 0).sum()


def test_the_cut_of_a_step_changes_no_mean() -> None:
    """Sums over parts, divided by the size of the whole."""
    given = batch(advantages=MASK, old=rows("old"))
    for name in GRADIENT_KINDS:
        objective = open_objective(LearningSettings(objective=name), longest=8)
        whole = objective(rows("logprobs"), given).total
        parts = [
            objective(
                rows("logprobs")[part],
                replace(given, targets=given.targets[part], advantages=MASK[part], old=rows("old")[part]),
            ).total
            for part in (slice(0, 2), slice(2, 6))
        ]
        torch.testing.assert_close(parts[0] + parts[1], whole)
