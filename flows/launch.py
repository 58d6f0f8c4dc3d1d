"""`flywheel run` and `retrain`: do it, show it, and say what it came to. Imports prefect."""

import shutil
import sys
from collections.abc import Callable

import httpx
from prefect.exceptions import CancelledRun, PrefectHTTPStatusError

from flows.display import Display
from flows.flywheel import spin
from flows.interrupt import STOPPED
from flows.retrain import retrain
from flows.runs import FOREVER, count_rounds, disk_need
from flows.server import Server, ServerError
from flows.stages import watched_by
from storage import history
from storage.home import Home, megabytes
from storage.records import Run, State
from storage.warehouse import Warehouse
from tasks.progress import StoppedError, heard_by, is_stopping
from tasks.wording import shorten

ERROR_CHARS = 300
OF_PREFECT = PrefectHTTPStatusError | httpx.HTTPError
"""What a failure of its server comes as."""


def launch(home: Home, run: Run, server: Server) -> int:
    """Turn it; gives the exit status."""
    return present(home, run, greet(home, run), lambda: spin(home, run), server, again="run", afterwards=what_next())


def launch_retrain(home: Home, run: Run, server: Server) -> int:
    """Retrain; gives the exit status."""
    greeting = f"retrain {run.run_id[:6]} of {run.line} after round {run.first_round}. Home: {home.root}"
    return present(home, run, greeting, lambda: retrain(home.root, run.run_id), server, again="retrain")


def present(
    home: Home, run: Run, greeting: str, work: Callable[[], object], server: Server, *, again: str, afterwards: str = ""
) -> int:
    """Show the work as it goes, which says what it came to; gives the exit status."""
    with Display() as display:
        display.say(greeting)
        try:
            server.wait()
            with watched_by(display), heard_by(display):
                work()
        except Exception as error:
            if isinstance(error, OF_PREFECT) and history.find_run(Warehouse(home), run.run_id).state != State.RUNNING:
                display.say(f"All is done, but for its page in Prefect's UI: {shorten(str(error), ERROR_CHARS)}")
                return 0
            if not is_stopping():
                uncover(error, server, again)
                raise
            if not isinstance(error, StoppedError | CancelledRun):  # a process of the pool may fail of the same Ctrl-C
                display.say(f"While it stopped: {shorten(f'{type(error).__name__}: {error}', ERROR_CHARS)}")
            display.say(f"Stopped. Nothing is lost: `{program()} {again}`, with the same settings, goes on from here.")
            return STOPPED
        if afterwards:
            display.say(afterwards)
    return 0


def uncover(error: Exception, server: Server, again: str) -> None:
    """Tell a failure of Prefect's server in our words; any other error is left alone.

    Raises our own error where the server failed while it took note of that, as on a full disk, which is its disk too,
    and ServerError with the place to look where it failed by itself.
    """
    if not isinstance(error, OF_PREFECT):
        return
    covered = error.__context__
    while covered is not None:
        if isinstance(covered, Exception) and not is_of_the_network(covered):
            raise covered from None
        covered = covered.__context__
    where = server.log or server.api
    raise ServerError(
        f"prefect's server failed ({shorten(str(error), ERROR_CHARS)}); {where} says why, a full disk perhaps. "
        f"Nothing is lost: `{program()} {again}`, with the same settings, goes on from here."
    ) from error


def is_of_the_network(error: Exception) -> bool:
    """Whether it says that a server was not reached, or how it answered."""
    return isinstance(error, OSError) or type(error).__module__.split(".")[0] in (
        "prefect",
        "httpx",
        "httpcore",
        "anyio",
    )


def greet(home: Home, run: Run) -> str:
    """Where it is and what it is about to do."""
    done = history.num_rounds_done(Warehouse(home), run.run_id)
    asked, need = count_rounds(run.num_rounds), disk_need(home, run)
    state = f"goes on after {done} of {asked}" if done else f"begins: {asked} from round {run.first_round}"
    disk = f", about {megabytes(need)} of disk{' a round' if run.num_rounds == FOREVER else ''}" if need else ""
    return f"run {run.run_id[:6]} of {run.line} {state}{disk}. Home: {home.root}"


def what_next() -> str:
    """Commands that people look for now."""
    name = program()
    return f"Next: `{name} history`, `{name} solve`, or `{name} run` again, which goes on from the champion."


def program() -> str:
    """How the command is called from here: by its name where the PATH has it, else as it was called."""
    return "flywheel" if shutil.which("flywheel") else sys.argv[0]
