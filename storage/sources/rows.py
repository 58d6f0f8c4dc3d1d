"""Reads rows of a JSONL, JSON or Parquet file, each with its place for whoever has to repair it.

Every malformed file is a ValueError that says where, what was found and what to do.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple


class Row(NamedTuple):
    """A row and where it stands: `Row("train.jsonl, line 3", {"question": "1+1?", "answer": "2"})`."""

    place: str
    columns: dict[str, Any]


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a file, in order, read by its suffix. Raises ValueError on a missing, empty or malformed one."""
    check_suffix(path)
    if not path.is_file():
        raise ValueError(f"there is no file {path}; correct the path (a relative one starts at {Path.cwd()}).")
    is_empty = True
    for place, columns in READERS[path.suffix.lower()](path):
        is_empty = False
        if not isinstance(columns, dict):
            raise ValueError(f"{place} is {_name_type(columns)}; expected an object with named columns: correct it.")
        yield Row(place, columns)
    if is_empty:
        raise ValueError(f"{path} has no rows; expected a question and an answer in each: fill it, or name another.")


def check_suffix(path: Path) -> None:
    """Raise ValueError on a suffix that is not read. Touches no disk."""
    if path.suffix.lower() not in READERS:
        raise ValueError(f"{path} does not end in {', '.join(READERS)}; convert it to one of them, or rename it.")


def _read_jsonl(path: Path) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(_read_text(path).split("\n"), start=1):  # splitlines() would split inside strings
        if line.strip():
            place = f"{path.name}, line {number}"
            yield place, _parse(line, place, "one JSON object a line")


def _read_json(path: Path) -> Iterator[tuple[str, Any]]:
    expected = "an array of objects (where each line is an object of its own, name the file .jsonl)"
    text = _read_text(path)
    rows = _parse(text, path.name, expected) if text.strip() else []
    if not isinstance(rows, list):
        raise ValueError(f"{path.name} holds {_name_type(rows)}; expected {expected}.")
    for number, row in enumerate(rows, start=1):
        yield f"{path.name}, item {number}", row


def _read_parquet(path: Path) -> Iterator[tuple[str, Any]]:
    import pyarrow
    from pyarrow import parquet

    try:
        rows = parquet.ParquetFile(path).read().to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{path.name} cannot be read as Parquet: {reason} Write it again, or rename it.") from error
    for number, row in enumerate(rows, start=1):
        yield f"{path.name}, row {number}", row


READERS: dict[str, Callable[[Path], Iterator[tuple[str, Any]]]] = {
    ".jsonl": _read_jsonl,
    ".json": _read_json,
    ".parquet": _read_parquet,
}
"""Suffix to reader."""


def _read_text(path: Path) -> str:
    try:
        content = path.read_bytes()
        return content.decode("utf-8-sig")
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}. Correct its permissions, or the path.") from error
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path.name}, line {line} is not UTF-8 text; save it as UTF-8, or name another.") from error


def _parse(text: str, place: str, expected: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, " if error.lineno > 1 else ""
        found = f"{error.msg} at {where}column {error.colno}"
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets nested as deep
        found = str(error)
    raise ValueError(f"{place} is not valid JSON: {found}; expected {expected}.")


def _name_type(value: Any) -> str:
    names = {dict: "an object", list: "an array", str: "a text", type(None): "null", bool: "true or false"}
    return names.get(type(value), "a number")
