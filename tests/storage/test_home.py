"""The home: made once, moved freely, written by one."""

import json
import os
import shutil
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from storage.files import clear_folder, write_once
from storage.home import FORMAT, DiskFullError, Home, HomeBusyError, HomeError, default_home

HOLDER = """
import os, sys, time
from pathlib import Path
from storage.home import Home
with Home(Path(sys.argv[1])).writer():
    if len(sys.argv) == 2 or os.fork() == 0:  # with another argument, a child that outlives its parent
        print("holding", flush=True)
    time.sleep(20)
"""


def hold(home: Home, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLDER, str(home.root), *arguments]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert holder.stdout and holder.stdout.readline() == "holding\n"
    return holder


def test_a_home_is_made_once_and_keeps_its_identity_when_moved(tmp_path: Path) -> None:
    home_id = Home.open(tmp_path / "here").home_id
    shutil.move(tmp_path / "here", tmp_path / "there")
    assert Home.open(tmp_path / "there").home_id == home_id


def test_a_home_and_all_in_it_is_its_owners_alone(home: Home) -> None:
    write_once(home.lake / "part", b"x", home.tmp)
    with home.writer():
        pass
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (home.root, *home.root.rglob("*"))}
    folders = dict.fromkeys(["home", "lake", "checkpoints", "prefect", "logs", "tmp", "report"], 0o700)
    assert modes == folders | dict.fromkeys(["home.json", "writer.lock", "part"], 0o600)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(HomeError, match=r"not empty and has no home.json \(found 'thesis.tex'\)"):
        Home.open(tmp_path)
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_reading_makes_no_home(tmp_path: Path) -> None:
    with pytest.raises(HomeError, match=r"there is no home at .*`flywheel run` makes one"):
        Home.open(tmp_path / "none", create=False)
    assert not (tmp_path / "none").exists()


def test_a_file_cannot_be_a_home(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HomeError, match=r"cannot use .*file as a home"):
        Home.open(tmp_path / "file")


@pytest.mark.parametrize(
    ("identity", "message"),
    [
        (json.dumps({"format": FORMAT + 1, "home_id": "x"}), f"has format {FORMAT + 1}; this code reads formats up to"),
        ("{", "is broken"),
        ("[]", "expected format and home_id"),
        ('{"format": "1", "home_id": "x"}', "expected format and home_id"),
    ],
)
def test_a_newer_or_broken_home_is_refused(home: Home, identity: str, message: str) -> None:
    (home.root / "home.json").write_text(identity)
    with pytest.raises(HomeError, match=message):
        Home.open(home.root)


def test_only_paths_inside_the_home_are_stored_and_resolved(home: Home) -> None:
    assert home.relative(home.checkpoints / "c1") == "checkpoints/c1"
    assert home.resolve("checkpoints/c1") == home.checkpoints / "c1"
    for path in ("../elsewhere", "/etc/passwd", "lake/../../elsewhere"):
        with pytest.raises(HomeError, match="leads out of the home"):
            home.resolve(path)
    with pytest.raises(HomeError, match="is not inside the home"):
        home.relative(home.root.parent / "elsewhere")


def test_the_variable_names_the_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLYWHEEL_HOME", raising=False)
    assert default_home() == Path(".flywheel")
    monkeypatch.setenv("FLYWHEEL_HOME", "/somewhere")
    assert default_home() == Path("/somewhere")


def test_a_second_writer_is_told_who_writes(home: Home) -> None:
    with home.writer(), pytest.raises(HomeBusyError, match=f"process {os.getpid()}, since .*choose another home"):
        home.writer().__enter__()
    with home.writer():
        pass


def test_refused_writers_leave_nothing_open(home: Home) -> None:
    with home.writer():
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            with pytest.raises(HomeBusyError):
                home.writer().__enter__()
        assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("arguments", [(), ("fork",)])
def test_the_home_is_free_once_its_writer_is_killed(home: Home, arguments: tuple[str, ...]) -> None:
    holder = hold(home, *arguments)
    with pytest.raises(HomeBusyError, match=f"process {holder.pid}"):
        home.writer().__enter__()
    holder.kill()
    holder.wait()
    with home.writer():
        pass


def test_a_writer_that_gives_way_lets_those_who_wait_write_first(home: Home) -> None:
    order: list[str] = []

    def write() -> None:
        with home.writer(on_wait=lambda holder: waits.set()):
            order.append("waited")

    waits = threading.Event()
    waiter = threading.Thread(target=write)
    with home.writer():
        home.give_way(lambda holder: pytest.fail("nobody waits"))
        waiter.start()
        assert waits.wait(timeout=20)
        order.append("first")
        home.give_way(lambda holder: None)
        order.append("again")
        assert json.loads((home.root / "writer.lock").read_text())["pid"] == os.getpid()
    waiter.join()
    assert order == ["first", "waited", "again"]


def test_a_wait_tells_for_whom_and_can_be_ended(home: Home) -> None:
    def give_up(holder: str) -> None:
        raise TimeoutError(holder)

    with home.writer():
        with pytest.raises(TimeoutError, match=f"process {os.getpid()}, since"):
            home.writer(give_up).__enter__()
        home.give_way(lambda holder: pytest.fail("nobody waits any more"))


def test_a_wait_that_ends_while_giving_way_leaves_the_other_its_lock(home: Home) -> None:
    waits, writes, is_over = threading.Event(), threading.Event(), threading.Event()

    def write() -> None:
        with home.writer(on_wait=lambda holder: waits.set()):
            writes.set()
            is_over.wait(timeout=20)

    def stop_once_it_writes(holder: str) -> None:
        if writes.is_set():
            raise TimeoutError(holder)

    waiter = threading.Thread(target=write)
    with pytest.raises(TimeoutError), home.writer():
        waiter.start()
        assert waits.wait(timeout=20)
        home.give_way(stop_once_it_writes)
    with pytest.raises(HomeBusyError, match=f"process {os.getpid()}, since"):
        home.writer().__enter__()
    is_over.set()
    waiter.join()
    with home.writer():
        pass


def test_a_claim_is_one_process_s_and_ends_with_it(home: Home) -> None:
    assert home.claimed("served") == ""
    with home.claim("served") as say:
        say("a long line")
        say("here")
        assert home.claimed("served") == "here"
        with pytest.raises(HomeBusyError, match="served is claimed"):
            home.claim("served").__enter__()
    assert home.claimed("served") == ""


def test_a_writer_starts_with_an_empty_workspace(home: Home) -> None:
    (home.tmp / "half").mkdir()
    (home.tmp / "half" / "file").touch()
    (home.tmp / "link").symlink_to(home.lake)
    with home.writer():
        assert os.listdir(home.tmp) == []
    assert home.lake.is_dir()


def test_a_writer_makes_the_folders_that_were_deleted(home: Home) -> None:
    for folder in (home.prefect, home.logs, home.tmp, home.report):
        folder.rmdir()
    with Home.open(home.root, create=False).writer():
        assert all(folder.is_dir() for folder in (home.prefect, home.logs, home.tmp, home.report))


def test_clearing_a_folder_that_is_not_there_does_nothing(tmp_path: Path) -> None:
    clear_folder(tmp_path / "none")
    assert list(tmp_path.iterdir()) == []


def test_the_first_content_of_a_name_stays(home: Home) -> None:
    path = home.lake / "part"
    assert write_once(path, b"first", home.tmp)
    assert not write_once(path, b"second", home.tmp)
    assert path.read_bytes() == b"first"
    assert os.listdir(home.tmp) == []


def test_missing_space_is_told_before_it_is_needed(home: Home) -> None:
    home.require_space(1, "a round", floor_bytes=0)
    with pytest.raises(DiskFullError, match=r"a round needs 1,000,000,000,000 MB and 256 MB .* Free some space there"):
        home.require_space(10**18, "a round", floor_bytes=256_000_000)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("I/O error (os error 28)")])
def test_a_full_disk_is_explained(home: Home, error: Exception) -> None:
    message = r"is full: .* while writing a part; nothing of it was kept"
    with pytest.raises(DiskFullError, match=message), home.explained_full_disk("a part"):
        raise error


def test_other_errors_pass_as_they_are(home: Home) -> None:
    with pytest.raises(KeyError), home.explained_full_disk("a part"):
        raise KeyError("x")
