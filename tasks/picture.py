"""The picture of a line: accuracy by round with its intervals, beside what it is to be held against. SVG or PNG.

The same rounds give the same bytes: no date, no settings of the user's, a font that comes with matplotlib.
"""

import io
import logging
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from storage.overview import Row

logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it speaks of its font cache

SIZE_INCHES = (9.0, 4.8)
PNG_DPI = 200
INK, FAINT, GRID = "#24292f", "#6e7781", "#e4e7eb"
CHAMPION, PASS, SEARCH = "#0072b2", "#00805f", "#b85400"
"""Blue, green and vermilion of https://jfly.uni-koeln.de/color/, which all eyes tell apart, darkened for text."""
MANY_ROUNDS = 40
"""Of more the marks are small."""
HEADROOM = 1.12
AFTER = 0.3
"""Rounds after its round that a retrain's mark stands."""
LABEL_GAP = 0.055
"""Least distance of two labels, as a share of the height."""
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 10.5,
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.facecolor": "none",
    "axes.labelcolor": INK,
    "errorbar.capsize": 3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.color": FAINT,
    "ytick.labelcolor": INK,
    "svg.hashsalt": "flywheel",
}


class Line(NamedTuple):
    """A measure over the rounds, named at its end: `Line("pass@8", "#00805f", [0, 1], [0.536, 0.696])`."""

    name: str
    colour: str
    x: Sequence[float]
    y: Sequence[float]

    @property
    def label(self) -> str:
        """`pass@8 0.696`."""
        return f"{self.name} {self.y[-1]:.3f}"


class Mark(NamedTuple):
    """A candidate: where, as what, whether filled, and what it measured."""

    x: float
    shape: str
    took_over: bool
    row: Row


def picture_svg(rounds: Sequence[Row], decisions: Sequence[Row] = ()) -> str:
    """The rounds and other decisions of an overview as an `<svg>` element, without a background."""
    buffer = io.StringIO()
    with matplotlib.style.context(["default", STYLE]):
        nothing = dict.fromkeys(["Date", "Creator", "Format", "Type"])
        draw(rounds, decisions).savefig(buffer, format="svg", facecolor="none", metadata=nothing)
    _, opening, rest = buffer.getvalue().partition("<svg ")
    return opening + rest


def picture_png(rounds: Sequence[Row], decisions: Sequence[Row] = ()) -> bytes:
    """The rounds and other decisions of an overview as a PNG file."""
    buffer = io.BytesIO()
    with matplotlib.style.context(["default", STYLE]):
        draw(rounds, decisions).savefig(buffer, format="png", dpi=PNG_DPI, metadata={"Software": None})
    return buffer.getvalue()


def draw(rounds: Sequence[Row], decisions: Sequence[Row] = ()) -> Figure:
    """Candidates with their intervals, retrains beside the round before, the champion as steps, and chance."""
    figure = Figure(figsize=SIZE_INCHES)
    axes = figure.add_axes((0.06, 0.115, 0.69, 0.75))
    champion, chance, measures = champion_line(rounds), list(chance_line(rounds)), list(measured_lines(rounds))
    lines = [champion, *measures, *chance]
    retrains = [row for row in decisions if row["decided_by"] == "gate"]
    highest = max(*(row["high"] for row in [*rounds, *retrains]), *(y for line in lines for y in line.y))
    prepare(axes, rounds, top=highest, has_retrains=bool(retrains))
    for line in measures:
        axes.plot(line.x, line.y, color=line.colour, linewidth=1.2, alpha=0.6, marker=".", markersize=4)
    for line in chance:
        axes.plot(line.x, line.y, color=line.colour, linewidth=1.2, linestyle=(0, (5, 3)))
    axes.step(champion.x, champion.y, where="post", color=champion.colour, linewidth=2.4, alpha=0.4)
    draw_candidates(axes, [Mark(row["round"], "o", row["promoted"], row) for row in rounds])
    draw_candidates(axes, [Mark(row["round"] + AFTER, "D", row["verdict"] == "promoted", row) for row in retrains])
    write_labels(axes, lines)
    return figure


def ends(rounds: Sequence[Row]) -> tuple[float, float]:
    """From half a round before the first to half a round after the last."""
    return rounds[0]["round"] - 0.5, rounds[-1]["round"] + 0.5


def champion_line(rounds: Sequence[Row]) -> Line:
    """The accuracy of whoever is champion after each round, which stands until the next."""
    steps = [(row["round"], row["champion_accuracy"]) for row in rounds]
    x, y = zip(*steps, (ends(rounds)[1], steps[-1][1]), strict=True)
    return Line("champion", CHAMPION, x, y)


def chance_line(rounds: Sequence[Row]) -> Iterator[Line]:
    """What uniform legal play solves, where that is known."""
    if (chance := rounds[-1]["chance"]) is not None:
        yield Line("uniform legal play", FAINT, ends(rounds), (chance, chance))


def measured_lines(rounds: Sequence[Row]) -> Iterator[Line]:
    """What candidates could do with eight samples, and what search solved in training."""
    sampled = [row for row in rounds if row["pass_at_8"] is not None]
    searched = [row for row in rounds if row["num_trajectories"]]
    for name, colour, rows, key in (
        ("pass@8", PASS, sampled, "pass_at_8"),
        ("solved in search", SEARCH, searched, "solved_share"),
    ):
        if rows:
            yield Line(name, colour, [row["round"] for row in rows], [row[key] for row in rows])


def prepare(axes: Axes, rounds: Sequence[Row], top: float, has_retrains: bool) -> None:
    """The frame: from nothing to a little above all that is drawn."""
    axes.set_xlim(*ends(rounds))
    axes.set_ylim(0, min(top * HEADROOM, 1.04) or 1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel("round")
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    about = f"Accuracy on {rounds[-1]['num_problems']:,} benchmark problems, with 95 % intervals"
    axes.text(0, 1.1, about, transform=axes.transAxes, fontsize=12, fontweight="bold")
    legend = "● took over   ○ refused" + ("   ◆ ◇ the same of a retrain" if has_retrains else "")
    axes.text(0, 1.035, legend, transform=axes.transAxes, color=FAINT)


def draw_candidates(axes: Axes, marks: Sequence[Mark]) -> None:
    """A mark a candidate, filled where it took over, and its interval."""
    size, width = (6, 1.5) if len(marks) <= MANY_ROUNDS else (3, 0.8)
    for x, shape, took_over, row in marks:
        arms = [[row["accuracy"] - row["low"]], [row["high"] - row["accuracy"]]]
        mark = axes.errorbar(x, row["accuracy"], yerr=arms, fmt=shape, color=CHAMPION, linewidth=width)
        mark[0].set(markersize=size, markeredgewidth=width, markerfacecolor=CHAMPION if took_over else "white")
        for cap in mark[1]:
            cap.set(markersize=size, markeredgewidth=width)


def write_labels(axes: Axes, lines: Sequence[Line]) -> None:
    """Each line's name and last value beside the frame, none over another."""
    lines = sorted(lines, key=lambda line: line.y[-1])
    places = apart([line.y[-1] for line in lines], LABEL_GAP * axes.get_ylim()[1])
    for line, y in zip(lines, places, strict=True):
        beside = axes.get_yaxis_transform()  # x as a share of the width
        axes.text(1.012, y, line.label, transform=beside, color=line.colour, verticalalignment="center")


def apart(places: Sequence[float], gap: float) -> list[float]:
    """Rising places, moved up as little as leaves a gap between each two: `[0.2, 0.21]` becomes `[0.2, 0.25]`."""
    moved: list[float] = []
    for place in places:
        moved.append(max(place, moved[-1] + gap) if moved else place)
    return moved
