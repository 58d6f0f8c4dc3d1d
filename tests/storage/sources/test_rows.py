"""Rows of question files, and every way in which a file can be malformed."""

import json
import re
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from storage.sources.rows import Row, read_rows

ROWS = [{"question": "1+1?", "answer": "2"}, {"question": "2+2?\u2028", "answer": "4"}]


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_json_lines_are_counted_and_blank_ones_skipped(tmp_path: Path) -> None:
    lines = [json.dumps(row, ensure_ascii=False) for row in ROWS]
    path = write(tmp_path / "a.JSONL", "\ufeff" + lines[0] + "\r\n\n" + lines[1])
    assert list(read_rows(path)) == [Row("a.JSONL, line 1", ROWS[0]), Row("a.JSONL, line 3", ROWS[1])]


def test_items_of_a_json_array_are_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", json.dumps(ROWS, indent=2))
    assert list(read_rows(path)) == [Row("a.json, item 1", ROWS[0]), Row("a.json, item 2", ROWS[1])]


def test_rows_of_a_parquet_file_are_counted(tmp_path: Path) -> None:
    parquet.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    assert list(read_rows(tmp_path / "a.parquet")) == [
        Row("a.parquet, row 1", ROWS[0]),
        Row("a.parquet, row 2", ROWS[1]),
    ]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.jsonl", "", "has no rows"),
        ("a.jsonl", "\n \n", "has no rows"),
        ("a.json", "", "has no rows"),
        ("a.json", "[]", "has no rows"),
        ("a.jsonl", '{"question": "1+1?"}\n{"question": ', "a.jsonl, line 2 is not valid JSON: Expecting value"),
        ("a.jsonl", '{"question": "1+1?"} {}', "a.jsonl, line 1 is not valid JSON: Extra data"),
        ("a.jsonl", "[" * 100_000, "a.jsonl, line 1 is not valid JSON: maximum recursion depth"),
        ("a.jsonl", "9" * 5_000, "a.jsonl, line 1 is not valid JSON: Exceeds the limit"),
        ("a.jsonl", '{}\n["1+1?", "2"]', "a.jsonl, line 2 is an array; expected an object"),
        ("a.jsonl", "{}\n42", "a.jsonl, line 2 is a number; expected an object"),
        ("a.json", "[{}, null]", "a.json, item 2 is null; expected an object"),
        ("a.json", '{"data": []}', "a.json holds an object; expected an array of objects"),
        ("a.json", "[{},\n{]", "a.json is not valid JSON: Expecting property name enclosed in double quotes at line 2"),
        ("a.json", "{}\n{}", "name the file .jsonl"),
        ("a.jsonl", b'{"question": "1+1?"}\n{"question": "\xe9"}', "a.jsonl, line 2 is not UTF-8 text; save it as"),
        ("a.json", bytes(range(256)), "a.json, line 2 is not UTF-8 text"),
        ("a.parquet", bytes(range(256)), "a.parquet cannot be read as Parquet"),
        ("a.parquet", b"", "a.parquet cannot be read as Parquet"),
        ("a.csv", "question,answer", "does not end in .jsonl, .json, .parquet; convert it"),
    ],
)
def test_a_malformed_file_is_told_with_the_place_and_the_fix(
    tmp_path: Path, name: str, content: str | bytes, reason: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        list(read_rows(write(tmp_path / name, content)))


def test_a_missing_file_and_a_folder_are_told(tmp_path: Path) -> None:
    (tmp_path / "folder.json").mkdir()
    for name in ("missing.jsonl", "folder.json"):
        with pytest.raises(ValueError, match=r"there is no file .*; correct the path"):
            list(read_rows(tmp_path / name))
