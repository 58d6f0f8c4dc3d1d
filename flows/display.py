"""Progress for people: one live line in a terminal, and one quiet line a stage wherever it goes to."""

import sys
from dataclasses import dataclass, field
from threading import Lock
from time import monotonic

from rich.console import Console
from rich.live import Live
from rich.text import Text

from storage.records import Round
from tasks.progress import Progress
from tasks.turn import Turn
from tasks.wording import minutes

BAR_WIDTH = 24
LOSS_WINDOW = 50


def open_console() -> Console:
    """Standard output, which is a terminal or not, whatever FORCE_COLOR says."""
    return Console(file=sys.stdout, force_terminal=sys.stdout.isatty(), highlight=False, soft_wrap=True)


@dataclass
class Display:
    """Watches the stages and hears the tasks' reports."""

    console: Console = field(default_factory=open_console)
    label: str = ""
    stage: str = ""
    total: int | None = None
    started: float = 0.0
    parts: dict[int, Progress] = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)
    lock: Lock = field(default_factory=Lock)
    live: Live | None = None

    def __enter__(self) -> "Display":
        if self.console.is_terminal and not self.console.is_dumb_terminal:
            self.live = Live(
                console=self.console,
                get_renderable=self.draw,
                refresh_per_second=4,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live is not None:
            self.live.stop()

    def begin(self, label: str, stage: str, total: int | None) -> None:
        """A stage begins."""
        with self.lock:
            self.label, self.stage, self.total, self.started = label, stage, total, monotonic()
            self.parts, self.losses = {}, []

    def hear(self, progress: Progress) -> None:
        """A task reports."""
        with self.lock:
            self.parts[progress.part] = progress
            if progress.loss is not None:
                self.losses = [*self.losses[-LOSS_WINDOW:], progress.loss]

    def end(self) -> None:
        """The stage ended: leave a line of it, where it had anything to tell."""
        line = ""
        with self.lock:
            if self.parts:
                line = f"{self.label:<8} {self.stage:<10} {self.counts()} in {minutes(monotonic() - self.started)}"
            self.stage = ""
            self.parts = {}
        if line:
            self.say(line)  # outside of the lock, for which whoever draws waits with the terminal's in hand

    def say(self, text: str) -> None:
        """A line, as it is."""
        self.console.print(Text(text))

    def counts(self) -> str:
        """`3,000 problems, .213 solved, 61,000 tokens/s`."""
        parts = list(self.parts.values())
        seconds = max(1e-9, monotonic() - self.started)
        done, unit = sum(part.done for part in parts), parts[0].unit
        words = [f"{done:,} {unit}"]
        if tried := sum(part.tried for part in parts):
            words.append(f"{sum(part.solved for part in parts) / tried:.3f} solved")
        tokens = sum(part.tokens for part in parts) or (done if unit == "tokens" else 0)
        if tokens:
            words.append(f"{tokens / seconds:,.0f} tokens/s")
        if self.losses:
            words.append(f"loss {sum(self.losses) / len(self.losses):.3f}")
        return ", ".join(words)

    def draw(self) -> Text:
        """The live line."""
        with self.lock:
            if not self.stage:
                return Text("")
            if not self.parts:
                return Text(f"{self.label:<8} {self.stage:<10} …")
            done = sum(part.done for part in self.parts.values())
            total = self.total or sum(part.total for part in self.parts.values())
            share = min(1.0, done / total) if total else 0.0
            left = (monotonic() - self.started) * (1 - share) / share if share else 0.0
            bar = "━" * round(share * BAR_WIDTH) + "╌" * (BAR_WIDTH - round(share * BAR_WIDTH))
            return Text(f"{self.label:<8} {self.stage:<10} {bar} {share:4.0%} {self.counts()}, {minutes(left)} left")

    def tell_round(self, row: Round, turn: Turn) -> None:
        """The round's verdict."""
        verdict = "promoted" if row.promoted else "refused"
        self.say(f"{turn.label:<8} {verdict}: {row.reason} ({minutes(row.seconds)})")
