"""The warehouse: SQL over the lake, through DuckDB, from any process while a writer publishes.

Nothing is loaded or locked: views over the Parquet parts that are there when a
question is asked. `query` and `named` are for this project's own SQL, `ask` is
for a person's, who may read the lake's folder and do nothing else.
"""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa

from storage.home import Home, HomeError, megabytes
from storage.lake import SUFFIX, columns, record_of, seed_key
from storage.records import TABLES

SQL_FOLDER = Path(__file__).parent / "sql"
VIEWS = ("current_runs", "current_selections", "champions", "history")
VIEWS_FILE = "views"
READING_NODES = {"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"}
"""Nodes of a parsed query that read. DuckDB calls `WITH a AS (COPY … TO …) SELECT …` a SELECT too."""
NODE = re.compile(r'"type":"(\w+_NODE)"')
LARGEST_ANSWER_BYTES = 1_000_000_000
BATCH_ROWS = 10_000
ASK_THREADS = 2
ADVICE = {
    "Table with name": f"There are the tables {', '.join(TABLES)} and the views {', '.join(VIEWS)}.",
    "maximum execution time": "It took longer than allowed: narrow it with WHERE or LIMIT, or allow it more time.",
    "Out of Memory": "It needs more memory than allowed: name fewer columns, aggregate first, or allow it more.",
    "disabled by configuration": "Only the tables of the lake can be read here.",
}
"""What to do, by a mark in DuckDB's message."""


class QueryError(ValueError):
    """A question that the warehouse refuses or cannot answer."""


@dataclass(frozen=True)
class Warehouse:
    """`Warehouse(home).ask("SELECT * FROM history")`."""

    home: Home

    def query(self, sql: str, /, **parameters: Any) -> pl.DataFrame:
        """The answer to our own SQL, where `$name` is a parameter. Raises QueryError."""
        with self._connection.cursor() as cursor, _explained():
            _aim(cursor, self.home)
            answer: pl.DataFrame = cursor.sql(sql, params=parameters or None).pl()
            return answer

    def named(self, name: str, /, **parameters: Any) -> pl.DataFrame:
        """The answer to storage/sql/<name>.sql, for example `named("filter/default", line="main", ...)`."""
        return self.query(named_sql(name), **parameters)

    def ask(
        self, sql: str, *, timeout_s: float = 60, max_memory: str = "2GB", max_rows: int | None = None
    ) -> pl.DataFrame:
        """The first `max_rows` rows (None: all) of the answer to a person's SQL.

        One statement that reads, of the lake's folder only. Raises QueryError, also
        when it takes more time or memory, or its answer is larger than 1 GB.
        """
        limits = {"memory_limit": max_memory, "threads": ASK_THREADS, "temp_directory": ""}
        with _explained(), _lens(self.home, limits) as connection:
            _aim(connection, self.home)
            statement = _reading_statement(connection, sql)
            _lock(connection, self.home, timeout_s)
            with connection.sql(statement).to_arrow_reader(BATCH_ROWS) as reader:  # streams, unlike `execute`
                return _to_polars(_first(reader, max_rows))

    def describe(self) -> pl.DataFrame:
        """Each column of each table and view in order: table, about, column, type, text."""
        return self.named("describe")

    @cached_property
    def _connection(self) -> duckdb.DuckDBPyConnection:
        return _lens(self.home, {"temp_directory": str(self.home.tmp)})


def named_queries() -> list[str]:
    """What `Warehouse.named` can run."""
    found = (path.relative_to(SQL_FOLDER).with_suffix("").as_posix() for path in SQL_FOLDER.rglob("*.sql"))
    return sorted(name for name in found if name != VIEWS_FILE)


def named_sql(name: str) -> str:
    """The text of storage/sql/<name>.sql; QueryError lists what there is."""
    if name not in named_queries():
        raise QueryError(f"there is no query {name!r}; expected one of {', '.join(named_queries())}.")
    return (SQL_FOLDER / f"{name}.sql").read_text(encoding="utf-8")


def _lens(home: Home, settings: dict[str, Any]) -> duckdb.DuckDBPyConnection:
    """A private database in memory: the views, which know their columns from the seeds, and their comments."""
    connection = duckdb.connect(":memory:", config={"python_enable_replacements": False, **settings})
    connection.execute("SET GLOBAL TimeZone = 'UTC'")
    for table in TABLES:
        seed = home.lake / table / (seed_key(table) + SUFFIX)
        if not seed.exists():
            raise HomeError(f"the lake of {home.root} has no table {table} yet; `flywheel run` makes it.")
        connection.execute(f"SET VARIABLE {table} = $1", [[str(seed)]])
    connection.execute(_views_sql())
    return connection


def _aim(connection: duckdb.DuckDBPyConnection, home: Home) -> None:
    """Points the views at the parts there are: children before parents, so that no row's parent is missed."""
    for table in reversed(TABLES):
        parts = [entry.path for entry in os.scandir(home.lake / table) if entry.name.endswith(SUFFIX)]
        connection.execute(f"SET VARIABLE {table} = $1", [parts])


@cache
def _views_sql() -> str:
    views = (SQL_FOLDER / f"{VIEWS_FILE}.sql").read_text(encoding="utf-8")
    current = (comment for table in ("runs", "selections") for comment in _comments(table, f"current_{table}"))
    return "\n".join([*map(_table_sql, TABLES), views, *current])


def _table_sql(table: str) -> str:
    names = ", ".join(column.name for column in columns(table))
    view = f"CREATE VIEW {table} AS SELECT {names} FROM read_parquet(getvariable('{table}'), union_by_name = true);"
    about = (record_of(table).__doc__ or "").splitlines()[0]
    return "\n".join([view, f"COMMENT ON VIEW {table} IS {_quoted(about)};", *_comments(table, table)])


def _comments(table: str, view: str) -> Iterator[str]:
    for column in columns(table):
        yield f"COMMENT ON COLUMN {view}.{column.name} IS {_quoted(column.text)};"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _reading_statement(connection: duckdb.DuckDBPyConnection, sql: str) -> duckdb.Statement:
    """The one statement of a text, parsed but not run; QueryError unless all it does is read."""
    statements = connection.extract_statements(sql)
    if len(statements) != 1:
        raise QueryError(f"found {len(statements)} statements, expected one SELECT.")
    (statement,) = statements
    if statement.type != duckdb.StatementType.SELECT:
        raise QueryError(
            f"found a statement of type {statement.type.name}, expected SELECT: the lake is only read here."
        )
    tree = connection.execute("SELECT json_serialize_sql($1)", [sql]).fetchone()
    if not tree or json.loads(tree[0])["error"] or not set(NODE.findall(tree[0])) <= READING_NODES:
        raise QueryError(
            "found a SELECT that writes, expected one that only reads: leave out COPY, INSERT and the like."
        )
    return statement


def _lock(connection: duckdb.DuckDBPyConnection, home: Home, timeout_s: float) -> None:
    """From here on the connection reads the lake's folder and nothing else, and changes no setting."""
    connection.execute("SET max_execution_time = $1", [max(1, round(1000 * timeout_s))])
    connection.execute("SET allowed_directories = $1", [[str(home.lake)]])
    connection.execute("SET enable_external_access = false; SET lock_configuration = true")


def _first(reader: pa.RecordBatchReader, max_rows: int | None) -> pa.Table:
    """The first rows, read no further than needed."""
    batches: list[pa.RecordBatch] = []
    num_rows = num_bytes = 0
    while (max_rows is None or num_rows < max_rows) and (batch := next(reader, None)) is not None:
        batches.append(batch)
        num_rows += batch.num_rows
        num_bytes += batch.nbytes
        if num_bytes > LARGEST_ANSWER_BYTES:
            raise QueryError(
                f"the answer is larger than {megabytes(LARGEST_ANSWER_BYTES)}; add LIMIT, or name fewer columns."
            )
    return pa.Table.from_batches(batches, schema=reader.schema)[:max_rows]


def _to_polars(table: pa.Table) -> pl.DataFrame:
    try:
        frame = pl.from_arrow(table.rename_columns(_distinct(table.column_names)))
    except pl.exceptions.PolarsError as error:
        raise QueryError(f"{error}; cast that column to VARCHAR or rename it.") from error
    assert isinstance(frame, pl.DataFrame)
    return frame


def _distinct(names: list[str]) -> list[str]:
    """`["round", "round"]`, as of a join, becomes `["round", "round_1"]`."""
    earlier = [names[:place].count(name) for place, name in enumerate(names)]
    return [f"{name}_{count}" if count else name for name, count in zip(names, earlier, strict=True)]


@contextmanager
def _explained() -> Iterator[None]:
    """DuckDB's errors as QueryError, with what to do where that can be told."""
    try:
        yield
    except (duckdb.Error, OSError) as error:  # an answer being read raises OSError
        message = str(error).strip()
        advice = next((advice for mark, advice in ADVICE.items() if mark in message), None)
        raise QueryError(f"{message.splitlines()[0]}\n{advice}" if advice else message) from error
