"""Writes the answer to a SQL query: a table for people, csv, json or parquet for programs."""

import io
import sys

import polars as pl
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.terminal import shorten

CELL_CHARS = 200
TABLE_ROWS = 1_000


def write_answer(answer: pl.DataFrame, form: str) -> None:
    """To standard output. Control characters of model text never reach a terminal."""
    if form == "table":
        write_table(answer)
    elif form == "parquet":
        buffer = io.BytesIO()
        answer.write_parquet(buffer)
        sys.stdout.buffer.write(buffer.getvalue())
    else:
        text = answer.write_csv() if form == "csv" else answer.write_json() + "\n"
        sys.stdout.write(guarded(text) if sys.stdout.isatty() else text)


def write_table(answer: pl.DataFrame) -> None:
    """The first rows, one line each."""
    table = Table(box=None, header_style="bold")
    for name, kind in answer.schema.items():
        table.add_column(Text(name), justify="right" if kind.is_numeric() else "left", overflow="fold")
    for row in answer.head(TABLE_ROWS).iter_rows():
        table.add_row(*(Text(write_cell(value)) for value in row))
    console = Console(soft_wrap=not sys.stdout.isatty(), width=None if sys.stdout.isatty() else 10_000)
    console.print(table)
    rows = f"{answer.height:,} row{'' if answer.height == 1 else 's'}"
    more = f", the first {TABLE_ROWS:,} shown: add LIMIT, or use --format" if answer.height > TABLE_ROWS else ""
    console.print(f"({rows}{more})")


def write_cell(value: object) -> str:
    """A value in one printable line."""
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else shorten(str(value), CELL_CHARS)


def guarded(text: str) -> str:
    """Lines whose control characters are escaped."""
    return "\n".join(shorten(line, len(line) * 10 + 1) for line in text.split("\n"))
