"""The published database: HOME/warehouse.duckdb, for other tools: DBeaver, a notebook, the duckdb shell.

Tables, not views over the lake: those would have to name its folder, and a home may be moved. It is built aside and
renamed into place, so nobody sees a part of it, whoever reads the last one keeps that, and we never lock it. The
last one is copied and only new parts are added, so that publishing a round costs what the round made.
"""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import duckdb

from storage.files import OWNER_ONLY_FOLDER, clear_folder, sync
from storage.home import Home
from storage.lake import SEED, SUFFIX, Column, columns, seed_key
from storage.records import TABLES, make_id
from storage.warehouse import HOW, about, derived_sql, quoted

STORAGE_VERSION = "v1.0.0"
"""The format that every DuckDB since 1.0 reads; the one that 2.0 writes by itself, 1.x does not."""
READ_ONLY = 0o400
"""A tool that opened it for writing would shut out all others, and leave a log that does not fit the next file."""
LEFT_OUT = {"trajectories": ("token_ids", "logprobs")}
"""Half of the lake's bytes, and nothing for a table on a screen."""
SEALS = {"steps": "trajectories", "training_steps": "checkpoints", "outcomes": "evaluations"}
"""What nothing goes by until the other table has a part of that name: until then a stage may write it anew."""
PARTS = "published.parts"


class Part(NamedTuple):
    """A part of the lake: `Part("rounds", "main-r0003.parquet")`."""

    table: str
    name: str


class OutdatedError(Exception):
    """The last publication is not one to build upon."""


def publish(home: Home) -> Path:
    """Brings HOME/warehouse.duckdb up to the lake; for the home's one writer. Raises DiskFullError."""
    home.tmp.mkdir(mode=OWNER_ONLY_FOLDER, exist_ok=True)
    with (
        home.explained_full_disk(home.published.name),
        TemporaryDirectory(prefix="publish-", dir=home.tmp) as folder,
    ):
        draft = Path(folder) / home.published.name
        _build(draft, home)
        draft.chmod(READ_ONLY)
        sync(draft)
        home.published.with_name(home.published.name + ".wal").unlink(missing_ok=True)  # a stranger's, of the last file
        os.replace(draft, home.published)
        sync(home.root)
    return home.published


def _build(draft: Path, home: Home) -> None:
    parts = _parts(home)
    try:
        shutil.copyfile(home.published, draft)
        with _opened(draft) as database:
            _insert(database, home, parts - _held(database, parts))
    except (FileNotFoundError, duckdb.Error, OutdatedError):
        clear_folder(draft.parent)
        with _opened(draft) as database:
            database.execute(_layout_sql())
            _insert(database, home, parts)


def _parts(home: Home) -> set[Part]:
    """What there is, less what nothing goes by yet: children before parents, so that no row's parent is missed."""
    found = {
        Part(table, entry.name)
        for table in reversed(TABLES)
        for entry in os.scandir(home.lake / table)
        if entry.name.endswith(SUFFIX)
    }
    return {
        part
        for part in found
        if part.name.startswith(SEED) or Part(SEALS.get(part.table, part.table), part.name) in found
    }


@contextmanager
def _opened(draft: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """The draft, whole at the end. Raises OSError for a full disk, which DuckDB tells in words only."""
    settings: dict[str, Any] = {"threads": 1, "temp_directory": str(draft.parent)}
    try:
        with duckdb.connect(draft, config={"storage_compatibility_version": STORAGE_VERSION, **settings}) as database:
            yield database
            database.execute("CHECKPOINT")
    except duckdb.Error as error:
        if os.strerror(errno.ENOSPC) in str(error):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        raise


def _held(database: duckdb.DuckDBPyConnection, parts: set[Part]) -> set[Part]:
    """Parts that a publication of this very layout and lake holds. Raises OutdatedError."""
    found = database.execute(f"SELECT layout, table_name, part FROM {PARTS}").fetchall()
    held = {Part(table, name) for layout, table, name in found if layout == _layout()}
    if not found or len(held) != len(found) or not held <= parts:
        raise OutdatedError
    return held


def _insert(database: duckdb.DuckDBPyConnection, home: Home, parts: set[Part]) -> None:
    for table in TABLES:
        names = sorted(part.name for part in parts if part.table == table)
        if not names:
            continue
        files = {seed_key(table) + SUFFIX, *names}  # a part of an older version may lack a column
        selected = ", ".join(column.name for column in _published(table))
        database.execute(
            f"INSERT INTO {table} SELECT {selected} FROM read_parquet($1, {HOW})",
            [[str(home.lake / table / name) for name in sorted(files)]],
        )
        database.execute(f"INSERT INTO {PARTS} SELECT $1, $2, unnest($3)", [_layout(), table, names])


def _layout() -> str:
    """Another one for other tables, views, comments or format."""
    return make_id("layout", STORAGE_VERSION, _layout_sql())


@cache
def _layout_sql() -> str:
    return "\n".join([*map(_table_sql, TABLES), derived_sql(), PARTS_SQL])


def _table_sql(table: str) -> str:
    types = ", ".join(f"{column.name} {column.kind.sql}" for column in _published(table))
    left_out = f" Only in the lake: {', '.join(LEFT_OUT[table])}." if table in LEFT_OUT else ""
    comments = [f"COMMENT ON COLUMN {table}.{name} IS {quoted(text)};" for name, _, _, text in _published(table)]
    comment = f"COMMENT ON TABLE {table} IS {quoted(about(table) + left_out)};"
    return "\n".join([f"CREATE TABLE {table} ({types});", comment, *comments])


def _published(table: str) -> list[Column]:
    return [column for column in columns(table) if column.name not in LEFT_OUT.get(table, ())]


PARTS_SQL = f"""
CREATE SCHEMA published;
CREATE TABLE {PARTS} (layout VARCHAR, table_name VARCHAR, part VARCHAR);
COMMENT ON TABLE {PARTS} IS 'The parts of the lake that this file was made from.';
COMMENT ON COLUMN {PARTS}.layout IS 'Digest of the tables and views; for another the file is made anew.';
COMMENT ON COLUMN {PARTS}.table_name IS 'The table.';
COMMENT ON COLUMN {PARTS}.part IS 'The part: a file in the folder of the table.';
"""
