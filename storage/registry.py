"""The registry: checkpoints as folders that are whole or absent, and who is champion.

A checkpoint is built aside, synced and renamed, then its row is published; killed
between the two, doing it again repairs it. The champion is what the last promotion
of a line says, and each promotion is a compare-and-swap on the name of its part.
"""

import errno
import hashlib
import json
import re
import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

from storage.files import OWNER_ONLY_FILE, OWNER_ONLY_FOLDER, sync
from storage.home import Home
from storage.lake import Lake
from storage.records import Checkpoint, Promotion, Verdict, make_id

GIVES_WAY = {Verdict.INITIAL, Verdict.PROMOTED, Verdict.ROLLED_BACK}
"""Verdicts after which the candidate is champion."""
ADAPTERS = "adapter_config.json"
"""Describes a checkpoint that is LoRA adapters alone, and names the checkpoint that they belong to."""
RESTORE = "restore it from a backup of the home, or roll back to another checkpoint."


class RegistryError(ValueError):
    """A checkpoint or a champion that is not there, or not as it was saved."""


class LostRaceError(RegistryError):
    """Another decision came first; `winner` is it, and the gate should ask again against its champion."""

    def __init__(self, winner: Promotion) -> None:
        super().__init__(
            f"decision {winner.sequence} of line {winner.line!r} was taken by {winner.decided_by}: "
            f"{winner.verdict} {winner.candidate_id}, champion {winner.champion_id}. "
            "Compare the candidate with that champion and decide again."
        )
        self.winner = winner


@dataclass(frozen=True)
class Registry:
    """The checkpoints and champions of a home: `Registry(home).open(checkpoint_id)`."""

    home: Home

    def save(self, checkpoint: Checkpoint, write: Callable[[Path], None]) -> Checkpoint:
        """Publishes the folder that `write` fills, then its row; gives the row with folder and digest filled in.

        What is there already stays and is given instead, as in `Lake.publish`. Raises DiskFullError.
        """
        if not self._lake.has("checkpoints", checkpoint.checkpoint_id):
            folder = self._folder(checkpoint.checkpoint_id)
            if not folder.exists():
                self._build(folder, write)
            row = replace(checkpoint, folder=self.home.relative(folder), digest=folder_digest(folder))
            self._lake.publish("checkpoints", checkpoint.checkpoint_id, [row])
        return self.find(checkpoint.checkpoint_id)

    def discard(self, checkpoint_id: str) -> None:
        """Removes the folder of a checkpoint without a row, as a save that was broken off leaves it; for the writer."""
        if not self._lake.has("checkpoints", checkpoint_id):
            shutil.rmtree(self._folder(checkpoint_id), ignore_errors=True)

    def find(self, checkpoint_id: str) -> Checkpoint:
        """The row of a checkpoint. Raises RegistryError for an unknown one."""
        known = self._lake.keys("checkpoints")
        if checkpoint_id not in known:
            raise RegistryError(
                f"there is no checkpoint {checkpoint_id!r} in {self.home.root}, which has {len(known)}; "
                "`flywheel history` lists them."
            )
        (row,) = self._lake.read("checkpoints", checkpoint_id)
        assert isinstance(row, Checkpoint)
        return row

    def open(self, checkpoint_id: str) -> Path:
        """The folder of a checkpoint, its digest verified. Raises RegistryError when it is missing or changed."""
        checkpoint = self.find(checkpoint_id)
        folder = self.home.resolve(checkpoint.folder)
        if not folder.is_dir():
            raise RegistryError(f"the folder {folder} of checkpoint {checkpoint_id} is missing; {RESTORE}")
        found = folder_digest(folder)
        if found != checkpoint.digest:
            raise RegistryError(
                f"the folder {folder} of checkpoint {checkpoint_id} was changed: its digest is {found}, "
                f"expected {checkpoint.digest}; {RESTORE}"
            )
        if (description := folder / ADAPTERS).exists():  # the weights that they belong to are another's
            self.open(json.loads(description.read_text(encoding="utf-8"))["base_model_name_or_path"])
        return folder

    def lineage(self, checkpoint_id: str) -> list[Checkpoint]:
        """A checkpoint, its parent, and so on to the initial policy."""
        line = [self.find(checkpoint_id)]
        while line[-1].parent_id:
            line.append(self.find(line[-1].parent_id))
        return line

    def promotions(self, line: str) -> list[Promotion]:
        """All decisions about a line, in order."""
        return [row for key in self._decisions(line) for row in self._lake.read("promotions", key)]

    def latest(self, line: str) -> Promotion | None:
        """The last decision about a line, which says who is champion; None before the first."""
        rows = [row for key in self._decisions(line)[-1:] for row in self._lake.read("promotions", key)]
        return rows[0] if rows else None

    def champion(self, line: str) -> str:
        """The champion's checkpoint id. Raises RegistryError for a line without one."""
        latest = self.latest(line)
        if latest is None:
            raise RegistryError(f"the line {line!r} has no champion yet; `flywheel run` makes the first.")
        return latest.champion_id

    def promote(self, decision: Promotion, against: Promotion | None) -> Promotion:
        """Publishes a decision on a candidate, made while `against` was the line's last one; gives it filled in.

        Where the last one is this very decision already, that is given instead.
        Raises LostRaceError when another came between.
        """
        self.find(decision.candidate_id)
        latest = self.latest(decision.line)
        if latest and _same(latest, decision):
            return latest
        promotion = _filled_in(decision, against)
        if not self._lake.publish("promotions", _key(promotion.line, promotion.sequence), [promotion]):
            (winner,) = self._lake.read("promotions", _key(promotion.line, promotion.sequence))
            raise LostRaceError(winner)
        return promotion

    def rollback(self, line: str, *, decided_by: str, reason: str, to_checkpoint_id: str | None = None) -> Promotion:
        """Makes an earlier champion the champion again: by default the one before, and before that the next time.

        Raises RegistryError where there is none, LostRaceError when another decision came between.
        """
        promotions = self.promotions(line)
        target = _earlier_champion(line, promotions, to_checkpoint_id)
        latest = promotions[-1]
        decision = Promotion(
            line=line,
            run_id=latest.run_id,
            round=latest.round,
            candidate_id=target,
            verdict=Verdict.ROLLED_BACK,
            reason=reason,
            decided_by=decided_by,
        )
        return self.promote(decision, latest)

    @property
    def _lake(self) -> Lake:
        return Lake(self.home)

    def _decisions(self, line: str) -> list[str]:
        part = re.compile(re.escape(line) + r"-\d{6}")
        return [key for key in self._lake.keys("promotions") if part.fullmatch(key)]

    def _folder(self, checkpoint_id: str) -> Path:
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,200}", checkpoint_id):
            raise RegistryError(f"cannot name a checkpoint {checkpoint_id!r}; expected letters, digits, _ and -.")
        return self.home.checkpoints / checkpoint_id

    def _build(self, folder: Path, write: Callable[[Path], None]) -> None:
        draft = self.home.tmp / f"{folder.name}.{secrets.token_hex(4)}"
        try:
            with self.home.explained_full_disk(f"the checkpoint {folder.name}"):
                draft.mkdir(mode=OWNER_ONLY_FOLDER)
                write(draft)
                _settle(draft)
                _rename_once(draft, folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def folder_digest(folder: Path) -> str:
    """SHA-256 of a folder, as `sha256sum $(find * -type f | LC_ALL=C sort) | sha256sum` in it says.

    Read once in a process, and again after a file was touched.
    """
    return _digest(folder, tuple(_stamps(folder)))


class Stamp(NamedTuple):
    """A file as far as can be told without reading it."""

    name: str
    num_bytes: int
    modified_ns: int


def _stamps(folder: Path) -> list[Stamp]:
    files = [(path.relative_to(folder).as_posix(), path.stat()) for path in folder.rglob("*") if path.is_file()]
    return sorted(Stamp(name, status.st_size, status.st_mtime_ns) for name, status in files)


@cache
def _digest(folder: Path, stamps: tuple[Stamp, ...]) -> str:
    lines = [f"{_file_digest(folder / stamp.name)}  {stamp.name}\n" for stamp in stamps]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _settle(folder: Path) -> None:
    """Makes all of a folder its owner's alone, and waits until it is on the disk."""
    for path in (*folder.rglob("*"), folder):
        path.chmod(OWNER_ONLY_FOLDER if path.is_dir() else OWNER_ONLY_FILE)
        sync(path)


def _rename_once(draft: Path, folder: Path) -> None:
    """Puts a whole folder in its place, unless one is there already."""
    try:
        draft.rename(folder)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
    sync(folder.parent)


def _key(line: str, sequence: int) -> str:
    return f"{line}-{sequence:06d}"


def _same(first: Promotion, second: Promotion) -> bool:
    return all(
        getattr(first, name) == getattr(second, name)
        for name in ("run_id", "round", "candidate_id", "verdict", "decided_by")
    )


def _filled_in(decision: Promotion, against: Promotion | None) -> Promotion:
    sequence, previous_id = (against.sequence + 1, against.champion_id) if against else (0, "")
    return replace(
        decision,
        promotion_id=make_id("promotion", decision.line, sequence),
        sequence=sequence,
        previous_id=previous_id,
        champion_id=decision.candidate_id if decision.verdict in GIVES_WAY else previous_id,
    )


def _standing(promotions: list[Promotion]) -> list[str]:
    """The champions that a rollback walks through, the current one last."""
    standing: list[str] = []
    for champion_id in (promotion.champion_id for promotion in promotions):
        if champion_id in standing:  # refused, or rolled back: what came after it is gone
            del standing[standing.index(champion_id) + 1 :]
        else:
            standing.append(champion_id)
    return standing


def _earlier_champion(line: str, promotions: list[Promotion], wanted: str | None) -> str:
    standing = _standing(promotions)
    former = {promotion.champion_id for promotion in promotions} - set(standing[-1:])
    if wanted is None and len(standing) > 1:
        return standing[-2]
    if wanted in former:
        return wanted
    raise RegistryError(
        f"cannot roll the line {line!r} back to {wanted or 'the champion before'}; "
        f"its champions besides the current one: {', '.join(sorted(former)) or 'none'}."
    )
