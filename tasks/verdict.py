"""What a line came to in words: a sentence or two, and those with a table of the rounds as Markdown."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from storage.overview import Overview, Row
from tasks.wording import printable, show_accuracy

ASKED = {
    "final": "On the final problems, which nothing was trained or chosen on",
    "benchmark": "On the benchmark problems, which chose the champions",
}
MARKS = re.compile(r"[\\`*_{}\[\]<>|~&#!]")
"""What means something in Markdown or HTML."""
HEAD = """\
| round | accuracy | 95 % interval | problems | uniform legal play | brute force | solved in search | verdict |
|---|---|---|---|---|---|---|---|"""


class Comparison(NamedTuple):
    """Initial policy and champion on the same problems: `Comparison("final", {"accuracy": 0.177, …}, {…})`."""

    split: str
    initial: Row
    champion: Row

    @property
    def is_same(self) -> bool:
        """Whether the champion is the initial policy still, or again."""
        return bool(self.initial["candidate"] == self.champion["candidate"])


def comparisons(seen: Overview) -> Iterator[Comparison]:
    """On the final problems, where both were asked them, and on the benchmark."""
    champion_id, initial_id = seen.lineage[0].checkpoint_id, seen.lineage[-1].checkpoint_id
    for split, rows in (("final", seen.claims), ("benchmark", [*seen.rounds, *seen.decisions])):
        by_id = {row["candidate"]: row for row in rows}
        if champion_id in by_id and initial_id in by_id:
            yield Comparison(split, by_id[initial_id], by_id[champion_id])


def verdict(seen: Overview) -> list[str]:
    """What the line came to; that on untouched problems first, where it is known."""
    return [f"{ASKED[each.split]}, {went(each)}.{beside(each.champion)}" for each in comparisons(seen)]


def went(compared: Comparison) -> str:
    """`the policy went from 0.177 (…) to 0.646 (…)`."""
    champion = show_accuracy(compared.champion)
    if compared.is_same:
        return f"the champion, which is the initial policy, solves {champion}"
    return f"the policy went from {show_accuracy(compared.initial)} to {champion}"


def beside(row: Row) -> str:
    """What an accuracy is to be held against, where that is known."""
    if row["chance"] is None:
        return ""
    chance, walks = row["chance"], row["brute_force"]
    return f" Uniform legal play solves {chance:.3f}, and brute force needs {walks:.0f} walks a problem."


def markdown(seen: Overview) -> str:
    """The verdict and a table of the rounds, with what was decided between them."""
    rows = [(row["round"], 0, markdown_row(str(row["round"]), row, round_verdict(row))) for row in seen.rounds]
    rows += [(row["round"], 1, markdown_row(*describe_decision(row))) for row in seen.decisions]
    table = [text for _, _, text in sorted(rows, key=lambda row: row[:2])]
    return "\n".join(["\n\n".join(verdict(seen)), "", HEAD, *table, ""])


def round_verdict(row: Row) -> str:
    """What the gate decided on a round's candidate."""
    return "promoted" if row["promoted"] else "refused"


def describe_decision(row: Row) -> tuple[str, Row, str]:
    """A decision between rounds, as `markdown_row` takes it."""
    by_gate = row["decided_by"] == "gate"
    return f"{'retrain' if by_gate else 'people'}, after {row['round']}", row, row["verdict"].replace("_", " ")


def markdown_row(place: str, row: Row, decided: str) -> str:
    """A round, or a decision after one, as a line of the table."""
    cells = [
        place,
        f"{row['accuracy']:.3f}",
        f"{row['low']:.3f} to {row['high']:.3f}",
        f"{row['num_problems']:,}",
        "" if row["chance"] is None else f"{row['chance']:.3f}",
        "" if row["brute_force"] is None else f"{row['brute_force']:.0f} walks",
        f"{row['solved_share']:.3f}" if row.get("num_trajectories") else "",
        f"{decided}: {plain(row['reason'])}",
    ]
    return f"| {' | '.join(cells)} |"


def plain(text: str) -> str:
    """A text that Markdown shows as it is: `<b>` becomes `&#60;b&#62;`."""
    return MARKS.sub(lambda mark: f"&#{ord(mark[0])};", printable(text))
