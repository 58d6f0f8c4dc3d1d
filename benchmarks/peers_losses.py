"""What TRL's trainers compute on fixed tensors: losses and gradients that ours are tested against.

`python benchmarks/peers_losses.py` (with the packages of the extra `peers`) rewrites tests/models/learning/trl.json.
The trainers' own `_compute_loss` runs, on log-probabilities in the place of a model.
"""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import torch
import trl
from trl import DPOTrainer, GRPOTrainer

FILE = Path(__file__).resolve().parents[1] / "tests" / "models" / "learning" / "trl.json"
LENGTHS = [5, 3, 1, 4, 2, 5]
TIME = max(LENGTHS)
LONGEST = 8
CAP = 2.0


def main() -> None:
    """Write them."""
    torch.manual_seed(0)
    mask = torch.tensor([[float(place < length) for place in range(TIME)] for length in LENGTHS])
    logprobs, old, sampled, reference = (-2 * torch.rand(len(LENGTHS), TIME) * mask for _ in range(4))
    rewards = torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]])
    said: dict[str, Any] = {
        "trl": trl.__version__,
        "longest": LONGEST,
        "cap": CAP,
        "lengths": LENGTHS,
        "rewards": rewards.tolist(),
        **{
            name: tensor.tolist()
            for name, tensor in {"logprobs": logprobs, "old": old, "sampled": sampled, "reference": reference}.items()
        },
        "gradients": [
            grpo(loss, logprobs, old, sampled if is_corrected else None, reference, mask, rewards, beta)
            for loss in ("grpo", "dr_grpo", "dapo")
            for is_corrected in (False, True)
            for beta in (0.0, 0.04)
        ],
        "preferences": [dpo(logprobs, reference, mask, weight) for weight in (0.0, 1.0)],
    }
    FILE.write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")


def grpo(
    loss_type: str,
    logprobs: torch.Tensor,
    old: torch.Tensor,
    sampled: torch.Tensor | None,
    reference: torch.Tensor,
    mask: torch.Tensor,
    rewards: torch.Tensor,
    beta: float,
) -> dict[str, Any]:
    """A policy gradient's advantages, loss and gradient, as GRPOTrainer has them."""
    centred = rewards - rewards.mean(1, keepdim=True)
    scaled = centred if loss_type == "dr_grpo" else centred / (rewards.std(1, keepdim=True) + 1e-4)
    learnt = logprobs.clone().requires_grad_()
    trainer = MagicMock()
    trainer._get_per_token_logps_and_entropies.return_value = (learnt, torch.zeros_like(mask), None)
    trainer.args = SimpleNamespace(delta=None, use_bias_correction_kl=False, steps_per_generation=1)
    trainer.accelerator.num_processes = 1
    trainer.accelerator.gather = lambda tensor: tensor
    trainer.current_gradient_accumulation_steps = 1
    trainer.configure_mock(
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        importance_sampling_level="token",
        beta=beta,
        loss_type=loss_type,
        epsilon_low=0.2,
        epsilon_high=0.28 if loss_type == "dapo" else 0.2,
        use_vllm=sampled is not None,
        vllm_importance_sampling_correction=True,
        max_completion_length=LONGEST,
        aux_loss_enabled=False,
        _entropy_bonus_enabled=False,
    )
    inputs = {
        "prompt_ids": torch.zeros(len(mask), 1, dtype=torch.long),
        "prompt_mask": torch.ones(len(mask), 1),
        "completion_ids": torch.zeros(mask.shape, dtype=torch.long),
        "completion_mask": mask,
        "advantages": scaled.flatten(),
        "old_per_token_logps": old,
        "ref_per_token_logps": reference,
        "num_items_in_batch": mask.sum(),
    }
    if sampled is not None:
        inputs["importance_sampling_ratio"] = (old - sampled).exp().clamp(max=CAP)
    loss = GRPOTrainer._compute_loss(trainer, None, inputs)
    loss.backward()
    assert learnt.grad is not None
    return {
        "objective": loss_type,
        "is_corrected": sampled is not None,
        "beta": beta,
        "advantages": scaled.tolist(),
        "loss": loss.item(),
        "gradient": learnt.grad.tolist(),
    }


def dpo(logprobs: torch.Tensor, reference: torch.Tensor, mask: torch.Tensor, weight: float) -> dict[str, Any]:
    """The loss and gradient of pairs (rows 0 and 1, 2 and 3, …), as DPOTrainer has them, a pair at a time.

    Its likelihood term is a mean over the tokens of a batch; in a batch of one pair that is iterative RPO's.
    """
    total, gradient = 0.0, torch.zeros_like(logprobs)
    for first in range(0, len(mask), 2):
        rows = slice(first, first + 2)
        learnt = logprobs[rows].clone().requires_grad_()
        trainer = MagicMock()
        trainer.accelerator.device = torch.device("cpu")
        trainer.accelerator.gather_for_metrics = lambda tensor: tensor
        trainer.configure_mock(
            aux_loss_enabled=False,
            ld_alpha=None,
            precompute_ref_logps=True,
            f_divergence_type="reverse_kl",
            loss_types=["sigmoid", "sft"],
            loss_weights=[1.0, weight],
            beta=0.1,
            use_weighting=False,
        )
        before, after = reference[rows].sum(1)[:1], reference[rows].sum(1)[1:]
        inputs = {
            "input_ids": torch.zeros(2, TIME + 1, dtype=torch.long),
            "attention_mask": torch.ones(2, TIME + 1),
            "completion_mask": torch.cat([torch.zeros(2, 1), mask[rows]], dim=1),
            "ref_chosen_logps": before,
            "ref_rejected_logps": after,
        }
        nothing = torch.zeros_like(learnt)
        outputs = MagicMock(log_probs=learnt, entropy=nothing, mean_logits=nothing, is_top1=nothing.bool())
        loss = DPOTrainer._compute_loss(trainer, lambda outputs=outputs, **_: outputs, inputs, return_outputs=False)
        loss.backward()
        assert learnt.grad is not None
        total += loss.item()
        gradient[rows] = learnt.grad
    num_pairs = len(mask) // 2
    return {
        "nll_weight": weight,
        "beta": 0.1,
        "loss": total / num_pairs,
        "gradient": (gradient / num_pairs).tolist(),
    }


if __name__ == "__main__":
    main()
