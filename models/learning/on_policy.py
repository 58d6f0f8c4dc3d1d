"""A policy gradient on policy: sample with the weights at hand, learn a step, and again."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from time import monotonic

from models.learning.batches import Unit, longest
from models.learning.draft import Draft
from models.learning.examples import Attempt
from models.learning.hardware import accelerated, in_precision
from models.learning.objective import Objective
from models.learning.scoring import with_old
from models.learning.settings import LearningSettings
from models.learning.trainer import OnStep, Say, Trainer, TrainingReport, fingerprint, of_steps, training
from models.memory import Memory, explained
from models.policy.load import Policy
from models.policy.protocol import Engine
from models.policy.transformers_engine import TransformersEngine

Sample = Callable[[int, Engine], Sequence[Attempt]]
"""Gives the attempts of a step, from 1, which the engine makes with the weights of then."""
Read = Callable[[Sequence[Attempt]], list[Unit]]
"""Makes of attempts what the trainer reads; none where nothing is to be learnt."""


def follow(
    policy: Policy,
    sample: Sample,
    read: Read,
    objective: Objective,
    settings: LearningSettings,
    *,
    seed: int,
    max_rows: int,
    on_step: OnStep,
    say: Say,
    draft: Draft | None,
) -> TrainingReport:
    """Take `settings.on_policy_steps` steps.

    What a step sampled must be a function of the step and the weights, so that a training that was broken off goes on
    to the same weights. Raises NonFiniteLossError and NoMemoryError.
    """
    engine = TransformersEngine(policy.model, policy.tokenizer, max_rows=max_rows, say=say)
    with explained("the policy does not fit twice, as learning.kl_weight wants; set it to 0"):
        reference = copy.deepcopy(policy.model) if settings.kl_weight else None
    with accelerated(policy.model, settings) as accelerator:
        trainer = Trainer(
            policy.model, accelerator, objective, settings, num_steps=settings.on_policy_steps, num_tokens=0, say=say
        )
        memory = Memory(settings.forward_tokens or settings.batch_tokens, say, settings.when_no_memory)
        identity = fingerprint(of_steps(settings), objective, seed)
        if draft and (kept := draft.load(identity, say)):
            trainer.restore(kept)
        while len(trainer.done) < settings.on_policy_steps:
            step = len(trainer.done) + 1
            started = monotonic()
            engine.forget()  # what the weights before made of a prefix
            units = [_sampled_now(unit) for unit in read(sample(step, engine))]
            if reference and units:
                examples = [example for (example,) in units]
                with in_precision(policy.model, settings):
                    scored = memory.hold(partial(with_old, reference, examples))
                units = [(replace(unit[0], reference=far.old),) for unit, far in zip(units, scored, strict=True)]
            if units:
                most = max(map(longest, units))
                with training(policy.model, seed + step, most, settings):
                    on_step(trainer.step(sorted(units, key=longest), since=started))
            else:
                on_step(trainer.skip(since=started))
            if draft and draft.is_due():
                draft.keep(trainer.state(), identity, say)
    return trainer.report()


def _sampled_now(unit: Unit) -> Unit:
    """The weights that sampled it are those that are about to learn from it."""
    (example,) = unit
    return (replace(example, old=example.sampled),)
