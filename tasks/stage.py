"""What every task has in common: what is worth another try, and where its words go."""

import logging
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.exceptions import MissingContextError
from prefect.logging import get_run_logger

from models.learning.trainer import TrainingError
from models.memory import NoMemoryError
from storage.home import HomeError
from tasks.progress import StoppedError, tell

P = ParamSpec("P")
R = TypeVar("R")

HOPELESS = (ValueError, HomeError, StoppedError, TrainingError, NoMemoryError, AssertionError)
"""What another try cannot mend: wrong input, a full disk, a wish to stop, training that diverges, too little memory,
our own mistakes."""


def stage(name: str) -> Callable[[Callable[P, R]], Task[P, R]]:
    """A Prefect task. The lake alone decides what is done, so nothing is cached."""
    return task(name=name, cache_policy=NO_CACHE, persist_result=False, retry_condition_fn=is_worth_retrying)


def is_worth_retrying(_: Any, __: TaskRun, state: State[Any]) -> bool:
    """Whether a failure may be gone the next time."""
    try:
        state.result()
    except HOPELESS:
        return False
    except Exception:
        return True
    return True


def warn(message: str) -> None:
    """Log it as a warning, and say it to whoever listens."""
    tell(message)
    log(message, logging.WARNING)


def log(message: str, level: int = logging.INFO) -> None:
    """Put it in the task's own log, or, outside Prefect, in ours: what came of the stage, in a line."""
    try:
        logger: Any = get_run_logger()
    except MissingContextError:
        logger = logging.getLogger("flywheel")
    logger.log(level, message)
