"""The lake: what was published is read back, whole, once, whatever happens to its writers."""

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.home import DiskFullError, Home
from storage.lake import KINDS, Lake, clean_texts, columns, to_parquet, to_records
from storage.records import TABLES
from storage.warehouse import Warehouse

HOSTILE = [
    "",
    "\0",
    "a\0b",
    "\ud800",
    "x\udfff\ud800y",
    "\U0001f600",
    "\ud83d\ude00",
    "é\r\n\t'\"\\",
    "\x1b[31m",
    "<script>",
]
FLOATS = st.floats(width=32, allow_nan=False)
VALUES: dict[Any, st.SearchStrategy[Any]] = {
    KINDS[str]: st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    KINDS[int]: st.integers(-(2**63), 2**63 - 1),
    KINDS[float]: st.floats(allow_nan=False),
    KINDS[bool]: st.booleans(),
    KINDS[datetime]: st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)),
    KINDS[list[int]]: st.lists(st.integers(-(2**31), 2**31 - 1)),
    KINDS[list[float]]: st.lists(FLOATS),
    KINDS[list[str]]: st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))),
}
WRITER = """
import sys
from itertools import count
from pathlib import Path
from storage.home import Home
from storage.lake import Lake
from storage.records import Outcome
lake = Lake(Home(Path(sys.argv[1])))
for number in count():
    name = {"evaluation_id": sys.argv[2], "problem_id": str(number)}
    row = Outcome(sample=0, solved=True, reason="", text="", num_tokens=1, **name)
    lake.publish("outcomes", f"{sys.argv[2]}-{number}", [row] * 10)
    print(number, flush=True)  # acknowledged
"""


def records(table: str) -> st.SearchStrategy[list[Any]]:
    fields = {
        column.name: st.none() | VALUES[column.kind] if column.is_nullable else VALUES[column.kind]
        for column in columns(table)
    }
    return st.lists(st.builds(TABLES[table], **fields), max_size=3)


@pytest.mark.parametrize("table", TABLES)
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_every_record_is_read_back_equal(tmp_path_factory: pytest.TempPathFactory, table: str, data: Any) -> None:
    lake = Lake(Home.open(tmp_path_factory.mktemp("home")))
    rows = data.draw(records(table))
    assert lake.publish(table, "part", rows)
    assert lake.read(table, "part") == rows


def test_hostile_texts_come_back_as_valid_text(lake: Lake, warehouse: Warehouse, sample: Any) -> None:
    rows = [sample("trajectories", trajectory_id=f"t{n}", text=text) for n, text in enumerate(HOSTILE)]
    lake.publish("trajectories", "part", rows)
    found = [row.text for row in lake.read("trajectories", "part")]
    clean = ["", "�", "a�b", "�", "x��y", "\U0001f600", "\U0001f600", "é\r\n\t'\"\\", "\x1b[31m", "<script>"]
    assert found == clean
    assert warehouse.query("SELECT text FROM trajectories ORDER BY trajectory_id")["text"].to_list() == clean


@given(st.lists(st.text(st.characters())))
def test_cleaning_twice_is_cleaning_once(texts: list[str]) -> None:
    once = clean_texts(texts)
    assert clean_texts(once) == once
    assert all("\0" not in text and text.encode() for text in once if text)


def test_the_first_part_of_a_key_wins(lake: Lake, sample: Any) -> None:
    assert lake.publish("runs", "r1", [sample("runs", state="running")])
    assert not lake.publish("runs", "r1", [sample("runs", state="finished")])
    assert [run.state for run in lake.read("runs", "r1")] == ["running"]
    assert lake.keys("runs") == ["r1"]


def test_no_rows_still_mark_a_stage_as_done(lake: Lake) -> None:
    assert not lake.has("selections", "main-1")
    assert lake.publish("selections", "main-1", [])
    assert lake.has("selections", "main-1")
    assert lake.read("selections", "main-1") == []


def test_seeding_twice_is_seeding_once(lake: Lake) -> None:
    parts = sorted(lake.home.lake.rglob("*.parquet"))
    lake.seed()
    assert sorted(lake.home.lake.rglob("*.parquet")) == parts
    assert len(parts) == len(TABLES)
    assert [lake.keys(table) for table in TABLES] == [[]] * len(TABLES)


def test_parts_are_their_owners_alone_and_leave_no_draft(lake: Lake, sample: Any) -> None:
    lake.publish("runs", "r1", [sample("runs")])
    assert lake.path("runs", "r1").stat().st_mode & 0o777 == 0o600
    assert lake.path("runs", "r1").parent.stat().st_mode & 0o777 == 0o700
    assert os.listdir(lake.home.tmp) == []


@pytest.mark.parametrize("key", ["", "a/b", "../x", "a b", "é", "x" * 201, "seed-1"])
def test_a_key_that_is_no_file_name_is_refused(lake: Lake, key: str) -> None:
    with pytest.raises(ValueError, match="cannot name a part"):
        lake.publish("runs", key, [])


def test_an_unknown_table_is_refused(lake: Lake) -> None:
    with pytest.raises(ValueError, match="no table 'cats'; expected one of problems, "):
        lake.publish("cats", "x", [])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"text": None}, "trajectories.text: found None, expected VARCHAR in every row"),
        ({"text": 3}, "trajectories.text: .*; expected VARCHAR"),
        ({"sample": "x"}, "trajectories.sample: .*; expected BIGINT"),
        ({"seed": 2**63}, "trajectories.seed: .*; expected BIGINT"),
        ({"token_ids": [2**31]}, r"trajectories.token_ids: .*; expected INTEGER\[\]"),
        ({"behaviours": None}, r"trajectories.behaviours: .*; expected VARCHAR\[\]"),
    ],
)
def test_a_value_that_does_not_fit_is_told_with_its_column(sample: Any, fields: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        to_parquet("trajectories", [sample("trajectories", **fields)])


def test_a_record_of_another_table_is_refused(sample: Any) -> None:
    with pytest.raises(ValueError, match="runs holds Run records, found a Round"):
        to_parquet("runs", [sample("rounds")])


def test_columns_of_a_newer_version_are_left_out(sample: Any) -> None:
    frame = pl.read_parquet(to_parquet("runs", [sample("runs", run_id="r1")])).with_columns(mood=pl.lit("good"))
    assert to_records("runs", frame) == [sample("runs", run_id="r1")]


def write_until_killed(home: Home, name: str, seconds: float) -> int:
    """Parts that a writer acknowledged before it was killed."""
    command = [sys.executable, "-c", WRITER, str(home.root), name]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert writer.stdout
    writer.stdout.readline()
    time.sleep(seconds)
    writer.kill()
    return 1 + sum(1 for _ in writer.communicate()[0].splitlines())


@pytest.mark.slow
def test_writers_killed_under_a_reader_lose_no_acknowledged_row(lake: Lake, warehouse: Warehouse) -> None:
    seconds = [0.3 + random.random() for _ in range(6)]
    counts = []
    with ThreadPoolExecutor(2) as pool:
        acknowledged = [pool.submit(write_until_killed, lake.home, f"w{n}", s) for n, s in enumerate(seconds)]
        while not all(writer.done() for writer in acknowledged):
            counts.append(warehouse.query("SELECT count(*) AS n FROM outcomes")["n"].item())
    assert counts == sorted(counts)
    parts = warehouse.query("SELECT evaluation_id, problem_id, count(*) AS n FROM outcomes GROUP BY ALL")
    assert set(parts["n"]) == {10}
    for number, writer in enumerate(acknowledged):  # the last part may be there without its acknowledgement
        found = sorted(map(int, parts.filter(evaluation_id=f"w{number}")["problem_id"]))
        assert found == list(range(len(found)))
        assert 0 <= len(found) - writer.result() <= 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.needs("mount")
def test_a_full_disk_is_told_and_keeps_what_was_whole(small_disk: Path, sample: Any) -> None:
    lake = Lake(Home.open(small_disk / "home"))
    lake.seed()
    noise = [sample("outcomes", text=random.randbytes(150_000).hex())]
    with pytest.raises(DiskFullError, match=r"is full: .* while writing the part outcomes/\d \(0 MB\); nothing of it"):
        for number in range(9):
            lake.publish("outcomes", str(number), noise)
    assert 0 < number < 9
    assert lake.keys("outcomes") == [str(earlier) for earlier in range(number)]
    assert os.listdir(lake.home.tmp) == []
    count = Warehouse(lake.home).query("SELECT count(*) AS n FROM outcomes")["n"].item()
    assert count == number
