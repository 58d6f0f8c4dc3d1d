"""The lake: append-only Parquet parts, one folder a table, the truth about all that was done.

A part is published whole and once: built aside, synced, linked to its name. The
first part of a name wins and nothing is overwritten, so that a stage may be
killed anywhere and done twice. Views over the parts are storage/warehouse.py's.
"""

import io
import re
import types
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from storage.files import OWNER_ONLY_FOLDER, replace, sync, write_once
from storage.home import Home, megabytes
from storage.records import TABLES, make_id

SEED = "seed-"
"""Keys of parts without rows start so; they make an empty table a table, with the columns of this version."""
KEY_PATTERN = re.compile(r"[A-Za-z0-9._-]{1,200}")
SUFFIX = ".parquet"
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class Kind(NamedTuple):
    """How one Python type is stored, and what SQL calls it."""

    arrow: Any
    sql: str


KINDS: dict[Any, Kind] = {
    str: Kind(pa.string(), "VARCHAR"),
    int: Kind(pa.int64(), "BIGINT"),
    float: Kind(pa.float64(), "DOUBLE"),
    bool: Kind(pa.bool_(), "BOOLEAN"),
    datetime: Kind(pa.timestamp("us", tz="UTC"), "TIMESTAMP WITH TIME ZONE"),
    list[int]: Kind(pa.list_(pa.int32()), "INTEGER[]"),
    list[float]: Kind(pa.list_(pa.float32()), "FLOAT[]"),
    list[str]: Kind(pa.list_(pa.string()), "VARCHAR[]"),
}


class Column(NamedTuple):
    """A field of a record as a column: `Column("round", KINDS[int], False, "Its number in the line.")`."""

    name: str
    kind: Kind
    is_nullable: bool
    text: str


@cache
def columns(table: str) -> tuple[Column, ...]:
    """The columns of a table, read from its record's annotations."""
    hints = typing.get_type_hints(record_of(table), include_extras=True)
    return tuple(_column(name, hint) for name, hint in hints.items())


def seed_key(table: str) -> str:
    """Names the part without rows: another one for other columns, so that a newer version adds its own."""
    return SEED + make_id("seed", *((column.name, column.kind, column.is_nullable) for column in columns(table)))


def record_of(table: str) -> type:
    """The record type of a table; ValueError names the tables there are."""
    if table not in TABLES:
        raise ValueError(f"no table {table!r}; expected one of {', '.join(TABLES)}")
    return TABLES[table]


@dataclass(frozen=True)
class Lake:
    """The parts of a home: `Lake(home).publish("rounds", "main-3", [round])`."""

    home: Home

    def publish(self, table: str, key: str, rows: Sequence[Any]) -> bool:
        """Writes rows as one part, durably; False, changing nothing, where the key has a part already.

        No rows still make a part, which marks a stage as done. Raises ValueError
        for rows that do not fit the table, DiskFullError for a full disk.
        """
        if key.startswith(SEED):
            raise ValueError(f"cannot name a part {key!r}; {SEED!r} begins the parts that hold the schema")
        return self._write(table, key, rows)

    def republish(self, table: str, key: str, rows: Sequence[Any]) -> None:
        """Writes rows as one part in the place of one that nothing goes by yet, as an unfinished stage left it.

        One that differs in nothing but when and how fast it was made stays.
        """
        content = to_parquet(table, rows)
        if self.has(table, key) and _lasting(self.path(table, key).read_bytes()).equals(_lasting(content)):
            return
        with self.home.explained_full_disk(f"the part {table}/{key} ({megabytes(len(content))})"):
            self._make_folder(table)
            replace(self.path(table, key), content)

    def has(self, table: str, key: str) -> bool:
        """Whether this part was published."""
        return self.path(table, key).exists()

    def keys(self, table: str) -> list[str]:
        """Keys of the parts published, sorted."""
        record_of(table)
        found = (path.name.removesuffix(SUFFIX) for path in (self.home.lake / table).glob("*" + SUFFIX))
        return sorted(key for key in found if not key.startswith(SEED))

    def read(self, table: str, key: str) -> list[Any]:
        """The records of one part, equal to those published (but for floats of lists, kept in 32 bits)."""
        return to_records(table, pl.read_parquet(self.path(table, key).read_bytes()))

    def seed(self) -> None:
        """Gives each table a part without rows."""
        for table in TABLES:
            self._write(table, seed_key(table), ())

    def is_seeded(self) -> bool:
        """Whether some version gave tables their part without rows."""
        return any(self.home.lake.glob(f"*/{SEED}*{SUFFIX}"))

    def path(self, table: str, key: str) -> Path:
        """Where a part lies, published or not."""
        record_of(table)
        if not KEY_PATTERN.fullmatch(key):
            raise ValueError(f"cannot name a part {key!r}; expected 1 to 200 of the characters A-Z a-z 0-9 . _ -")
        return self.home.lake / table / (key + SUFFIX)

    def _write(self, table: str, key: str, rows: Sequence[Any]) -> bool:
        if self.has(table, key):
            return False
        content = to_parquet(table, rows)
        with self.home.explained_full_disk(f"the part {table}/{key} ({megabytes(len(content))})"):
            self._make_folder(table)
            return write_once(self.path(table, key), content, self.home.tmp)

    def _make_folder(self, table: str) -> None:
        folder = self.home.lake / table
        if not folder.is_dir():
            folder.mkdir(mode=OWNER_ONLY_FOLDER, exist_ok=True)
            sync(folder.parent)


def to_records(table: str, frame: pl.DataFrame) -> list[Any]:
    """Rows as records; columns that this version does not know are left out."""
    known = [column.name for column in columns(table) if column.name in frame.columns]
    return [record_of(table)(**row) for row in frame.select(known).iter_rows(named=True)]


def to_parquet(table: str, rows: Sequence[Any]) -> bytes:
    """Records as the bytes of a Parquet file, built column by column."""
    for row in rows:
        if type(row) is not record_of(table):
            raise ValueError(f"{table} holds {record_of(table).__name__} records, found a {type(row).__name__}")
    arrays = [_array(table, column, [getattr(row, column.name) for row in rows]) for column in columns(table)]
    schema = pa.schema([pa.field(name, kind.arrow, nullable) for name, kind, nullable, _ in columns(table)])
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_arrays(arrays, schema=schema), buffer, compression="zstd", store_schema=False)
    return buffer.getvalue()


def _array(table: str, column: Column, values: list[Any]) -> Any:
    try:
        if column.kind == KINDS[str]:
            values = clean_texts(values)
        elif column.kind == KINDS[list[str]]:
            values = [clean_texts(texts) for texts in values]
        array = pa.array(values, type=column.kind.arrow)
    except (pa.ArrowException, TypeError, OverflowError) as error:
        raise ValueError(f"{table}.{column.name}: {error}; expected {column.kind.sql}") from error
    if array.null_count and not column.is_nullable:
        raise ValueError(f"{table}.{column.name}: found None, expected {column.kind.sql} in every row")
    return array


def clean_texts(texts: list[Any]) -> list[Any]:
    """Texts that are valid UTF-8 without NUL; lone surrogates and NUL become U+FFFD. Others pass as they are."""
    return [text if _is_clean(text) else _clean(text) for text in texts]


def _is_clean(text: Any) -> bool:
    return not isinstance(text, str) or (text.isascii() and "\0" not in text)


def _clean(text: str) -> str:
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\0", REPLACEMENT)


def _column(name: str, hint: Any) -> Column:
    kind, text = typing.get_args(hint)
    is_nullable = isinstance(kind, types.UnionType)
    if is_nullable:
        (kind,) = _without_none(kind)
    return Column(name, KINDS[kind], is_nullable, text)


def _without_none(union: Any) -> Iterator[Any]:
    return (kind for kind in typing.get_args(union) if kind is not type(None))


def _lasting(content: bytes) -> pl.DataFrame:
    """A part but for what is another each time."""
    return pl.read_parquet(content).drop("created_at", "seconds", strict=False)
