"""`flywheel run`: turn a run, show it, and say what it came to. Imports prefect."""

import shutil
import sys
from dataclasses import asdict

from flows.commands import show_evaluation
from flows.display import Display
from flows.flywheel import Claim, spin
from flows.interrupt import STOPPED
from flows.runs import FOREVER
from flows.server import Server
from flows.stages import watched_by
from flows.terminal import shorten
from storage import history
from storage.home import Home
from storage.records import Run
from storage.warehouse import Warehouse
from tasks.progress import StoppedError, heard_by, is_stopping

ERROR_CHARS = 300


def launch(home: Home, run: Run, server: Server) -> int:
    """Turn it; gives the exit status."""
    with Display() as display:
        display.say(greet(home, run))
        try:
            server.wait()
            with watched_by(display), heard_by(display):
                claim = spin(home, run)
        except Exception as error:
            if not is_stopping():
                raise
            if not isinstance(error, StoppedError):  # a process of the pool may fail of the same Ctrl-C
                display.say(f"While it stopped: {shorten(f'{type(error).__name__}: {error}', ERROR_CHARS)}")
            display.say(f"Stopped. Nothing is lost: `{program()} run`, with the same settings, goes on from here.")
            return STOPPED
        display.say(conclude(claim))
    return 0


def greet(home: Home, run: Run) -> str:
    """Where it is and what it is about to do."""
    done = history.num_rounds_done(Warehouse(home), run.run_id)
    asked = f"{run.num_rounds} rounds" if run.num_rounds != FOREVER else "rounds for ever"
    state = f"goes on after {done} of {asked}" if done else f"begins: {asked} from round {run.first_round}"
    return f"run {run.run_id[:6]} of {run.line} {state}. Home: {home.root}"


def conclude(claim: Claim) -> str:
    """The claim, with its size and interval."""
    name = program()
    head = "The wheel is on a plateau." if claim.is_plateau else "The run is done."
    return "\n".join(
        [
            "",
            f"{head} On the final problems, which nothing was trained or chosen on:",
            f"  initial policy  {show_evaluation(asdict(claim.initial))}",
            f"  champion        {show_evaluation(asdict(claim.champion))}",
            f"  the champion {claim.evidence}",
            f"Next: `{name} history`, `{name} solve`, or `{name} run` again, which goes on from the champion.",
        ]
    )


def program() -> str:
    """How the command is called from here: by its name where the PATH has it, else as it was called."""
    return "flywheel" if shutil.which("flywheel") else sys.argv[0]
