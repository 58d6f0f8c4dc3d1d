"""What Prefect's UI, schedules and work pools run: one flow a deployment, each in a process of its own.

They find the home in FLYWHEEL_HOME and the settings where `flywheel` does, and wait for
their place where another writes. What they came to is on the run's page.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import Flow, flow
from prefect.client.schemas.objects import State as PrefectState
from prefect.logging import get_run_logger
from prefect.states import Cancelled

from flows.commands import evaluate_checkpoint, roll_back, show_evaluation
from flows.config import Config, from_json, load_config
from flows.config_layers import SERVED_VARIABLE
from flows.flywheel import AT_WORK, conclude, spin
from flows.forms import EvaluateForm, RetrainForm, RollbackForm, TurnForm
from flows.interrupt import interruptible
from flows.page import put_on_page
from flows.retrain import begin_retrain, conclude_retrain, last_objective
from flows.retrain import retrain as finish_retrain
from flows.runs import FOREVER, as_now, begin_run
from flows.stages import Nobody, watched_by
from flows.waiting import Waiting
from models.orphan import end_with
from storage import history
from storage.home import Home, default_home
from storage.lake import Lake
from storage.records import Run, State
from storage.warehouse import Warehouse

TURN, RETRAIN, EVALUATE, ROLLBACK = TurnForm(), RetrainForm(), EvaluateForm(), RollbackForm()
"""What the forms say before anyone fills them in."""


@flow(name="flywheel", description="Turn the wheel: search, learn, evaluate, and let the gate decide.")
def turn(choices: TurnForm = TURN) -> str | PrefectState[Any]:
    """Turn so many rounds from the champion, or finish a run that was broken off with no more than that to do.

    Where the wheel turns already, this turn is left out.
    """
    try:
        with at_home(is_left_out=True) as home:
            return put_on_page(home, conclude(spin(home, begin_turn(home, choices.rounds))))
    except LeftOutError as left_out:
        return Cancelled(message=str(left_out))


def begin_turn(home: Home, rounds: int) -> Run:
    """The run that was broken off, where so many rounds finish it, under its own settings but for those that change
    no result; else a new one."""
    broken_off = unfinished(home)
    if broken_off and broken_off.num_rounds != FOREVER:
        num_left = broken_off.num_rounds - history.num_rounds_done(Warehouse(home), broken_off.run_id)
        if num_left <= rounds:
            return begin_run(home, as_now(from_json(broken_off.config), settings()))
    return begin_run(home, settings(), num_rounds=rounds, is_new=True)


def unfinished(home: Home) -> Run | None:
    """The run that is at work, or was broken off."""
    last = history.last_run(Warehouse(home))
    return last if last is not None and last.state == State.RUNNING else None


@flow(name="retrain", description="Train a candidate on chosen trajectories, and let the gate decide on it.")
def retrain(choices: RetrainForm = RETRAIN) -> str:
    """Train a candidate on chosen trajectories, and let the gate decide on it."""
    with at_home() as home:
        logger: Any = get_run_logger()
        run = begin_retrain(
            home, choices.query or choices.selection, choices.sets(last_objective(home)), say=logger.info
        )
        return put_on_page(home, conclude_retrain(finish_retrain(home.root, run.run_id)))


@flow(name="evaluate", description="Measure a checkpoint.")
def evaluate(choices: EvaluateForm = EVALUATE) -> str:
    """Measure a checkpoint."""
    with at_home() as home:
        found = evaluate_checkpoint(home, choices.checkpoint, choices.split)
        return put_on_page(home, f"{choices.checkpoint} on {choices.split}: {show_evaluation(found)}")


@flow(name="rollback", description="Make an earlier champion the champion again.")
def rollback(choices: RollbackForm = ROLLBACK) -> str:
    """Make an earlier champion the champion again."""
    with at_home() as home:
        return put_on_page(home, roll_back(home, choices.checkpoint or None, choices.reason))


DEPLOYED: dict[str, Flow[Any, Any]] = {"flywheel": turn, "retrain": retrain, "evaluate": evaluate, "rollback": rollback}
"""Deployment to flow."""


class LeftOutError(RuntimeError):
    """The wheel turns already."""


@contextmanager
def at_home(*, is_left_out: bool = False) -> Iterator[Home]:
    """The home, to write to as soon as it is our turn; stops when asked to, and ends with its parent.

    Raises LeftOutError where the writer that would be waited for turns the wheel, if that leaves this one out.
    """
    end_with(os.getppid())
    logger: Any = get_run_logger()
    with interruptible():
        home = Home.open(default_home())
        Lake(home).seed()
        waiting = Waiting(logger.info)

        def look(holder: str) -> None:
            if is_left_out and home.claimed(AT_WORK):
                raise LeftOutError(f"Left out: the wheel is turned already, by {holder}.")
            waiting(holder)

        with home.writer(look):
            if is_left_out and waiting.holder and home.claimed(AT_WORK):  # it began after that look, and gives way
                raise LeftOutError("Left out: the wheel was set in motion meanwhile.")
            with watched_by(Logged(logger.info)):
                yield home


@dataclass(frozen=True)
class Logged(Nobody):
    """What people should know goes to the log of the flow run, which Prefect's UI shows."""

    log: Callable[[str], None]

    def say(self, text: str) -> None:
        """A line."""
        self.log(text)


def settings() -> Config:
    """The configuration as it is now."""
    given = json.loads(os.environ.get(SERVED_VARIABLE, "{}"))
    path = given.get("path")
    return load_config(Path(path) if path else None, given.get("sets", []))
