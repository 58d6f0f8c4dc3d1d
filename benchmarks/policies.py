"""The small policy that benchmarks begin with: made as `flywheel run` makes its first."""

import hashlib
import sys
import tempfile
from itertools import islice
from pathlib import Path
from time import monotonic

from models.learning.finetune import Watch, build_from_scratch
from models.learning.settings import InitializationSettings
from models.learning.trainer import StepReport
from models.policy.load import Policy
from models.policy.settings import ScratchSettings
from storage.countdown import CountdownProblems
from storage.demonstrations import CHARACTERS, countdown_demonstrations

DEFAULT = ScratchSettings()


def make_policy(settings: InitializationSettings, game: CountdownProblems, shape: ScratchSettings = DEFAULT) -> Policy:
    """A small Llama from goal-blind walks of a game. Tells its digest."""
    walks = countdown_demonstrations(game, seed=0, behaviour_share=settings.behaviour_share)
    texts = [(walk.prompt, walk.completion) for walk in islice(walks, settings.demonstrations)]
    started = monotonic()

    def tell(step: StepReport) -> None:
        if sys.stdout.isatty():
            told = f"policy: {step.tokens_done:,} of {step.tokens_in_all:,} tokens, loss {step.loss:.3f}"
            print(f"\r{told}", end="", flush=True)

    watch = Watch(on_step=tell)
    trained = build_from_scratch(texts, CHARACTERS, settings, shape, seed=0, device="cpu", watch=watch)
    with tempfile.TemporaryDirectory() as folder:
        trained.save(Path(folder))
        digest = hashlib.sha256((Path(folder) / "model.safetensors").read_bytes()).hexdigest()[:16]
    print(f"policy of {game.numbers} numbers: seed 0, digest {digest}, {monotonic() - started:.0f} s", flush=True)
    return trained.policy
