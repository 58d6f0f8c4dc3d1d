"""What Prefect's UI, schedules and work pools run: one flow a deployment, each in a process of its own.

They find the home in FLYWHEEL_HOME and the settings where `flywheel` does, and wait for
their place where another writes. What they came to is on the run's page.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prefect import Flow, flow
from prefect.logging import get_run_logger

from flows.commands import evaluate_checkpoint, roll_back, show_evaluation
from flows.config import Config, load_config
from flows.config_layers import SERVED_VARIABLE
from flows.flywheel import conclude, spin
from flows.forms import EvaluateForm, RetrainForm, RollbackForm, TurnForm
from flows.interrupt import interruptible
from flows.page import put_on_page
from flows.retrain import begin_retrain, conclude_retrain
from flows.retrain import retrain as finish_retrain
from flows.runs import begin_run
from flows.waiting import Waiting
from storage import history
from storage.home import Home, default_home
from storage.lake import Lake
from storage.records import State
from storage.warehouse import Warehouse
from tasks.child import end_with

TURN, RETRAIN, EVALUATE, ROLLBACK = TurnForm(), RetrainForm(), EvaluateForm(), RollbackForm()
"""What the forms say before anyone fills them in."""


@flow(name="flywheel", description="Turn the wheel: search, learn, evaluate, and let the gate decide.")
def turn(choices: TurnForm = TURN) -> str:
    """Finish the unfinished run, else turn so many rounds from the champion."""
    with at_home() as home:
        last = history.last_run(Warehouse(home))
        is_unfinished = last is not None and last.state == State.RUNNING
        run = begin_run(home, settings(), num_rounds=None if is_unfinished else choices.rounds)
        return put_on_page(home, conclude(spin(home, run)))


@flow(name="retrain", description="Train a candidate on chosen trajectories, and let the gate decide on it.")
def retrain(choices: RetrainForm = RETRAIN) -> str:
    """Train a candidate on chosen trajectories, and let the gate decide on it."""
    with at_home() as home:
        run = begin_retrain(home, choices.query or choices.selection, choices.sets())
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


DEPLOYED: dict[str, Flow[Any, str]] = {"flywheel": turn, "retrain": retrain, "evaluate": evaluate, "rollback": rollback}
"""Deployment to flow."""


@contextmanager
def at_home() -> Iterator[Home]:
    """The home, to write to as soon as it is our turn; stops when asked to, and ends with its parent."""
    end_with(os.getppid())
    logger: Any = get_run_logger()
    with interruptible():
        home = Home.open(default_home())
        Lake(home).seed()
        with home.writer(Waiting(logger.info)):
            yield home


def settings() -> Config:
    """The configuration as it is now."""
    given = json.loads(os.environ.get(SERVED_VARIABLE, "{}"))
    path = given.get("path")
    return load_config(Path(path) if path else None, given.get("sets", []))
