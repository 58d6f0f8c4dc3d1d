"""Makes the initial policy: from scratch on demonstrations, or from a model that people bring."""

import shutil
from dataclasses import asdict
from itertools import islice
from pathlib import Path

from models.learning.finetune import build_from_scratch, imitate
from models.learning.settings import InitializationSettings
from models.policy.chat import set_chat
from models.policy.find import find_model
from models.policy.load import gpus_of
from models.policy.settings import SCRATCH, Chat, PolicySettings, ScratchSettings
from storage.countdown import CountdownProblems
from storage.demonstrations import (
    CHARACTERS,
    Demonstration,
    countdown_demonstrations,
    file_demonstrations,
    keep_apart,
)
from storage.problems import ProblemSettings, open_source
from storage.records import Checkpoint, make_id, make_seed
from storage.sources.source import Splits
from tasks.devices import held
from tasks.finetune import describe, save, watch
from tasks.stage import log, stage, warn
from tasks.turn import Turn

Texts = list[tuple[str, str]]


@stage("reserve")
def reserve(turn: Turn, problems: ProblemSettings, splits: Splits) -> None:
    """Publish benchmark, final and development problems, before anything else is made of the source."""
    key = reserved_key(turn)
    if not turn.lake.has("problems", key):
        reserved = open_source(problems, splits).reserved()
        turn.lake.publish("problems", key, [problem for split in reserved.values() for problem in split])
        log(f"reserved problems: {', '.join(f'{len(found):,} {split}' for split, found in reserved.items())}")


def reserved_key(turn: Turn) -> str:
    """Names the part of the reserved problems."""
    return f"{turn.line}-reserved"


@stage("initialize")
def initialize(
    turn: Turn,
    problems: ProblemSettings,
    policy: PolicySettings,
    shape: ScratchSettings,
    settings: InitializationSettings,
) -> str:
    """Publish the initial policy, unless it is there; gives its id."""
    checkpoint_id = make_id("checkpoint", turn.line, turn.run_id, turn.round)
    if turn.lake.has("checkpoints", checkpoint_id):
        return checkpoint_id
    texts = demonstrate(turn, problems, policy, settings)
    seed, watching = make_seed("initialization", turn.seed), watch(turn, "initialize", settings, checkpoint_id)
    where, base = policy.trains_on, None if policy.model == SCRATCH else find_model(policy.model)
    if base and not texts:
        return adopt(turn, checkpoint_id, base, policy.chat)
    with held(turn.home, gpus_of(where), warn):
        if base:
            trained = imitate(base, texts, settings, seed=seed, device=where, chat=policy.chat, watch=watching)
        else:
            trained = build_from_scratch(texts, CHARACTERS, settings, shape, seed=seed, device=where, watch=watching)
        row = describe(
            turn,
            trained,
            checkpoint_id,
            parent_id="",
            selection_id="",
            objective="initialization",
            settings=asdict(settings),
            stale_share=None,
        )
        save(turn, trained, row)
        del trained  # before the GPU that it is on is let go
    return checkpoint_id


def demonstrate(
    turn: Turn, problems: ProblemSettings, policy: PolicySettings, settings: InitializationSettings
) -> Texts:
    """Pairs of prompt and answer to start from; none where a model is taken as it is."""
    if settings.file:
        demonstrations = read_apart(turn, Path(settings.file))
    elif policy.model == SCRATCH and isinstance(problems, CountdownProblems):
        endless = countdown_demonstrations(problems, seed=problems.seed, behaviour_share=settings.behaviour_share)
        demonstrations = list(islice(endless, settings.demonstrations))
    else:
        demonstrations = []
    return [(demonstration.prompt, demonstration.completion) for demonstration in demonstrations]


def read_apart(turn: Turn, path: Path) -> list[Demonstration]:
    """A file's demonstrations, less those of reserved problems, which is told. Raises ValueError where none is left."""
    found = list(file_demonstrations(path))
    kept = keep_apart(found, turn.lake.read("problems", reserved_key(turn)))
    told = f"{len(found) - len(kept):,} of {len(found):,} demonstrations in {path} ask benchmark, final or development"
    if not kept:
        raise ValueError(f"{told} problems, which never train: add demonstrations of other problems, or name no file.")
    if len(kept) < len(found):
        warn(f"{told} problems, which never train: they are left out.")
    return kept


def adopt(turn: Turn, checkpoint_id: str, base: Path, chat: Chat) -> str:
    """A model that people bring, as it is."""
    row = Checkpoint(
        checkpoint_id=checkpoint_id,
        line=turn.line,
        run_id=turn.run_id,
        round=turn.round,
        parent_id="",
        selection_id="",
        objective="initialization",
        settings="{}",
        num_examples=0,
        num_tokens=0,
        loss=0.0,
        seconds=0.0,
    )
    turn.registry.save(row, lambda folder: copy_model(base, folder, chat))
    log(f"checkpoint {checkpoint_id}: the model in {base}, as it is")
    return checkpoint_id


def copy_model(base: Path, folder: Path, chat: Chat) -> None:
    """The files of a model, without what hides in subfolders, to be asked as `chat` says."""
    for path in base.iterdir():
        if path.is_file():
            shutil.copyfile(path, folder / path.name)
    if chat != "auto":
        set_chat(folder, chat)
