import math
from collections import Counter
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from models.learning import trainer
from models.learning.cloning import cloning_loss
from models.learning.settings import InitializationSettings, LearningSettings, TrainingSettings
from models.learning.trainer import (
    IGNORED,
    Batch,
    Example,
    NonFiniteLossError,
    StoppedError,
    collate,
    plan_batches,
    train,
)

CPU = torch.device("cpu")


def tiny(seed: int = 0) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=12,
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=32,
        )
    )


def example(name: str, prompt: int, completion: int, share: float = 1.0) -> Example:
    return Example(
        name=name,
        prompt_ids=tuple(1 + i % 11 for i in range(prompt)),
        completion_ids=tuple(1 + (prompt + 3 * i) % 11 for i in range(completion)),
        share=share,
    )


EXAMPLES = [example(f"e{i}", prompt=1 + i % 5, completion=1 + i % 7) for i in range(40)]


def settings(**changes: Any) -> TrainingSettings:
    return TrainingSettings(**{"batch_tokens": 64, "epochs": 1.0, "learning_rate": 1e-2} | changes)


def weights_of(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def are_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def test_every_example_stands_in_every_epoch_once() -> None:
    names = [e.name for batch in plan_batches(EXAMPLES, settings(epochs=3.0), seed=0) for e in batch]
    assert Counter(names[:40]) == Counter(names[40:80]) == Counter(names[80:]) == Counter(e.name for e in EXAMPLES)
    assert names[:40] != names[40:80]


@pytest.mark.parametrize(("epochs", "num_examples"), [(0.25, 10), (1.5, 60), (2.1, 84), (0.001, 1), (3.0, 120)])
def test_a_part_of_an_epoch_is_a_part_of_the_examples(epochs: float, num_examples: int) -> None:
    names = [e.name for batch in plan_batches(EXAMPLES, settings(epochs=epochs), seed=0) for e in batch]
    assert len(names) == num_examples
    assert max(Counter(names).values()) == math.ceil(epochs)


def test_an_example_takes_part_in_its_share_of_the_passes() -> None:
    examples = [example(f"{share}-{i}", 3, 4, share=share) for share in (1.0, 0.5, 0.1) for i in range(20)]
    names = [e.name for batch in plan_batches(examples, settings(epochs=5.0), seed=0) for e in batch]
    passes = Counter(name.partition("-")[0] for name in names)
    assert passes["1.0"] == 100 and 160 <= len(names) <= 165
    assert 40 <= passes["0.5"] <= 60 and 3 <= passes["0.1"] <= 17


def test_batches_keep_to_their_budget_padding_counted() -> None:
    plan = plan_batches(EXAMPLES, settings(batch_tokens=30), seed=0)
    assert all(len(batch) * max(e.num_tokens for e in batch) <= 30 for batch in plan)
    assert len(plan) < 16


def test_an_example_over_the_budget_goes_alone() -> None:
    examples = [example("long", 10, 30), *EXAMPLES[:5], example("longer", 10, 40)]
    plan = plan_batches(examples, settings(batch_tokens=20), seed=0)
    names = [[e.name for e in batch] for batch in plan]
    assert sorted(row for row in names if row[0].startswith("long")) == [["long"], ["longer"]]


def test_a_plan_follows_from_its_seed() -> None:
    plans = [plan_batches(EXAMPLES, settings(), seed=seed) for seed in (1, 1, 2)]
    assert plans[0] == plans[1] != plans[2]


def test_nothing_to_learn_from_is_an_error() -> None:
    with pytest.raises(ValueError, match="nothing to learn from"):
        plan_batches([], settings(), seed=0)


def test_a_batch_is_padded_on_the_right_and_learns_completions_only() -> None:
    rows = [
        Example(name="a", prompt_ids=(5, 6), completion_ids=(7, 8, 1)),
        Example(name="b", prompt_ids=(9,), completion_ids=(1,)),
    ]
    batch = collate(rows, CPU)
    assert batch.names == ("a", "b")
    assert batch.input_ids.tolist() == [[5, 6, 7, 8, 1], [9, 1, 0, 0, 0]]
    assert batch.targets.tolist() == [
        [IGNORED, 7, 8, 1, IGNORED],
        [1, IGNORED, IGNORED, IGNORED, IGNORED],
    ]
    assert batch.num_tokens == 7


def obvious_loss(model: PreTrainedModel, rows: list[Example]) -> torch.Tensor:
    """Row by row, token by token, without padding."""
    total, num_learnt = torch.zeros(()), 0
    for row in rows:
        tokens = row.prompt_ids + row.completion_ids
        logprobs = model(input_ids=torch.tensor([tokens])).logits[0].log_softmax(-1)
        for place in range(len(row.prompt_ids), len(tokens)):
            total = total - logprobs[place - 1, tokens[place]]
            num_learnt += 1
    return total / num_learnt


ROWS = [example("a", 3, 5), example("b", 1, 1), example("c", 6, 2)]


def test_the_loss_is_the_obvious_one() -> None:
    model = tiny()
    loss = cloning_loss(model, collate(ROWS, CPU))
    assert loss.item() == pytest.approx(obvious_loss(model, ROWS).item(), abs=1e-6)


def test_the_gradient_does_not_depend_on_padding() -> None:
    padded, plain = tiny(), tiny()
    cloning_loss(padded, collate(ROWS, CPU)).backward()
    obvious_loss(plain, ROWS).backward()
    for one, other in zip(padded.parameters(), plain.parameters(), strict=True):
        assert one.grad is not None and other.grad is not None
        assert torch.allclose(one.grad, other.grad, atol=1e-6)


def nan_at(number: int) -> trainer.Objective:
    """Cloning, but for the batch of that number."""
    seen = 0

    def loss(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
        nonlocal seen
        seen += 1
        return cloning_loss(model, batch) * (math.nan if seen == number else 1.0)

    return loss


@pytest.mark.parametrize("number", [1, 3])
def test_a_loss_that_is_not_finite_stops_before_the_weights_change_and_names_the_batch(number: int) -> None:
    model, plan = tiny(), plan_batches(EXAMPLES, settings(), seed=0)
    kept = [weights_of(model)]
    with pytest.raises(NonFiniteLossError, match=f"loss nan.*begins {', '.join(e.name for e in plan[number - 1][:5])}"):
        train(
            model,
            EXAMPLES,
            nan_at(number),
            settings(),
            seed=0,
            on_step=lambda done, total, loss: kept.append(weights_of(model)),
        )
    assert len(kept) == number
    assert are_equal(weights_of(model), kept[-1])


def test_a_gradient_that_is_not_finite_stops_too() -> None:
    def steep(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
        return (cloning_loss(model, batch) * 0).sqrt()  # 0, with a gradient of 0 times infinity

    model = tiny()
    before = weights_of(model)
    with pytest.raises(NonFiniteLossError, match="loss 0, gradient norm nan"):
        train(model, EXAMPLES, steep, settings(), seed=0)
    assert are_equal(weights_of(model), before)


@pytest.mark.parametrize(
    ("chosen", "advice"),
    [
        (LearningSettings(), "lower learning.learning_rate, or look at those trajectories in the warehouse"),
        (InitializationSettings(), "lower initialization.learning_rate, or look at those demonstrations"),
    ],
)
def test_what_is_not_finite_is_told_with_the_setting_to_change(chosen: TrainingSettings, advice: str) -> None:
    with pytest.raises(NonFiniteLossError, match=f": {advice}$"):
        train(tiny(), EXAMPLES, nan_at(1), chosen, seed=0)


def test_it_stops_when_asked_to() -> None:
    steps: list[int] = []
    with pytest.raises(StoppedError):
        train(
            tiny(),
            EXAMPLES,
            cloning_loss,
            settings(),
            seed=0,
            on_step=lambda done, total, loss: steps.append(done),
            should_stop=lambda: len(steps) == 2,
        )
    assert len(steps) == 2


def test_the_learning_rate_rises_then_falls_to_zero() -> None:
    rates = [trainer._rate(step, 10, 0.2) for step in range(10)]
    falling = [0.5 * (1 + math.cos(math.pi * step / 8)) for step in range(8)]
    assert rates == pytest.approx([1 / 3, 2 / 3, *falling])


def test_without_warm_up_the_first_step_has_the_whole_learning_rate() -> None:
    assert [trainer._rate(step, 2, 0.0) for step in range(2)] == pytest.approx([1.0, 0.5])
    assert trainer._rate(0, 1, 0.05) == 1.0


def test_with_nothing_but_warm_up_it_only_rises() -> None:
    assert [trainer._rate(step, 3, 1.0) for step in range(3)] == pytest.approx([0.25, 0.5, 0.75])


def test_progress_rises_to_the_total_and_the_report_agrees() -> None:
    steps: list[tuple[int, int, float]] = []
    model = tiny()
    report = train(
        model, EXAMPLES, cloning_loss, settings(epochs=2.0), seed=0, on_step=lambda *step: steps.append(step)
    )
    total = 2 * sum(e.num_tokens for e in EXAMPLES)
    assert [done for done, _, _ in steps] == sorted({done for done, _, _ in steps})
    assert (steps[-1][0], {step[1] for step in steps}) == (total, {total})
    assert (report.num_tokens, report.num_steps) == (total, len(steps))
    assert report.loss == pytest.approx(steps[-1][2])
    assert not model.training


def test_two_examples_are_soon_known_by_heart() -> None:
    rows = [
        Example(name="a", prompt_ids=(3, 4), completion_ids=(5, 6, 7, 1)),
        Example(name="b", prompt_ids=(4, 3), completion_ids=(8, 2, 1)),
    ]
    report = train(tiny(), rows, cloning_loss, settings(epochs=150.0, learning_rate=2e-2), seed=0)
    assert report.loss < 0.05


def test_the_same_seed_gives_the_same_weights() -> None:
    trained = []
    for seed in (3, 3, 4):
        model = tiny()
        train(model, EXAMPLES, cloning_loss, settings(), seed=seed)
        trained.append(weights_of(model))
    assert are_equal(trained[0], trained[1])
    assert not are_equal(trained[0], trained[2])


def test_dropout_follows_the_seed_too_and_torchs_own_noise_is_left_alone() -> None:
    trained = []
    for noise in (1, 2):
        torch.manual_seed(0)
        model = GPT2LMHeadModel(GPT2Config(vocab_size=12, n_embd=8, n_layer=1, n_head=1, n_positions=32))
        torch.manual_seed(noise)
        before = torch.random.get_rng_state()
        train(model, EXAMPLES[:4], cloning_loss, settings(), seed=3)
        assert torch.equal(torch.random.get_rng_state(), before)
        trained.append(weights_of(model))
    assert are_equal(*trained)


def test_an_example_has_a_prompt_and_something_to_learn() -> None:
    for prompt, completion in ((0, 1), (1, 0)):
        with pytest.raises(AssertionError, match="e7 has an empty prompt or nothing to learn"):
            example("e7", prompt, completion)


@pytest.mark.parametrize(("batch_tokens", "attention"), [(64, "eager"), (13_107, "eager"), (13_108, "sdpa")])
def test_how_attention_is_computed_changes_no_step_and_is_left_as_it_was(batch_tokens: int, attention: str) -> None:
    fused, plain = tiny(), tiny()
    plain.set_attn_implementation("eager")
    fused_before = fused.config._attn_implementation
    used = []

    def objective(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
        used.append(model.config._attn_implementation)
        return cloning_loss(model, batch)

    for model in (fused, plain):
        train(model, EXAMPLES[:6], objective, settings(batch_tokens=batch_tokens), seed=0)

    assert used[0] == attention
    assert (fused.config._attn_implementation, plain.config._attn_implementation) == (fused_before, "eager")
    for name, tensor in weights_of(fused).items():
        torch.testing.assert_close(tensor, weights_of(plain)[name], rtol=1e-4, atol=1e-4)
