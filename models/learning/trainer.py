"""One training loop under every objective: token-budget batches, warm-up and decay, clipping, and where it got to.

It changes a model's weights in memory and reports; reading examples and saving
policies are others' work. A non-finite loss or gradient stops it before the
step that would have spoilt the weights.
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from time import monotonic

import torch
from accelerate import Accelerator
from transformers import PreTrainedModel

from models.cores import num_cores
from models.learning.batches import Batch, Unit, collate, cut, longest, plan_batches
from models.learning.crew import Crew, crew_size
from models.learning.draft import Draft, TrainingState
from models.learning.hardware import accelerated, prepared
from models.learning.objective import Loss, Measured, Objective
from models.learning.ranks import mine, num_ranks, shared, together, whole
from models.learning.scoring import entropy, target_logits, target_logprobs
from models.learning.settings import TrainingSettings
from models.learning.tally import Tally
from models.memory import Memory, explained

PLAIN_SCORES = 2**17
"""Attention scores of a head, of what a core computes at once, up to which it is quicker without fused blocks.

Plain products keep every score of every layer, which in large batches is gigabytes.
"""


class TrainingError(RuntimeError):
    """A training that another try would end as well."""


class NonFiniteLossError(TrainingError):
    """The loss or its gradient is NaN or infinite."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepReport:
    """A step of the optimizer: `StepReport(step=3, num_steps=310, loss=0.41, grad_norm=0.3, …)`."""

    step: int
    """From 1."""
    num_steps: int
    loss: float
    grad_norm: float
    """Before it was clipped."""
    learning_rate: float
    num_examples: int
    num_tokens: int
    """Padding not counted."""
    tokens_done: int
    """Since the training began."""
    tokens_in_all: int
    """0 where nobody knows yet."""
    seconds: float
    measured: dict[str, float]
    """What the objective measured."""


OnStep = Callable[[StepReport], None]
"""Told of each step; what it raises ends the training."""
Say = Callable[[str], None]
"""Given a line for people."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingReport:
    """What a training did: `TrainingReport(loss=0.41, num_tokens=1_200_000, seconds=31.0, steps=[…])`."""

    loss: float
    """Mean over the last tenth of the steps."""
    num_tokens: int
    seconds: float
    steps: list[StepReport]


def train(
    model: PreTrainedModel,
    units: Sequence[Unit],
    objective: Objective,
    settings: TrainingSettings,
    *,
    seed: int,
    on_step: OnStep = lambda step: None,
    say: Say = lambda text: None,
    draft: Draft | None = None,
) -> TrainingReport:
    """Change the model's weights by the objective, from where the draft of a training that was broken off is.

    Raises ValueError when there is nothing to learn from, NonFiniteLossError and NoMemoryError.
    """
    plan = plan_batches(units, settings, seed=seed)
    total = sum(example.num_tokens for batch in plan for unit in batch for example in unit)
    with (
        accelerated(model, settings) as accelerator,
        shared(model) as model_here,
        training(model_here, seed, max(map(longest, units)), settings),
    ):
        trainer = Trainer(model_here, accelerator, objective, settings, num_steps=len(plan), num_tokens=total, say=say)
        names = [[example.name for unit in batch for example in unit] for batch in plan]
        identity = fingerprint(names, objective, of_steps(settings), seed)
        if draft and (kept := draft.load(identity, say)):
            trainer.restore(kept)
        for batch in plan[len(trainer.done) :]:
            on_step(trainer.step(batch))
            if draft and draft.is_due():
                draft.keep(trainer.state(), identity, say)
    return trainer.report()


def fingerprint(*parts: object) -> str:
    """The same for the same training, by a version that reports the same of it."""
    reported = [field.name for field in fields(StepReport)]
    return hashlib.sha256(repr((reported, parts)).encode()).hexdigest()


def of_steps(settings: TrainingSettings) -> TrainingSettings:
    """The settings less those that change how a step is computed and nothing of it."""
    return replace(settings, forward_tokens=0, recompute=False, tensorboard=False)


class Trainer:
    """The optimizer of a model: `Trainer(model, accelerator, Cloning(), settings, …).step(units)`."""

    def __init__(
        self,
        model: PreTrainedModel,
        accelerator: Accelerator,
        objective: Objective,
        settings: TrainingSettings,
        *,
        num_steps: int,
        num_tokens: int,
        say: Say,
    ) -> None:
        optimizer = torch.optim.AdamW(
            [weights for weights in model.parameters() if weights.requires_grad],
            settings.learning_rate,
            betas=(0.9, 0.95),
            weight_decay=settings.weight_decay,
            fused=True,
        )
        self.model, self.optimizer = prepared(accelerator, model), accelerator.prepare_optimizer(optimizer)
        self.done: list[StepReport] = []
        """Steps that are done."""
        self._accelerator = accelerator
        self._objective = objective
        self._settings = settings
        self._num_steps = num_steps
        self._tokens_in_all = num_tokens
        self._memory = Memory(
            settings.forward_tokens or settings.batch_tokens,
            say,
            settings.when_no_memory,
            may_halve=num_ranks() == 1,  # the others would wait
        )

    def step(self, units: Sequence[Unit], since: float | None = None) -> StepReport:
        """One step of the optimizer, which began at `since`; the weights stay when anything is not finite."""
        started = since or monotonic()
        tally = self._backward(units)
        loss = tally.loss / tally.size
        norm = whole(self._accelerator.clip_grad_norm_(self.model.parameters(), self._settings.max_grad_norm))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            names = [example.name for unit in units for example in unit]
            raise NonFiniteLossError(
                f"loss {loss:g}, gradient norm {norm:g} in the batch of {len(names)} examples that "
                f"begins {', '.join(names[:5])}: {self._settings.when_not_finite}"
            )
        rate = self._settings.learning_rate * _rate(len(self.done), self._num_steps, self._settings.warmup_share)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with explained(
            "what the optimizer remembers of each weight does not fit; learning.lora_rank trains fewer of them, and "
            "of several learning.processes each holds a part"
        ):
            self.optimizer.step()
        return self._note(loss, norm, rate, started, tally)

    def skip(self, since: float) -> StepReport:
        """A step in which there was nothing to learn."""
        return self._note(loss=0.0, norm=0.0, rate=0.0, started=since, tally=Tally(size=1.0))

    def report(self) -> TrainingReport:
        """What the steps came to."""
        last = self.done[-max(1, len(self.done) // 10) :]
        return TrainingReport(
            loss=sum(step.loss for step in last) / len(last),
            num_tokens=self.done[-1].tokens_done,
            seconds=sum(step.seconds for step in self.done),
            steps=self.done,
        )

    def state(self) -> TrainingState:
        """All that the steps to come depend on."""
        tensors = {"noise": torch.get_rng_state()}
        if self.model.device.type == "cuda":
            tensors["noise.cuda"] = torch.cuda.get_rng_state(self.model.device)
        for name, weights in self._learning():
            tensors[f"weights.{name}"] = weights.detach()
            for key, value in self.optimizer.state[weights].items():
                tensors[f"{key}.{name}"] = value
        return TrainingState(tensors, [asdict(step) for step in self.done])

    @torch.no_grad()
    def restore(self, state: TrainingState) -> None:
        """Be where that state was taken."""
        torch.set_rng_state(state.tensors["noise"])
        if self.model.device.type == "cuda" and "noise.cuda" in state.tensors:  # else it was begun on a CPU
            torch.cuda.set_rng_state(state.tensors["noise.cuda"], self.model.device)
        for name, weights in self._learning():
            weights.copy_(state.tensors[f"weights.{name}"])
            remembered = {key: state.tensors.get(f"{key}.{name}") for key in ("step", "exp_avg", "exp_avg_sq")}
            known = {key: value.to(weights.device) for key, value in remembered.items() if value is not None}
            if known:  # else it had no gradient yet
                self.optimizer.state[weights] = known
        self.done = [StepReport(**step) for step in state.done]

    def _learning(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        """The weights that change, by name."""
        return ((name, weights) for name, weights in self.model.named_parameters() if weights.requires_grad)

    def _note(self, loss: float, norm: float, rate: float, started: float, tally: Tally) -> StepReport:
        self.done.append(
            StepReport(
                step=len(self.done) + 1,
                num_steps=self._num_steps,
                loss=loss,
                grad_norm=norm,
                learning_rate=rate,
                num_examples=tally.num_examples,
                num_tokens=tally.num_tokens,
                tokens_done=tally.num_tokens + (self.done[-1].tokens_done if self.done else 0),
                tokens_in_all=self._tokens_in_all,
                seconds=monotonic() - started,
                measured=tally.means(),
            )
        )
        return self.done[-1]

    def _backward(self, units: Sequence[Unit]) -> Tally:
        """The gradient of a step, in as many parts as the memory and the processes want, which change nothing of it."""
        size = self._objective.size([example for unit in units for example in unit])

        def compute(at_once: int) -> Tally:
            self.optimizer.zero_grad(set_to_none=True)
            tally = Tally(size=size)
            parts = list(cut(mine(units), at_once))
            most = max(together(len(parts)))
            for part in parts:
                for loss, batch in self._crew.backward(add_gradient, part):
                    tally.add(loss, batch)
            for _ in range(most - len(parts)):  # a layer's weights come only where all ask for it
                self._accelerator.backward(self._loss(self.model, collate(units[:1], self.model.device)).total * 0)
            return tally

        def add_gradient(model: PreTrainedModel, part: Sequence[Unit]) -> tuple[Loss, Batch]:
            batch = collate(part, model.device)
            loss = self._loss(model, batch)
            self._accelerator.backward(loss.total * num_ranks() / size)  # of which the processes take the mean
            return loss, batch

        return Tally.merged(together(self._memory.hold(compute)))

    @cached_property
    def _crew(self) -> Crew:
        return Crew(self.model, crew_size(self.model, self._settings, num_ranks()))

    def _loss(self, model: PreTrainedModel, batch: Batch) -> Loss:
        logits = target_logits(model, batch)
        loss = self._objective(target_logprobs(logits, batch.targets), batch)
        if not self._objective.has_entropy:
            return loss
        mask = batch.mask
        return Loss(loss.total, {**loss.measured, "entropy": Measured((entropy(logits) * mask).sum(), mask.sum())})


@contextmanager
def training(model: PreTrainedModel, seed: int, most: int, settings: TrainingSettings) -> Iterator[None]:
    """The model in training mode for rows of at most so many tokens, what it drops keyed by the seed.

    Afterwards all is as before, but for threads beyond the cores.
    """
    attention, threads = model.config._attn_implementation, min(torch.get_num_threads(), num_cores())
    torch.set_num_threads(threads)
    with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
        torch.manual_seed(seed)
        model.train()
        num_scores = most * max(most, settings.batch_tokens // crew_size(model, settings, num_ranks()))
        if model.device.type == "cpu" and num_scores <= PLAIN_SCORES:
            model.set_attn_implementation("eager")
        if settings.recompute:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            model.set_attn_implementation(attention)
            if settings.recompute:
                model.gradient_checkpointing_disable()
            model.eval()


def _rate(step: int, num_steps: int, warmup_share: float) -> float:
    """Share of the peak learning rate: a linear rise, then a cosine to zero."""
    warmup = round(num_steps * warmup_share)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, num_steps - warmup)))
