"""What every task is told: where the home is, and which round of which run it works for."""

from dataclasses import dataclass
from pathlib import Path

from storage.home import Home
from storage.lake import Lake
from storage.registry import Registry
from storage.warehouse import Warehouse


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """A turn of the wheel: `Turn(root=Path(".flywheel"), line="countdown-…", run_id="r1…", round=3, seed=0)`."""

    root: Path
    line: str
    run_id: str
    round: int
    """0 is before the first: initialization and preflight."""
    seed: int
    purpose: str = ""
    """Said instead of the round where this is no round of its own: `retrain`."""

    @property
    def key(self) -> str:
        """Names the round in its line: `countdown-…-r0003`."""
        return f"{self.line}-r{self.round:04d}"

    @property
    def part(self) -> str:
        """Names what this run makes in the round; what a run that was left made of it lies beside."""
        return f"{self.key}-{self.run_id}"

    @property
    def label(self) -> str:
        """For people: `round 3`, `start` or `retrain`."""
        return self.purpose or (f"round {self.round}" if self.round else "start")

    @property
    def home(self) -> Home:
        """The home."""
        return Home(self.root)

    @property
    def lake(self) -> Lake:
        """Its parts."""
        return Lake(self.home)

    @property
    def warehouse(self) -> Warehouse:
        """Its lens."""
        return Warehouse(self.home)

    @property
    def registry(self) -> Registry:
        """Its checkpoints and champions."""
        return Registry(self.home)
