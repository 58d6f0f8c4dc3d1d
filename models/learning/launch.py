"""Fine-tunes by several processes on this machine, started by torch's own launcher, as `accelerate launch` does.

They are told what to do by a file, and tell what they do line by line; what they made is a folder as any policy's.
"""

import json
import os
import queue
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from threading import Thread
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import FileStore  # type: ignore[attr-defined]  # as its documentation names it

from models.cores import num_cores
from models.kept import kept
from models.learning.examples import Attempt, Pair, Solution
from models.learning.finetune import UNWATCHED, Lessons, Trained, Watch, finetune
from models.learning.settings import LearningSettings
from models.learning.trainer import StepReport, TrainingError, TrainingReport
from models.memory import NoMemoryError
from models.orphan import end_with
from models.policy.adapters import find_adapter
from models.policy.load import gpus_of, load_policy, seen_alone

JOB, POLICY, LOG, MEETING, GROUP = "job.json", "policy", "log", "meeting", "group"
KINDS: dict[str, Any] = {kind.__name__: kind for kind in (Solution, Pair, Attempt)}
TAIL_CHARS = 2000
LOOK_S = 0.5
KILLED = "one being killed, as the machine does where memory is short"


class ProcessesError(RuntimeError):
    """The processes that train together ended, none of them saying why in words of ours."""


def finetune_together(
    parent: Path,
    lessons: Lessons,
    settings: LearningSettings,
    *,
    seed: int,
    device: str,
    max_new_tokens: int,
    folder: Path,
    watch: Watch = UNWATCHED,
) -> Trained:
    """As `finetune`, by `settings.processes` of them, on so many GPUs or on this CPU; what they write is in `folder`.

    Raises ValueError on nothing to learn from, TrainingError, NoMemoryError, and ProcessesError where they end
    otherwise. What `watch.on_step` raises ends them. No draft is kept.
    """
    gpus = gpus_of(device, settings.processes)
    folder.mkdir(parents=True, exist_ok=True)
    if settings.keep_adapters:
        adapter = find_adapter(parent)
        base = adapter.base if adapter else parent
        (folder / base.name).symlink_to(base.absolute())  # beside what is written here
    job = {
        "parent": str(parent.absolute()),
        "lesson": type(lessons[0]).__name__ if lessons else Solution.__name__,
        "lessons": lessons,
        "settings": asdict(settings),
        "seed": seed,
        "on_cpu": not gpus,
        "max_new_tokens": max_new_tokens,
    }
    (folder / JOB).write_text(json.dumps(job))
    num_examples, steps = 0, list[StepReport]()
    for told in _follow(folder, settings.processes, gpus, watch.on_wait):
        match told:
            case {"step": step}:
                steps.append(StepReport(**step))
                watch.on_step(steps[-1])
            case {"say": text}:
                watch.say(text)
            case {"num_examples": num_examples, "report": report}:
                report = TrainingReport(**report | {"steps": steps})
    policy = load_policy(folder / POLICY, merge=not settings.keep_adapters)
    return Trained(policy=policy, report=report, num_examples=num_examples)


def _follow(folder: Path, processes: int, gpus: Sequence[str], on_wait: Callable[[], None]) -> Iterator[dict[str, Any]]:
    """What the processes tell until they have ended."""
    folder, died = folder.absolute(), list[str]()
    for name in (MEETING, GROUP):  # of an attempt before
        (folder / name).unlink(missing_ok=True)
    launcher = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}"]
    # They meet in files of their owner's, not at a port where anyone might.
    meeting = ["--rdzv-backend=c10d", "--rdzv-conf=store_type=file", f"--rdzv-endpoint={folder / MEETING}"]
    command = kept([*launcher, *meeting, "-m", __name__, str(folder)])
    path = filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")])
    environment = {"OMP_NUM_THREADS": str(max(1, num_cores() // processes))} | os.environ | seen_alone(gpus)
    with (
        (folder / LOG).open("w+") as log,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,  # which, closed, ends them
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=folder,  # where no package has the name of one of ours
            env=environment | {"PYTHONPATH": os.pathsep.join(path), "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"},
            start_new_session=True,  # a Ctrl-C is for its parent
        ) as process,
    ):
        assert process.stdin
        try:
            for line in _lines(process, on_wait):
                told = json.loads(line)
                if "refused" in told:
                    raise ValueError(told["refused"])
                if "failed" in told:
                    raise TrainingError(told["failed"])
                if "died" in told:
                    died.append(told["died"])
                else:
                    yield told
        finally:
            process.stdin.close()
            process.wait()
        if process.returncode:
            log.seek(0)
            last = log.read()[-TAIL_CHARS:].strip()
            why = KILLED if "SIGKILL" in last else died[0] if died else "none said why"
            raise ProcessesError(f"the processes that trained together failed, {why}. Their log ends: {last}")


def _lines(process: "subprocess.Popen[str]", on_wait: Callable[[], None]) -> Iterator[str]:
    """What a process says, line by line, until it says no more."""
    said: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        assert process.stdout
        for line in process.stdout:
            said.put(line)
        said.put("")

    Thread(target=read, daemon=True).start()
    while True:
        try:
            line = said.get(timeout=LOOK_S)
        except queue.Empty:
            on_wait()
            continue
        if not line:
            return
        yield line


# What follows runs in each of the processes.


def work(folder: Path) -> None:
    """Do this process's part of the job in a folder."""
    if (parent := os.getppid()) == 1:  # whoever started it is gone
        return
    end_with(parent)
    tell = Teller()
    job = json.loads((folder / JOB).read_text())
    number = int(os.environ["LOCAL_RANK"])
    device = "cpu" if job["on_cpu"] else f"cuda:{number}"  # of those that it sees, as accelerate counts them
    if not job["on_cpu"]:
        torch.cuda.set_device(device)
    kind, is_first = KINDS[job["lesson"]], number == 0
    try:
        num = int(os.environ["WORLD_SIZE"])
        group = FileStore(str(folder / GROUP), num)
        dist.init_process_group("gloo" if job["on_cpu"] else "nccl", store=group, rank=number, world_size=num)
        trained = finetune(
            Path(job["parent"]),
            [kind(*lesson) for lesson in job["lessons"]],
            LearningSettings(**job["settings"]),
            seed=job["seed"],
            device=device,
            max_new_tokens=job["max_new_tokens"],
            watch=Watch(on_step=tell.step, say=lambda text: tell(say=text)) if is_first else UNWATCHED,
        )
        if is_first:
            trained.save(folder / POLICY)
    except (TrainingError, NoMemoryError) as error:
        tell(failed=str(error))  # whichever of them it is: of memory, one alone may be short
        raise
    except ValueError as error:
        tell(refused=str(error))
        raise
    except Exception as error:
        tell(died=f"{type(error).__name__}: {error}")
        raise
    if is_first:
        tell(num_examples=trained.num_examples, report=asdict(trained.report) | {"steps": []})
    dist.destroy_process_group()


class Teller:
    """Tells the parent, line by line, on what was standard output; what libraries print there goes to the log."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)

    def __call__(self, **what: object) -> None:
        self._out.write(json.dumps(what) + "\n")
        self._out.flush()

    def step(self, step: StepReport) -> None:
        """A step is done."""
        self(step=asdict(step))


if __name__ == "__main__":
    work(Path(sys.argv[1]))
