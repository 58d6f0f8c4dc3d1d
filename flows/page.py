"""What Prefect's UI says of a flow run: its state where it was stopped, and on its page what it came to."""

import base64
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from prefect.artifacts import create_markdown_artifact
from prefect.runtime import flow_run
from prefect.states import Cancelled

from storage.home import Home
from storage.overview import overview
from tasks.picture import picture_png
from tasks.progress import StoppedError
from tasks.verdict import markdown, plain

P = ParamSpec("P")
T = TypeVar("T")


def cancelled_when_stopped(work: Callable[P, T]) -> Callable[P, T]:
    """A flow's work; where it was asked to stop, its run counts as cancelled, and whoever waits gets CancelledRun."""

    @wraps(work)
    def cancellable(*args: P.args, **kwargs: P.kwargs) -> Any:
        try:
            return work(*args, **kwargs)
        except StoppedError:
            return Cancelled(message="Stopped. Nothing is lost: the same command goes on from here.")

    return cancellable


def put_on_page(home: Home, conclusion: str) -> str:
    """Put a report on the page of the flow run at hand: what it came to, the rounds as a picture and as a table.

    A flow within another leaves that to the one that people started.
    """
    if flow_run.parent_flow_run_id:
        return conclusion.strip()
    seen = overview(home)
    said = "\n\n".join(plain(line) for line in conclusion.splitlines() if line.strip())
    picture = base64.b64encode(picture_png(seen.rounds, seen.decisions)).decode()
    text = f"{said}\n\n![Accuracy by round](data:image/png;base64,{picture})\n\n{markdown(seen)}"
    create_markdown_artifact(text, key="report", description="What the run came to.")
    return conclusion.strip()
