"""The report: one HTML page on what a line came to, in which nothing is from elsewhere.

What models and people wrote is untrusted: Jinja escapes it, `printable` shows what would hide in it, and the page's own
policy lets a browser load and run nothing. The same line gives the same page.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from storage.files import OWNER_ONLY_FOLDER, replace
from storage.home import Home
from storage.overview import Overview, Row, overview
from tasks.picture import picture_png, picture_svg
from tasks.verdict import comparisons, verdict
from tasks.wording import printable

STAGES = ("sample", "initialize", "search", "filter", "finetune", "evaluate", "promote")
REASONS = {
    "kept": "right, and trains",
    "duplicate": "right, but its problem has that text already",
    "over_limit": "right, but its problem has as many solutions as are kept",
    "unbalanced": "right, but its difficulty has its share",
    "reserved": "its problem is not for training",
    "wrong": "not right",
    "unparsed": "no answer could be read",
    "truncated": "cut off at the token limit",
    "timeout": "took too long to verify",
    "error": "could not be verified",
}
"""What becomes of an attempt, and what that means."""
TEXT_CHARS = 600


def write_report(home: Home, output: Path | None = None) -> tuple[Path, Path]:
    """Write the page, in the home or as `output`, and the picture as PNG beside it; gives their paths.

    Raises ValueError where no round is closed yet, or a path cannot be.
    """
    path = Path(os.path.abspath(output)) if output else home.report / "report.html"
    picture = path.with_suffix(".png")
    if picture == path:
        raise ValueError(f"{path.name} is what the picture would be called; name the page, as report.html.")
    if output and not path.parent.is_dir():
        raise ValueError(f"there is no folder {path.parent}; make it, or name another file with --output.")
    seen = overview(home)
    home.report.mkdir(mode=OWNER_ONLY_FOLDER, exist_ok=True)
    replace(path, page(seen).encode())
    replace(picture, picture_png(seen.rounds, seen.decisions))
    return path, picture


def page(seen: Overview) -> str:
    """The page of a line."""
    template = environment().get_template("report.html.j2")
    return template.render(
        seen=seen,
        last=seen.rounds[-1],
        headline=next(comparisons(seen)),
        verdict=verdict(seen),
        picture=Markup(picture_svg(seen.rounds, seen.decisions)),
        stages=by_round(seen.stages, "stage"),
        stage_names=in_order(seen.stages, "stage", STAGES),
        longest=max(row["seconds"] for row in seen.rounds) or 1,
        filtered=by_round(seen.filtered, "reason"),
        reason_names=in_order(seen.filtered, "reason", REASONS),
        reasons=REASONS,
        trees=list(planted(seen.trees)),
    )


def environment() -> Environment:
    """Where the template lives, and how it writes."""
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        finalize=shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"share": share, "whole": whole, "seconds": seconds, "excerpt": excerpt}
    return made


def shown(value: object) -> object:
    """What stands on the page for a value, before HTML is escaped: a text with nothing hidden in it."""
    return printable(value, keep="\n") if isinstance(value, str) and not isinstance(value, Markup) else value


def share(value: float | None) -> str:
    """`0.641`, or a dash for what is not known."""
    return "–" if value is None else f"{value:.3f}"


def whole(value: float | None) -> str:
    """`32,000`, or a dash for what is not known."""
    return "–" if value is None else f"{value:,.0f}"


def seconds(value: float | None) -> str:
    """`0.3`, `46`, `1,240`, or a dash for what is not known."""
    return "–" if value is None else f"{value:,.{0 if value >= 10 else 1}f}"


def excerpt(text: str) -> str:
    """The beginning of a long text."""
    return text if len(text) <= TEXT_CHARS else f"{text[:TEXT_CHARS]}… ({len(text):,} characters)"


def by_round(rows: Iterable[Row], name: str) -> dict[int, dict[str, Row]]:
    """Rows by round and by what stands under a name: `{1: {"search": {"seconds": 46.2, …}, …}, …}`."""
    found: dict[int, dict[str, Row]] = {}
    for row in rows:
        found.setdefault(row["round"], {})[row[name]] = row
    return found


def planted(rows: Iterable[Row]) -> Iterator[Row]:
    """The roots of trees, each step with its `children`, the most valued first."""
    steps: dict[str, Row] = {}
    for row in rows:  # parents come first
        steps[row["step_id"]] = step = row | {"children": []}
        if row["parent_id"] in steps:
            steps[row["parent_id"]]["children"].append(step)
    for step in steps.values():
        step["children"].sort(key=lambda child: (-child["is_kept"], -child["value"], -child["visits"]))
    return (step for step in steps.values() if not step["parent_id"])


def in_order(rows: Iterable[Row], name: str, order: Iterable[str]) -> list[str]:
    """What stands under a name, once each: as in `order`, then what that does not know."""
    there = {row[name] for row in rows}
    known = [each for each in order if each in there]
    return [*known, *sorted(there - set(known))]
