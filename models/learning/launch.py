"""Fine-tunes by several processes on this machine, started by torch's own launcher, as `accelerate launch` does.

They are told what to do by a file, and tell what they do line by line; what they made is a folder as any policy's.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from models.learning.examples import Attempt, Pair, Solution
from models.learning.finetune import UNWATCHED, Lessons, Trained, Watch, finetune
from models.learning.memory import TrainingError
from models.learning.settings import LearningSettings
from models.learning.trainer import StepReport, TrainingReport
from models.orphan import end_with
from models.policy.load import choose_device, load_policy

JOB, POLICY, LOG = "job.json", "policy", "log"
KINDS: dict[str, Any] = {kind.__name__: kind for kind in (Solution, Pair, Attempt)}
TAIL_CHARS = 2000


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

    Raises ValueError on nothing to learn from, TrainingError, and RuntimeError where they end otherwise. What
    `watch.on_step` raises ends them. No draft is kept.
    """
    on_cpu = choose_device(device) == "cpu"
    if not on_cpu and settings.processes > torch.cuda.device_count():
        raise TrainingError(
            f"learning.processes is {settings.processes}, and torch sees {torch.cuda.device_count()} CUDA devices"
        )
    folder.mkdir(parents=True, exist_ok=True)
    job = {
        "parent": str(parent.absolute()),
        "lesson": type(lessons[0]).__name__ if lessons else Solution.__name__,
        "lessons": lessons,
        "settings": asdict(settings),
        "seed": seed,
        "on_cpu": on_cpu,
        "max_new_tokens": max_new_tokens,
    }
    (folder / JOB).write_text(json.dumps(job))
    num_examples, steps = 0, list[StepReport]()
    for told in _follow(folder, settings.processes):
        match told:
            case {"step": step}:
                steps.append(StepReport(**step))
                watch.on_step(steps[-1])
            case {"say": text}:
                watch.say(text)
            case {"num_examples": num_examples, "report": report}:
                report = TrainingReport(**report | {"steps": steps})
    policy = load_policy(folder / POLICY)
    return Trained(policy=policy, report=report, num_examples=num_examples)


def _follow(folder: Path, processes: int) -> Iterator[dict[str, Any]]:
    """What the first of the processes tells until they have ended."""
    threads = max(1, len(os.sched_getaffinity(0)) // processes)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    with (
        (folder / LOG).open("w+") as log,
        _running([*launcher, "-m", __name__, str(folder)], log, {"OMP_NUM_THREADS": str(threads)}) as process,
    ):
        assert process.stdout
        for line in process.stdout:
            told = json.loads(line)
            if "refused" in told:
                raise ValueError(told["refused"])
            if "failed" in told:
                raise TrainingError(told["failed"])
            yield told
        if process.wait():
            log.seek(0)
            raise RuntimeError(f"the processes that trained together failed: {log.read()[-TAIL_CHARS:].strip()}")


@contextmanager
def _running(command: list[str], log: Any, environment: dict[str, str]) -> "Iterator[subprocess.Popen[str]]":
    """A command and all that it starts, ended at last."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        env=environment | os.environ,
        start_new_session=True,  # a Ctrl-C is for its parent
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)  # its processes end with it
        process.wait()


# What follows runs in each of the processes.


def work(folder: Path) -> None:
    """Do this process's part of the job in a folder."""
    end_with(os.getppid())
    job = json.loads((folder / JOB).read_text())
    number = int(os.environ["LOCAL_RANK"])
    device = "cpu" if job["on_cpu"] else f"cuda:{number}"
    if not job["on_cpu"]:
        torch.cuda.set_device(number)
    kind, is_first = KINDS[job["lesson"]], number == 0
    dist.init_process_group("gloo" if job["on_cpu"] else "nccl")
    try:
        trained = finetune(
            Path(job["parent"]),
            [kind(*lesson) for lesson in job["lessons"]],
            LearningSettings(**job["settings"]),
            seed=job["seed"],
            device=device,
            max_new_tokens=job["max_new_tokens"],
            watch=Watch(on_step=_tell_step, say=lambda text: _tell(say=text)) if is_first else UNWATCHED,
        )
    except (TrainingError, ValueError) as error:
        if is_first:
            _tell(**{"failed" if isinstance(error, TrainingError) else "refused": str(error)})
        raise
    if is_first:
        trained.save(folder / POLICY)
        report = asdict(trained.report) | {"steps": []}
        _tell(num_examples=trained.num_examples, report=report)
    dist.destroy_process_group()


def _tell_step(step: StepReport) -> None:
    _tell(step=asdict(step))


def _tell(**what: object) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    work(Path(sys.argv[1]))
