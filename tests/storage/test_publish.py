"""The published database: whole, current, commented, and in a format that older DuckDBs read too."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from storage import publish as module
from storage.home import DiskFullError, Home
from storage.lake import Lake
from storage.publish import LEFT_OUT, publish
from storage.records import TABLES
from storage.warehouse import VIEWS, Warehouse

FORMAT_OF_1_0 = (b"DUCK", 64)
"""The magic word and the version number of the storage format that DuckDB 1.0 wrote."""
READER = """
import sys
import duckdb
while True:
    with duckdb.connect(sys.argv[1], read_only=True) as database:
        rows = database.execute("SELECT count(*), count(DISTINCT run_id) FROM runs").fetchone()
    print(*rows, flush=True)
"""
CLIENT = """
import json
import sys
import duckdb
with duckdb.connect(sys.argv[1], read_only=True) as database:
    counts = {name: database.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in sys.argv[2:]}
    comments = database.execute("SELECT count(comment) FROM duckdb_columns() WHERE NOT internal").fetchone()[0]
print(json.dumps([duckdb.__version__, counts, comments]))
"""


@contextmanager
def opened(home: Home) -> Iterator[duckdb.DuckDBPyConnection]:
    """The published database, as another tool reads it."""
    with duckdb.connect(home.published, read_only=True) as database:
        yield database


def ask(home: Home, query: str) -> list[Any]:
    with opened(home) as database:
        return database.execute(query).fetchall()


def test_every_table_and_view_is_there_with_all_rows(lake: Lake, sample: Any) -> None:
    for table in TABLES:
        lake.publish(table, "a", [sample(table)] * 3)
    publish(lake.home)
    for name in (*TABLES, *VIEWS):
        of_lake = Warehouse(lake.home).query(f"SELECT count(*) AS n FROM {name}").item()
        assert ask(lake.home, f"SELECT count(*) FROM {name}") == [(of_lake,)], name


def test_rows_are_as_in_the_lake(lake: Lake, sample: Any) -> None:
    texts = ["", "é \N{SNOWMAN}", "two\nlines"]
    lake.publish("trajectories", "a", [sample("trajectories", text=text, behaviours=["x", text]) for text in texts])
    lake.publish("evaluations", "a", [sample("evaluations", accuracy=0.1)])
    publish(lake.home)
    query = "SELECT text, behaviours, solved, created_at::VARCHAR FROM trajectories ORDER BY text"
    assert ask(lake.home, f"SET TimeZone = 'UTC'; {query}") == Warehouse(lake.home).query(query).rows()
    assert ask(lake.home, "SELECT accuracy, pass_at_8 FROM evaluations") == [(0.1, None)]


def test_every_table_and_column_is_commented(lake: Lake) -> None:
    publish(lake.home)
    for kind in ("tables", "views", "columns"):
        assert ask(lake.home, f"FROM duckdb_{kind}() WHERE comment IS NULL AND NOT internal") == []
        assert len(ask(lake.home, f"FROM duckdb_{kind}() WHERE comment <> '' AND NOT internal")) >= len(VIEWS)


def test_what_is_left_out_is_told(lake: Lake) -> None:
    publish(lake.home)
    for table, names in LEFT_OUT.items():
        (comment,), *_ = ask(lake.home, f"SELECT comment FROM duckdb_tables() WHERE table_name = '{table}'")
        assert comment.endswith(f" Only in the lake: {', '.join(names)}.")


def test_it_is_its_owners_and_nobody_writes_to_it(lake: Lake) -> None:
    publish(lake.home)
    assert lake.home.published.stat().st_mode & 0o777 == 0o400
    assert list(lake.home.tmp.iterdir()) == []


def test_it_has_the_format_of_duckdb_1_0_also_when_added_to(lake: Lake, sample: Any) -> None:
    for number in range(3):
        lake.publish("runs", str(number), [sample("runs")])
        publish(lake.home)
        header = lake.home.published.read_bytes()[8:20]
        assert (header[:4], int.from_bytes(header[4:], "little")) == FORMAT_OF_1_0


def test_what_is_new_is_added_to_what_is_there(lake: Lake, sample: Any) -> None:
    lake.publish("runs", "a", [sample("runs", run_id="a")])
    publish(lake.home)
    lake.path("runs", "a").write_bytes(b"nobody reads this again")
    lake.publish("runs", "b", [sample("runs", run_id="b")])
    publish(lake.home)
    publish(lake.home)
    assert ask(lake.home, "SELECT run_id FROM runs ORDER BY run_id") == [("a",), ("b",)]


def test_what_nothing_goes_by_yet_is_left_out(lake: Lake, sample: Any) -> None:
    lake.publish("steps", "a", [sample("steps", text="of another policy")])
    publish(lake.home)
    assert ask(lake.home, "SELECT text FROM steps") == []
    lake.republish("steps", "a", [sample("steps", text="kept")])
    lake.publish("trajectories", "a", [sample("trajectories")])
    publish(lake.home)
    assert ask(lake.home, "SELECT text FROM steps") == [("kept",)]


def spoil(home: Home) -> None:
    home.published.chmod(0o600)
    content = home.published.read_bytes()
    home.published.write_bytes(content[: len(content) // 2])


def replace(home: Home) -> None:
    home.published.unlink()
    with duckdb.connect(home.published) as database:
        database.execute("CREATE TABLE runs AS SELECT 1 AS stranger")


def forget(home: Home) -> None:
    (home.lake / "runs" / "b.parquet").unlink()


@pytest.mark.parametrize(("harm", "left"), [(spoil, ["a", "b", "c"]), (replace, ["a", "b", "c"]), (forget, ["a", "c"])])
def test_it_is_made_anew_where_it_is_not_of_this_lake(lake: Lake, sample: Any, harm: Any, left: list[str]) -> None:
    for name in ("a", "b"):
        lake.publish("runs", name, [sample("runs", run_id=name)])
    publish(lake.home)
    harm(lake.home)
    lake.publish("runs", "c", [sample("runs", run_id="c")])
    publish(lake.home)
    assert ask(lake.home, "SELECT run_id FROM runs ORDER BY run_id") == [(name,) for name in left]


def test_it_is_made_anew_for_other_tables(lake: Lake, sample: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(lake.home)
    with monkeypatch.context() as patched:
        patched.setattr(module, "_layout", lambda: "another")
        publish(lake.home)
    assert ask(lake.home, "SELECT DISTINCT layout FROM published.parts") == [("another",)]
    publish(lake.home)
    assert ask(lake.home, "SELECT DISTINCT layout FROM published.parts") == [(module._layout(),)]


def test_parts_of_an_older_version_lack_columns(lake: Lake, sample: Any) -> None:
    publish(lake.home)
    lake.publish("runs", "new", [sample("runs", run_id="new", version="2")])

    old = pl.read_parquet(lake.path("runs", "new")).drop("version").with_columns(run_id=pl.lit("old"))
    lake.path("runs", "new").unlink()
    old.write_parquet(lake.path("runs", "old"))
    publish(lake.home)
    assert ask(lake.home, "SELECT run_id, version FROM runs") == [("old", None)]


def test_who_reads_the_last_one_keeps_it(lake: Lake, sample: Any) -> None:
    publish(lake.home)
    with opened(lake.home) as before:
        lake.publish("runs", "a", [sample("runs")])
        publish(lake.home)
        assert before.execute("SELECT count(*) FROM runs").fetchall() == [(0,)]


def test_a_log_that_a_stranger_left_is_not_replayed(lake: Lake) -> None:
    publish(lake.home)
    log = lake.home.root / "warehouse.duckdb.wal"
    log.write_bytes(b"of another file")
    publish(lake.home)
    assert not log.exists()
    assert ask(lake.home, "SELECT count(*) FROM runs") == [(0,)]


def test_readers_never_see_a_part_of_it(lake: Lake, sample: Any) -> None:
    publish(lake.home)
    command = [sys.executable, "-c", READER, str(lake.home.published)]
    reader = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert reader.stdout
    seen = []
    for number in range(20):
        lake.publish("runs", f"r{number}", [sample("runs", run_id=f"r{number}")])
        publish(lake.home)
        seen.append(reader.stdout.readline())
    while not seen[-1].startswith("20 "):
        seen.append(reader.stdout.readline())
        assert reader.poll() is None
    reader.kill()
    reader.wait()
    assert all(rows == distinct for rows, distinct in map(str.split, seen))


@pytest.mark.needs("mount")
def test_a_full_disk_is_told_and_the_last_one_stays(small_disk: Path, sample: Any) -> None:
    lake = Lake(Home.open(small_disk / "home"))
    lake.seed()
    lake.publish("runs", "a", [sample("runs", run_id="a")])
    publish(lake.home)
    filler = small_disk / "filler"
    filler.write_bytes(b"0" * (lake.home.free_bytes() - 500_000))
    lake.publish("runs", "b", [sample("runs", run_id="b")])
    for _ in range(2):
        with pytest.raises(
            DiskFullError, match=r"full: .* free while writing warehouse\.duckdb; nothing of it was kept"
        ):
            publish(lake.home)
        assert list(lake.home.tmp.iterdir()) == []
    assert ask(lake.home, "SELECT run_id FROM runs") == [("a",)]
    filler.unlink()
    publish(lake.home)
    assert ask(lake.home, "SELECT run_id FROM runs ORDER BY run_id") == [("a",), ("b",)]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, of 8 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", folder], check=True)
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.slow  # it installs the newest DuckDB 1.x
def test_duckdb_1_reads_it(lake: Lake, sample: Any, tmp_path: Path) -> None:
    for table in TABLES:
        lake.publish(table, "a", [sample(table)] * 3)
    publish(lake.home)
    target = ["--target", str(tmp_path / "packages"), "--no-deps", "--only-binary", ":all:"]
    installed = subprocess.run([sys.executable, "-m", "pip", "install", "-q", *target, "duckdb>=1.4,<2"], text=True)
    if installed.returncode:
        pytest.skip("pip cannot install DuckDB 1.x here")
    command = [sys.executable, "-c", CLIENT, str(lake.home.published), *TABLES, *VIEWS]
    client = subprocess.run(command, env={"PYTHONPATH": str(tmp_path / "packages")}, capture_output=True, text=True)
    assert client.returncode == 0, client.stderr
    version, counts, num_comments = json.loads(client.stdout)
    assert version.startswith("1.")
    assert counts == {name: ask(lake.home, f"SELECT count(*) FROM {name}")[0][0] for name in (*TABLES, *VIEWS)}
    assert num_comments > 150
