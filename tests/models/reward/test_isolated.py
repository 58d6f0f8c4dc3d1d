"""Workers that contain what they check."""

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest

from models.reward.isolated import Isolated
from models.reward.protocol import Judgement

ROOT = Path(__file__).parents[3]


def load() -> None:
    """These checkers need nothing."""


def check(command: str, argument: str) -> Judgement:
    """What a checker may be made to do."""
    return COMMANDS[command](argument)


def solve(argument: str) -> Judgement:
    return Judgement(solved=True, reason="solved", answer=argument)


def loop(argument: str) -> Judgement:
    while True:
        pass


def compute(argument: str) -> Judgement:
    return solve(str(9 ** int(argument)))  # one C call that never looks at a signal


def fill_memory(argument: str) -> Judgement:
    held = []
    while True:
        held.append(bytes(1 << 24))


def die(argument: str) -> Judgement:
    os._exit(int(argument))


def fail(argument: str) -> Judgement:
    raise Awkward(argument, 1)


def leave(argument: str) -> Judgement:
    sys.exit(argument)


def write(argument: str) -> Judgement:
    Path(argument).write_text("x")
    return solve(argument)


def append(argument: str) -> Judgement:
    os.close(os.open(argument, os.O_CREAT | os.O_WRONLY))
    return solve(argument)


def remove(argument: str) -> Judgement:
    os.remove(argument)
    return solve(argument)


def shell(argument: str) -> Judgement:
    return solve(str(os.system(f"touch {argument}")))


def spawn(argument: str) -> Judgement:
    return solve(str(subprocess.run(["touch", argument], check=True)))


def fork(argument: str) -> Judgement:
    return solve(str(os.fork()))


def connect(argument: str) -> Judgement:
    with socket.socket() as connection:
        connection.connect(("127.0.0.1", 9))
    return solve(argument)


def kill_parent(argument: str) -> Judgement:
    os.kill(os.getppid(), signal.SIGTERM)
    return solve(argument)


def read(argument: str) -> Judgement:
    return solve(Path(argument).read_text())


def report(argument: str) -> Judgement:
    return solve(" ".join(name for name in argument.split() if name in sys.modules))


COMMANDS: dict[str, Callable[[str], Judgement]] = {
    command.__name__: command
    for command in [
        *(solve, loop, compute, fill_memory, die, fail, leave, read, report),
        *(write, append, remove, shell, spawn, fork, connect, kill_parent),
    ]
}


class Awkward(Exception):
    """An error that does not unpickle."""

    def __init__(self, text: str, number: int) -> None:
        super().__init__(text)


@pytest.fixture(scope="module")
def isolated() -> Iterator[Isolated]:
    isolated = Isolated(check, load, timeout_s=1.5, memory_bytes=256 << 20, num_workers=2)
    yield isolated
    isolated.close()


def reasons(isolated: Isolated, *items: tuple[str, str]) -> list[str]:
    return [judgement.reason for judgement in isolated.judge(items)]


def test_one_judgement_an_item_in_order(isolated: Isolated) -> None:
    items = [("solve", str(index % 7)) for index in range(50)]
    assert isolated.judge(items) == [
        Judgement(solved=True, reason="solved", answer=str(index % 7)) for index in range(50)
    ]
    assert isolated.judge([]) == []


def test_what_is_judged_already_stays(isolated: Isolated) -> None:
    known = Judgement(solved=False, reason="unparsed")
    assert isolated.judge([known, ("solve", "a"), known])[::2] == [known, known]


def test_nothing_to_check_starts_no_worker() -> None:
    children = multiprocessing.active_children()
    isolated = Isolated(check, load)
    isolated.judge([Judgement(solved=False, reason="unparsed")])
    assert multiprocessing.active_children() == children


@pytest.mark.parametrize(
    ("bad", "expected"),
    [
        (("loop", ""), "timeout"),
        (("compute", "99999999999"), "timeout"),
        (("fill_memory", ""), "error"),
        (("die", "3"), "error"),
        (("fail", "x"), "error"),
        (("leave", "x"), "error"),
    ],
)
def test_a_bad_item_costs_its_own_mark_and_no_other(isolated: Isolated, bad: tuple[str, str], expected: str) -> None:
    items = [("solve", "a"), ("solve", "b"), bad, ("solve", "c"), bad, ("solve", "d")]
    assert reasons(isolated, *items) == ["solved", "solved", expected, "solved", expected, "solved"]


def test_an_error_says_what_happened(isolated: Isolated) -> None:
    judgements = isolated.judge([("fill_memory", "x"), ("die", "5"), ("fail", "y" * 500), ("nonsense", "")])
    answers = [judgement.answer for judgement in judgements]
    assert answers[:2] == ["out of memory", "the checker died with exit status 5"]
    assert answers[2] == ("Awkward: " + "y" * 500)[:200]
    assert answers[3] == "KeyError: 'nonsense'"


@pytest.mark.parametrize("attack", ["write", "append", "remove", "shell", "spawn", "fork", "connect", "kill_parent"])
def test_side_effects_are_refused(isolated: Isolated, tmp_path: Path, attack: str) -> None:
    target, kept = tmp_path / "target", tmp_path / "kept"
    kept.write_text("kept")
    [judgement] = isolated.judge([(attack, str(kept if attack == "remove" else target))])
    assert (judgement.solved, judgement.reason) == (False, "error")
    assert judgement.answer.startswith("PermissionError: a checker tried")
    assert not target.exists()
    assert isolated.judge([("read", str(kept))])[0].answer == "kept"


def test_a_killed_worker_is_replaced(isolated: Isolated) -> None:
    reasons(isolated, ("solve", "a"))
    with ThreadPoolExecutor() as threads:
        killing = threads.submit(_kill_workers, 0.5)
        answers = reasons(isolated, ("loop", "1"), *[("solve", str(index)) for index in range(100)], ("loop", "2"))
        killing.result()
    assert answers[1:-1] == ["solved"] * 100
    assert {answers[0], answers[-1]} <= {"error", "timeout"}
    assert reasons(isolated, ("solve", "b")) == ["solved"]


def _kill_workers(delay_s: float) -> None:
    time.sleep(delay_s)
    for worker in multiprocessing.active_children():
        os.kill(worker.pid or 0, signal.SIGKILL)


def test_several_threads_judge_at_once(isolated: Isolated) -> None:
    def judge(thread: int) -> list[str]:
        items = [("solve", f"{thread} {index}") for index in range(100)] + [("die", "1")]
        return [judgement.answer for judgement in isolated.judge(items)][:-1]

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(judge, range(8)))
    assert answers == [[f"{thread} {index}" for index in range(100)] for thread in range(8)]


def test_workers_start_again_after_close() -> None:
    isolated = Isolated(check, load, num_workers=1)
    for _ in range(2):
        assert reasons(isolated, ("solve", "a")) == ["solved"]
        isolated.close()
    isolated.close()


def judge_in_process(text: str) -> Judgement:
    return Isolated(check, load, num_workers=1).judge([("solve", text)])[0]


def test_a_process_of_a_pool_may_judge_too() -> None:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(judge_in_process, "a").result(timeout=60) == solve("a")


def broken_load() -> None:
    raise RuntimeError("nothing to load")


def test_workers_that_cannot_start_are_an_error_not_a_mark(capfd: pytest.CaptureFixture[str]) -> None:
    isolated = Isolated(check, broken_load, num_workers=1)
    with pytest.raises(RuntimeError, match="expected it to start"):
        isolated.judge([("solve", "a")])
    isolated.close()


def start(tmp_path: Path, body: str) -> "subprocess.Popen[str]":
    """A program of its own that judges with the real verifier's workers."""
    script = tmp_path / "main.py"
    script.write_text(
        "import multiprocessing\n"
        "from models.reward.isolated import Isolated\n"
        "from tests.models.reward.test_isolated import check, load\n"
        "def main():\n" + textwrap.indent(textwrap.dedent(body), "    ") + "if __name__ == '__main__':\n    main()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, script], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def read_pids(process: "subprocess.Popen[str]") -> list[int]:
    assert process.stdout is not None
    return [int(pid) for pid in process.stdout.readline().split()]


def wait_for_end(pids: list[int], timeout_s: float) -> list[int]:
    """Those still alive in the end."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and any(map(is_alive, pids)):
        time.sleep(0.05)
    return [pid for pid in pids if is_alive(pid)]


def is_alive(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize("item", [("solve", "a"), ("loop", ""), ("compute", "99999999999")])
def test_workers_die_when_their_parent_is_killed(tmp_path: Path, item: tuple[str, str]) -> None:
    process = start(
        tmp_path,
        f"""
        import threading, time
        isolated = Isolated(check, load, timeout_s=600, num_workers=2)
        isolated.judge([("solve", "a")])
        threading.Thread(target=isolated.judge, args=[[{item!r}]], daemon=True).start()
        time.sleep(0.5)
        print(*[child.pid for child in multiprocessing.active_children()], flush=True)
        time.sleep(600)
        """,
    )
    workers = read_pids(process)
    assert len(workers) == 2
    process.kill()
    process.wait()
    assert wait_for_end(workers, timeout_s=3) == []


def test_a_program_ends_at_once_and_takes_its_workers_with_it(tmp_path: Path) -> None:
    process = start(
        tmp_path,
        """
        Isolated(check, load, num_workers=2).judge([("solve", "a")])
        print(*[child.pid for child in multiprocessing.active_children()], flush=True)
        """,
    )
    workers = read_pids(process)
    _, errors = process.communicate(timeout=10)
    assert (process.returncode, errors) == (0, "")
    assert wait_for_end(workers, timeout_s=1) == []


HEAVY = "torch transformers prefect duckdb polars pandas pyarrow numpy flows tasks"


@pytest.mark.parametrize("library", ["gym", "math"])
def test_workers_import_nothing_heavy(library: str) -> None:
    from importlib import import_module

    isolated = Isolated(check, import_module(f"models.reward.{library}").load, num_workers=1)
    [judgement] = isolated.judge([("report", HEAVY)])
    isolated.close()
    assert set(judgement.answer.split()) <= {"numpy"}
