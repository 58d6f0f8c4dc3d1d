"""The warehouse: SQL over the lake, through DuckDB, from any process while a writer publishes.

Nothing is loaded or locked: views over the Parquet parts that are there when a
question is asked. `query` and `named` are for this project's own SQL, `ask` is
for a person's, who may read the lake's folder and do nothing else.
"""

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache, cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import duckdb
import polars as pl
import pyarrow as pa

from storage.home import Home, HomeError, megabytes
from storage.lake import SUFFIX, Lake, columns, record_of, seed_key
from storage.limits import contained
from storage.records import TABLES

T = TypeVar("T")

SQL_FOLDER = Path(__file__).parent / "sql"
QUESTIONS_FOLDER = SQL_FOLDER / "questions"
VIEWS = ("current_runs", "current_selections", "champions", "history", "searches")
VIEWS_FILE = "views"
READING_NODES = {"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"}
"""Nodes of a parsed query that read. DuckDB calls `WITH a AS (COPY … TO …) SELECT …` a SELECT too."""
READING_FUNCTIONS = frozenset(
    [
        "duckdb_columns",
        "duckdb_functions",
        "duckdb_tables",
        "duckdb_views",
        "generate_series",
        "glob",
        "json_each",
        "json_tree",
        "parquet_file_metadata",
        "parquet_metadata",
        "parquet_schema",
        "range",
        "read_parquet",
        "unnest",
    ]
)
"""Functions that may stand after FROM. Others run SQL out of a text, which could be a COPY, or tell of the machine."""
HOW = "union_by_name = true, hive_partitioning = false"
"""How parts are read; a home under a folder `round=3` says nothing about rounds."""
LARGEST_ANSWER_BYTES = 1_000_000_000
BATCH_ROWS = 10_000
ASK_THREADS = 2
LOOK_S = 0.1
ADVICE = {
    "Table with name": f"There are the tables {', '.join(TABLES)} and the views {', '.join(VIEWS)}.",
    "maximum execution time": "It took longer than allowed: narrow it with WHERE or LIMIT, or allow it more time.",
    "Out of Memory": "It needs more memory than allowed: name fewer columns, aggregate first, or allow it more.",
    "disabled by configuration": "Only the tables of the lake can be read here.",
}
"""What to do, by a mark in DuckDB's message."""


class QueryError(ValueError):
    """A question that the warehouse refuses or cannot answer."""


class Question(NamedTuple):
    """A query that has a name: `Question("cost", "What did …?", "-- What did …?\\nSELECT …", path, False)`."""

    name: str
    title: str
    """Its first line."""
    sql: str
    path: Path
    is_instead: bool
    """A person's own, in the place of one of ours."""


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
        with _explained(), contained(timeout_s), _lens(self.home, limits) as connection:
            _aim(connection, self.home)
            statement = _reading_statement(connection, sql)
            _lock(connection, self.home, timeout_s)
            return _interruptibly(connection, lambda: _read(connection, statement, max_rows))

    def describe(self) -> pl.DataFrame:
        """Each column of each table and view in order: table, about, column, type, text."""
        return self.named("describe")

    def keywords(self) -> list[str]:
        """The words of DuckDB's SQL, in capitals."""
        return self.query("SELECT upper(keyword_name) AS word FROM duckdb_keywords() ORDER BY word")["word"].to_list()

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


def questions(home: Home) -> dict[str, Question]:
    """The named queries that take no parameters, by name: ours and the home's own, which win. Raises QueryError."""
    ours = {path.stem: path for path in sorted(QUESTIONS_FOLDER.glob("*.sql"))}
    own = {path.stem: path for path in sorted(home.queries.glob("*.sql"))}
    return {name: _question(path, name in own and name in ours) for name, path in sorted((ours | own).items())}


def _question(path: Path, is_instead: bool) -> Question:
    try:
        sql = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise QueryError(f"cannot read the query {path}: {error}; expected UTF-8 text.") from error
    title = (sql.splitlines() or [""])[0].removeprefix("--").strip()
    return Question(path.stem, title, sql, path, is_instead)


def split_statements(text: str) -> list[str]:
    """Statements with their semicolons, and last what follows: `"SELECT 1; SELE"` is `["SELECT 1;", " SELE"]`."""
    content = text.encode("utf-8", "replace")
    semicolons = (place for place, _ in duckdb.tokenize(content.decode()) if content[place : place + 1] == b";")
    places = [0, *(place + 1 for place in semicolons), len(content)]
    return [content[start:end].decode() for start, end in pairwise(places)]


def is_blank(text: str) -> bool:
    """Whether there is nothing but comments and semicolons."""
    return all(kind == duckdb.token_type.comment for _, kind in duckdb.tokenize(text.replace(";", " ")))


def _lens(home: Home, settings: dict[str, Any]) -> duckdb.DuckDBPyConnection:
    """A private database in memory: the views, which know their columns from the seeds, and their comments."""
    connection = duckdb.connect(":memory:", config={"python_enable_replacements": False, **settings})
    connection.execute("SET GLOBAL TimeZone = 'UTC'")
    seeds = {table: home.lake / table / (seed_key(table) + SUFFIX) for table in TABLES}
    if missing := [table for table, seed in seeds.items() if not seed.exists()]:
        if not Lake(home).is_seeded():
            raise HomeError(f"the lake of {home.root} has no table {missing[0]} yet; `flywheel run` makes it.")
        try:
            Lake(home).seed()  # a version with other columns made it
        except OSError as error:
            raise HomeError(
                f"the lake of {home.root} was made by another version and lacks {missing[0]} of this one, which cannot "
                f"be added here: {error.strerror or error}. Open the home once where it may be written to."
            ) from error
    for table, seed in seeds.items():
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
    return "\n".join([*map(_table_sql, TABLES), derived_sql()])


def derived_sql() -> str:
    """Makes the views of VIEWS, with their comments, over the tables."""
    views = (SQL_FOLDER / f"{VIEWS_FILE}.sql").read_text(encoding="utf-8")
    current = (comment for table in ("runs", "selections") for comment in _comments(table, f"current_{table}"))
    return "\n".join([views, *current])


def _table_sql(table: str) -> str:
    names = ", ".join(column.name for column in columns(table))
    view = f"CREATE VIEW {table} AS SELECT {names} FROM read_parquet(getvariable('{table}'), {HOW});"
    return "\n".join([view, f"COMMENT ON VIEW {table} IS {quoted(about(table))};", *_comments(table, table)])


def about(table: str) -> str:
    """What a table holds, in a sentence or two."""
    return (record_of(table).__doc__ or "").splitlines()[0]


def _comments(table: str, view: str) -> Iterator[str]:
    for column in columns(table):
        yield f"COMMENT ON COLUMN {view}.{column.name} IS {quoted(column.text)};"


def quoted(text: str) -> str:
    """A text as SQL writes it."""
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
    parsed = json.loads(tree[0]) if tree else {"error": True}
    if parsed["error"] or not {node["type"] for node in _nodes(parsed, "_NODE")} <= READING_NODES:
        raise QueryError(
            "found a SELECT that writes, expected one that only reads: leave out COPY, INSERT and the like."
        )
    functions = {node["function"]["function_name"].lower() for node in _nodes(parsed, "TABLE_FUNCTION")}
    if refused := sorted(functions - READING_FUNCTIONS):
        raise QueryError(f"found {refused[0]}() after FROM, expected one of {', '.join(sorted(READING_FUNCTIONS))}.")
    return statement


def _nodes(tree: Any, ending: str) -> Iterator[dict[str, Any]]:
    """The nodes of a parsed query, at any depth, whose type ends so."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            if str(node.get("type")).endswith(ending):
                yield node
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)


def _lock(connection: duckdb.DuckDBPyConnection, home: Home, timeout_s: float) -> None:
    """From here on the connection reads the lake's folder and nothing else, and changes no setting."""
    connection.execute("SET max_execution_time = $1", [max(1, round(1000 * timeout_s))])
    connection.execute("SET allowed_directories = $1", [[str(home.lake)]])
    connection.execute("SET enable_external_access = false; SET lock_configuration = true")


def _interruptibly(connection: duckdb.DuckDBPyConnection, work: Callable[[], T]) -> T:
    """What work gives, done by another thread: Ctrl-C would wait for DuckDB's answer in this one."""
    with ThreadPoolExecutor(1) as worker:
        try:
            working = worker.submit(work)
            while not wait([working], LOOK_S).done:  # once polars is loaded, a wait without end hears no signal
                pass
            return working.result()
        except BaseException:
            connection.interrupt()
            raise


def _read(connection: duckdb.DuckDBPyConnection, statement: duckdb.Statement, max_rows: int | None) -> pl.DataFrame:
    with connection.sql(statement).to_arrow_reader(BATCH_ROWS) as reader:  # streams, unlike `execute`
        return _to_polars(_first(reader, max_rows))


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
    for place, field in enumerate(table.schema):
        if field.type == pa.month_day_nano_interval():  # which polars has no type for
            spans = [None if span is None else _span(span) for span in table.column(place).to_pylist()]
            table = table.set_column(place, field.name, pa.array(spans, pa.string()))
        elif "month_day_nano_interval" in str(field.type):
            raise QueryError(f"the column {field.name} holds intervals within {field.type}; cast them to VARCHAR.")
    try:
        frame = pl.from_arrow(table.rename_columns(_distinct(table.column_names)))
    except pl.exceptions.PolarsError as error:
        raise QueryError(f"{error}; cast that column to VARCHAR or rename it.") from error
    assert isinstance(frame, pl.DataFrame)
    return frame


def _span(span: pa.MonthDayNano) -> str:
    """An interval in words: `0:01:23.500000`, `1 months, 2 days, 0:00:00`."""
    months = f"{span.months} months, " if span.months else ""
    return f"{months}{timedelta(days=span.days, microseconds=span.nanoseconds // 1000)}"


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
