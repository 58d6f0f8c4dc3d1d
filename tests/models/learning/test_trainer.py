import math
from collections.abc import Callable
from itertools import accumulate, count
from pathlib import Path

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from models.learning import trainer
from models.learning.batches import Batch, Example, collate, plan_batches
from models.learning.cloning import Cloning
from models.learning.draft import FILE, Draft
from models.learning.objective import Loss
from models.learning.scoring import target_logits, target_logprobs
from models.learning.settings import InitializationSettings, LearningSettings, TrainingSettings
from models.learning.trainer import NonFiniteLossError, StepReport, train
from models.memory import NoMemoryError
from tests.models.learning.test_batches import CPU, UNITS, example, settings


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


def dropping() -> GPT2LMHeadModel:
    """A model that draws by lot while it learns."""
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=12, n_embd=8, n_layer=1, n_head=1, n_positions=32))


def weights_of(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def are_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


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
    loss = cloning_loss(model, ROWS)
    assert loss.item() == pytest.approx(obvious_loss(model, ROWS).item(), abs=1e-6)


def test_the_gradient_does_not_depend_on_padding() -> None:
    padded, plain = tiny(), tiny()
    cloning_loss(padded, ROWS).backward()
    obvious_loss(plain, ROWS).backward()
    for one, other in zip(padded.parameters(), plain.parameters(), strict=True):
        assert one.grad is not None and other.grad is not None
        assert torch.allclose(one.grad, other.grad, atol=1e-6)


def cloning_loss(model: PreTrainedModel, rows: list[Example]) -> torch.Tensor:
    batch = collate([(row,) for row in rows], CPU)
    logprobs = target_logprobs(target_logits(model, batch), batch.targets)
    return Cloning()(logprobs, batch).total / Cloning().size(rows)


class Spoilt(Cloning):
    """Cloning, but for the batch of a number."""

    def __init__(self, spoil: Callable[[torch.Tensor], torch.Tensor], number: int = 1) -> None:
        super().__init__()
        object.__setattr__(self, "spoil", spoil)
        object.__setattr__(self, "left", count(1 - number))

    def __call__(self, logprobs: torch.Tensor, batch: Batch) -> Loss:
        total = super().__call__(logprobs, batch).total
        return Loss(total if next(self.left) else self.spoil(total))  # type: ignore[attr-defined]


def nan_at(number: int) -> Spoilt:
    return Spoilt(lambda total: total * math.nan, number)


@pytest.mark.parametrize("number", [1, 3])
def test_a_loss_that_is_not_finite_stops_before_the_weights_change_and_names_the_batch(number: int) -> None:
    model, plan = tiny(), plan_batches(UNITS, settings(), seed=0)
    kept = [weights_of(model)]
    with pytest.raises(
        NonFiniteLossError, match=f"loss nan.*begins {', '.join(unit[0].name for unit in plan[number - 1][:5])}"
    ):
        train(
            model,
            UNITS,
            nan_at(number),
            settings(),
            seed=0,
            on_step=lambda step: kept.append(weights_of(model)),
        )
    assert len(kept) == number
    assert are_equal(weights_of(model), kept[-1])


def test_a_gradient_that_is_not_finite_stops_too() -> None:
    steep = Spoilt(lambda total: (total * 0).sqrt())  # 0, with a gradient of 0 times infinity
    model = tiny()
    before = weights_of(model)
    with pytest.raises(NonFiniteLossError, match="loss 0, gradient norm nan"):
        train(model, UNITS, steep, settings(), seed=0)
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
        train(tiny(), UNITS, nan_at(1), chosen, seed=0)


def test_whoever_is_told_may_stop_it() -> None:
    steps: list[int] = []

    def stop_after_two(step: StepReport) -> None:
        steps.append(step.step)
        if len(steps) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tiny(), UNITS, Cloning(), settings(), seed=0, on_step=stop_after_two)
    assert steps == [1, 2]


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
    steps: list[StepReport] = []
    model = tiny()
    report = train(model, UNITS, Cloning(), settings(epochs=2.0), seed=0, on_step=steps.append)
    total = 2 * sum(unit[0].num_tokens for unit in UNITS)
    assert [step.step for step in steps] == list(range(1, steps[0].num_steps + 1))
    assert [step.tokens_done for step in steps] == list(accumulate(step.num_tokens for step in steps))
    assert (steps[-1].tokens_done, {step.tokens_in_all for step in steps}) == (total, {total})
    assert (report.num_tokens, report.steps) == (total, steps)
    assert report.loss == pytest.approx(steps[-1].loss)
    assert all(step.grad_norm > 0 and step.seconds > 0 for step in steps)
    assert not model.training


def test_two_examples_are_soon_known_by_heart() -> None:
    rows = [
        Example(name="a", prompt_ids=(3, 4), completion_ids=(5, 6, 7, 1)),
        Example(name="b", prompt_ids=(4, 3), completion_ids=(8, 2, 1)),
    ]
    report = train(tiny(), [(row,) for row in rows], Cloning(), settings(epochs=150.0, learning_rate=2e-2), seed=0)
    assert report.loss < 0.05


def test_the_same_seed_gives_the_same_weights() -> None:
    trained = []
    for seed in (3, 3, 4):
        model = tiny()
        train(model, UNITS, Cloning(), settings(), seed=seed)
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
        train(model, UNITS[:4], Cloning(), settings(), seed=3)
        assert torch.equal(torch.random.get_rng_state(), before)
        trained.append(weights_of(model))
    assert are_equal(*trained)


@pytest.mark.parametrize(("batch_tokens", "attention"), [(64, "eager"), (13_107, "eager"), (13_108, "sdpa")])
def test_how_attention_is_computed_changes_no_step_and_is_left_as_it_was(
    batch_tokens: int, attention: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)  # several would each have a part of the batch
    fused, plain = tiny(), tiny()
    plain.set_attn_implementation("eager")
    fused_before = fused.config._attn_implementation
    used = []

    for model in (fused, plain):
        train(
            model,
            UNITS[:6],
            Cloning(),
            settings(batch_tokens=batch_tokens),
            seed=0,
            on_step=lambda step, model=model: used.append(model.config._attn_implementation),  # type: ignore[misc]
        )

    assert used[0] == attention
    assert (fused.config._attn_implementation, plain.config._attn_implementation) == (fused_before, "eager")
    for name, tensor in weights_of(fused).items():
        torch.testing.assert_close(tensor, weights_of(plain)[name], rtol=1e-4, atol=1e-4)


def test_a_step_in_parts_is_the_same_step() -> None:
    weights, losses = [], []
    for forward_tokens in (0, 20, 1):
        model = tiny()
        report = train(model, UNITS, Cloning(), settings(forward_tokens=forward_tokens), seed=0)
        weights.append(weights_of(model))
        losses.append([step.loss for step in report.steps])
    for other in (1, 2):
        assert losses[0] == pytest.approx(losses[other], abs=1e-6)
        for name, tensor in weights[0].items():
            torch.testing.assert_close(tensor, weights[other][name], rtol=1e-4, atol=1e-5)


class Greedy(Cloning):
    """Takes more memory than there is, for more than so many tokens at once."""

    def __init__(self, most: int) -> None:
        super().__init__()
        object.__setattr__(self, "most", most)

    def __call__(self, logprobs: torch.Tensor, batch: Batch) -> Loss:
        if batch.input_ids.numel() > self.most:  # type: ignore[attr-defined]
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return super().__call__(logprobs, batch)


def test_short_of_memory_it_takes_less_at_once_and_says_so() -> None:
    roomy, tight = tiny(), tiny()
    train(roomy, UNITS, Cloning(), settings(), seed=0)
    said: list[str] = []
    train(tight, UNITS, Greedy(32), settings(), seed=0, say=said.append)
    assert said == ["out of memory: on with 32 tokens at once, which changes no step"]
    for name, tensor in weights_of(roomy).items():
        torch.testing.assert_close(tensor, weights_of(tight)[name], rtol=1e-4, atol=1e-5)


def test_where_that_is_not_enough_it_says_what_to_lower() -> None:
    model = tiny()
    before = weights_of(model)
    with pytest.raises(NoMemoryError, match=r"does not hold 32 tokens at once: lower batch_tokens"):
        train(model, UNITS, Greedy(1), settings(), seed=0)
    assert are_equal(weights_of(model), before)


def test_another_error_of_torchs_is_not_taken_for_it() -> None:
    def fail(total: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        train(tiny(), UNITS, Spoilt(fail), settings(), seed=0)


@pytest.mark.parametrize("broken_off_after", [1, 3, 4])
def test_broken_off_it_goes_on_to_the_same_weights(tmp_path: Path, broken_off_after: int) -> None:
    def break_off(step: StepReport) -> None:
        if step.step == broken_off_after + 1:
            raise KeyboardInterrupt

    whole = dropping()
    undisturbed = train(whole, UNITS, Cloning(), settings(), seed=3)
    draft = Draft(folder=tmp_path / "draft", every_s=0)
    with pytest.raises(KeyboardInterrupt):
        train(dropping(), UNITS, Cloning(), settings(), seed=3, on_step=break_off, draft=draft)
    steps: list[int] = []
    resumed = dropping()
    report = train(
        resumed, UNITS, Cloning(), settings(), seed=3, on_step=lambda step: steps.append(step.step), draft=draft
    )
    assert steps[0] in range(2, broken_off_after + 2) and steps[-1] == len(undisturbed.steps)
    assert [step.loss for step in report.steps] == [step.loss for step in undisturbed.steps]
    assert are_equal(weights_of(whole), weights_of(resumed))


@pytest.mark.parametrize(("seed", "origin"), [(1, "champion"), (0, "another")])
def test_another_training_does_not_go_on_from_a_draft(tmp_path: Path, seed: int, origin: str) -> None:
    draft, other = (Draft(folder=tmp_path, origin=name, every_s=0) for name in ("champion", origin))
    train(tiny(), UNITS, Cloning(), settings(), seed=0, draft=draft)
    steps: list[int] = []
    train(tiny(), UNITS, Cloning(), settings(), seed=seed, on_step=lambda step: steps.append(step.step), draft=other)
    assert steps[0] == 1


@pytest.mark.parametrize("content", [b"", b"rubbish", b"\xff" * 100])
def test_a_draft_that_cannot_be_read_is_told_and_left(tmp_path: Path, content: bytes) -> None:
    draft = Draft(folder=tmp_path, every_s=1000)
    (tmp_path / FILE).write_bytes(content)
    said: list[str] = []
    model, other = tiny(), tiny()
    train(model, UNITS, Cloning(), settings(), seed=0, say=said.append, draft=draft)
    train(other, UNITS, Cloning(), settings(), seed=0)
    assert len(said) == 1 and "it starts over" in said[0]
    assert are_equal(weights_of(model), weights_of(other))


def test_a_draft_that_cannot_be_written_ends_no_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    said: list[str] = []
    train(
        tiny(), UNITS, Cloning(), settings(), seed=0, say=said.append, draft=Draft(folder=tmp_path / "file", every_s=0)
    )
    assert said and all("cannot keep the unfinished training" in line for line in said)


def test_activations_computed_again_change_no_step() -> None:
    kept, again = dropping(), dropping()
    train(kept, UNITS, Cloning(), settings(), seed=3)
    seen = []

    def look(step: StepReport) -> None:
        seen.append(again.is_gradient_checkpointing)

    train(again, UNITS, Cloning(), settings(recompute=True), seed=3, on_step=look)
    assert all(seen) and not again.is_gradient_checkpointing
    for name, weights in weights_of(kept).items():
        torch.testing.assert_close(weights_of(again)[name], weights, atol=1e-6, rtol=1e-5)


def test_half_precision_multiplies_in_it_and_learns_about_the_same_in_whole_weights() -> None:
    whole, half = tiny(), tiny()
    forward = half.forward
    kinds: set[torch.dtype] = set()
    half.model.layers[0].mlp.register_forward_hook(lambda module, inputs, output: kinds.add(output.dtype))
    in_whole = train(whole, UNITS, Cloning(), settings(), seed=0)
    in_half = train(half, UNITS, Cloning(), settings(precision="bfloat16"), seed=0)
    assert kinds == {torch.bfloat16}
    assert {weights.dtype for weights in half.parameters()} == {torch.float32}
    assert in_half.loss == pytest.approx(in_whole.loss, rel=0.02) and in_half.loss != in_whole.loss
    assert half.forward == forward
    half(input_ids=torch.tensor([[1, 2]]))
    assert kinds == {torch.bfloat16, torch.float32}


def test_one_process_trains_in_one_precision_after_another() -> None:
    half, whole, again = (
        train(tiny(), UNITS, Cloning(), settings(precision=precision), seed=0).loss
        for precision in ("bfloat16", "float32", "bfloat16")
    )
    assert half == again != whole
