"""docs/warehouse.md says what the warehouse is: its reference is made from the records, its questions are asked.

`python tests/test_warehouse_docs.py` rewrites the reference.
"""

import re
import sys
import tempfile
from pathlib import Path

import polars as pl
import pytest

from storage.home import Home
from storage.lake import Lake
from storage.records import TABLES
from storage.warehouse import Warehouse

PAGE = Path(__file__).parents[1] / "docs" / "warehouse.md"
TITLE = "## Tables and views\n"
COMMAND = ".venv/bin/python tests/test_warehouse_docs.py"
QUESTIONS = re.findall(r"```sql\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def reference() -> str:
    """A section for each table and view, with its columns, from the comments that the warehouse shows."""
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(Home.open(Path(folder)))
        lake.seed()
        described = Warehouse(lake.home).describe()
    return "".join(section(rows) for _, rows in described.group_by("table", maintain_order=True))


def section(rows: pl.DataFrame) -> str:
    name, about = rows["table"][0], rows["about"][0]
    kind = "" if name in TABLES else " (view)"
    lines = [f"| `{column}` | {type_} | {escaped(text)} |" for _, _, column, type_, text in rows.iter_rows()]
    return "\n".join([f"\n### {name}{kind}\n", escaped(about), "\n| column | type | |\n|---|---|---|", *lines, ""])


def escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def rewritten() -> str:
    introduction = PAGE.read_text(encoding="utf-8").split(TITLE)[0]
    return introduction + TITLE + reference()


def test_the_reference_is_what_the_records_say() -> None:
    found = PAGE.read_text(encoding="utf-8")
    if found != rewritten():
        pytest.fail(f"{PAGE.name} is not what the records say; `{COMMAND}` rewrites it.", pytrace=False)


def test_there_are_questions_enough() -> None:
    assert len(QUESTIONS) >= 6


@pytest.mark.parametrize("question", QUESTIONS)
def test_every_question_has_an_answer(tmp_path: Path, question: str) -> None:
    lake = Lake(Home.open(tmp_path / "home"))
    lake.seed()
    assert Warehouse(lake.home).ask(question).width > 1


if __name__ == "__main__":
    PAGE.write_text(rewritten(), encoding="utf-8")
    print(f"rewrote {PAGE}", file=sys.stderr)
