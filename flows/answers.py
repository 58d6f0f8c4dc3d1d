"""Answers to SQL queries: a table for people, csv, json or parquet for programs."""

import io
import json
import re
import sys
from typing import Any

import click
import polars as pl
from rich.console import Console
from rich.table import Table
from rich.text import Text

from storage.home import Home
from storage.warehouse import QueryError, Question, Warehouse, questions
from tasks.wording import printable, shorten

CELL_CHARS = 200
TABLE_ROWS = 1_000
UNFOLDED = 10_000
"""Columns of a terminal in which no line is folded."""
NAME = re.compile(r"(?:\s|--[^\n]*\n)*(\w[\w-]*)\s*;?\s*")
"""A question's, comments before it aside; no SQL is a single word."""
NOT_FOR_TERMINALS = "parquet is for files: name the QUERY, and write `--format parquet > answer.parquet`."


def ask(home: Home, query: str, timeout_s: float) -> pl.DataFrame:
    """The answer to one SELECT, or to the question of that name. Raises QueryError, fit for a terminal."""
    try:
        return Warehouse(home).ask(find_sql(home, query), timeout_s=timeout_s)
    except QueryError as error:  # DuckDB cites the values it stumbles over
        raise QueryError(printable(str(error), keep="\n")) from None


def find_sql(home: Home, query: str) -> str:
    """The SQL that a person means by SQL or a name. A question of theirs in the place of one of ours is told."""
    if not (match := NAME.fullmatch(query)):
        return query
    question = questions(home).get(match[1])
    if question is None:
        raise QueryError(f"there is no question {match[1]!r}; expected a SELECT, or a name of `flywheel sql --list`.")
    if question.is_instead:
        click.echo(f"{question.name} is your own here, from {question.path}, not the one that comes along.", err=True)
    return question.sql


def list_questions(home: Home) -> str:
    """A line a question: its name and what it asks."""
    known = questions(home).values()
    width = max(len(question.name) for question in known)
    return "\n".join(f"{one.name:<{width}}  {printable(one.title)}{whose(home, one)}" for one in known)


def whose(home: Home, question: Question) -> str:
    """A remark on a question that does not come with the flywheel."""
    if question.is_instead:
        return " (yours, in the place of ours)"
    return " (yours)" if question.path.parent == home.queries else ""


def write_answer(answer: pl.DataFrame, form: str) -> None:
    """To standard output. Control characters of model text never reach a terminal."""
    is_terminal = sys.stdout.isatty()
    if form == "parquet":
        if is_terminal:
            raise ValueError(NOT_FOR_TERMINALS)
        buffer = io.BytesIO()
        answer.write_parquet(buffer)
        sys.stdout.buffer.write(buffer.getvalue())
    elif form == "table":
        write_table(answer, Console(soft_wrap=not is_terminal, width=None if is_terminal else UNFOLDED))
    else:
        text = write_text(answer, form)
        sys.stdout.write(guarded(text) if is_terminal else text)


def write_text(answer: pl.DataFrame, form: str) -> str:
    """As csv or json, raw. What the one cannot hold is JSON in it, and what neither can is text."""
    odd = [column for column in answer if is_odd(column.dtype, form)]
    plain = answer.with_columns(
        pl.Series(column.name, [as_text(value) for value in column], pl.String) for column in odd
    )
    return plain.write_csv() if form == "csv" else plain.write_json() + "\n"


def is_odd(dtype: pl.DataType, form: str) -> bool:
    """Whether polars writes no such column."""
    inner = dtype
    while isinstance(inner, pl.List | pl.Array):
        inner = inner.inner  # type: ignore[assignment]
    return isinstance(inner, pl.Binary | pl.Object | pl.Duration) or (form == "csv" and dtype.is_nested())


def as_text(value: Any) -> str | None:
    """A value of such a column."""
    if isinstance(value, pl.Series):
        value = value.to_list()
    if isinstance(value, bytes):
        return value.hex()
    return (
        None
        if value is None
        else json.dumps(value, default=as_text, ensure_ascii=False)
        if isinstance(value, list | dict)
        else str(value)
    )


def write_page(answer: pl.DataFrame, form: str) -> str:
    """What a terminal may show, in lines as long as need be."""
    if form != "table":
        return guarded(write_text(answer, form))
    console = Console(file=io.StringIO(), soft_wrap=True, width=UNFOLDED, color_system=None)
    with console.capture() as capture:
        write_table(answer, console)
    return capture.get()


def write_table(answer: pl.DataFrame, console: Console) -> None:
    """The first rows, one line each."""
    table = Table(box=None, header_style="bold")
    for name, kind in answer.schema.items():
        head = Text(shorten(name, CELL_CHARS))  # PIVOT makes names of model text
        table.add_column(head, justify="right" if kind.is_numeric() else "left", overflow="fold")
    for row in answer.head(TABLE_ROWS).iter_rows():
        table.add_row(*(Text(write_cell(value)) for value in row))
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
