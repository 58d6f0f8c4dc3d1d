"""What this process tells Prefect and torch through the environment, before either is imported, and Prefect's server.

Prefect lives in the home, offline, telling nobody, whatever the caller's shell says. It orchestrates
and shows; the lake alone decides what is done, so its folder may be deleted.
"""

import json
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from flows.config_layers import SERVED_VARIABLE
from flows.server import Server, ServerError, bypass_proxy
from storage.home import HOME_VARIABLE, Home, HomeBusyError, default_home
from tasks.child import OWN_SERVER_VARIABLE
from tasks.progress import tell

SERVED = "served"
"""The file of the home that says where it is served."""

SETTINGS = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_LEVEL": "INFO",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "PREFECT_CLI_PROMPT": "false",
    "PREFECT_SERVER_REGISTER_BLOCKS_ON_START": "false",
}
"""Our choices; what goes wrong is told by the command line, not by prefect's console."""

FILES = {".env": "prefect_", "prefect.toml": "=", "pyproject.toml": "[tool.prefect"}
"""Files of the current folder in which Prefect looks for settings, and what is in them then."""
THREADS = {"GOMP_SPINCOUNT": "3000"}
"""Threads that wait soon give their core away: spinning on, two on a busy machine were ten times slower than one."""


def start_prefect(home: Home, url: str = "") -> Server:
    """Make the settings; under them the server at `url`, else the one of `flywheel serve`, else one of our own."""
    settle(home)
    server = Server(api=url) if url else find_answering(home) or Server.start(home.logs / "prefect.log")
    os.environ["PREFECT_API_URL"] = server.api
    if server.process:
        os.environ[OWN_SERVER_VARIABLE] = "1"
    return server


@contextmanager
def serve_prefect(home: Home, port: int, url: str) -> Iterator[Server]:
    """A server with its UI for whoever comes, or the one at `url`, told to other commands of the home meanwhile.

    Raises ServerError where the home has one already, or it cannot be had.
    """
    settle(home)
    try:
        with home.claim(SERVED) as claimed:
            server = Server(api=url) if url else Server.start(home.logs / "server.log", port, with_ui=True)
            os.environ["PREFECT_API_URL"] = server.api
            server.wait()
            claimed(server.api)
            yield server
    except HomeBusyError as error:
        served = find_served(home)
        where = f" at {served.ui}" if served else ""
        raise ServerError(
            f"this home is served already{where}; stop that `flywheel serve` to start another."
        ) from error


def find_served(home: Home) -> Server | None:
    """The server of a `flywheel serve` that is at work for this home."""
    if api := home.claimed(SERVED):
        bypass_proxy()
        return Server(api=api)
    return None


def find_answering(home: Home) -> Server | None:
    """The same, where it answers; that it does not is told."""
    server = find_served(home)
    if server is None or server.answers():
        return server
    tell(
        f"the server of `flywheel serve` does not answer at {server.api} ({home.logs / 'server.log'} may say why): "
        "this run has one of its own; start `flywheel serve` again to see others there"
    )
    return None


def ignored() -> Iterator[str]:
    """What of the shell's Prefect settings is not followed, a line each; call it before they are dropped."""
    for name in sorted(name for name in os.environ if name.startswith("PREFECT_")):
        yield f"ignored: {name} of the shell; serve.url joins another server"
    for name in sorted(name for name in os.environ if name.lower() in ("http_proxy", "https_proxy", "all_proxy")):
        yield f"ignored: the shell's {name}, for this machine's own server"
    for name, mark in FILES.items():
        if mark in read_quietly(Path(name)).lower():
            yield f"{name} in this folder speaks of Prefect: its server does not follow it here, its client may"


def read_quietly(path: Path) -> str:
    """A file's text; empty where there is none to read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def pass_on(path: Path | None, sets: Sequence[str]) -> None:
    """Have the flow runs of `flywheel serve` read the settings that it was given itself, and find the same home."""
    given = {"path": str(path.absolute()) if path else None, "sets": list(sets)}
    os.environ[SERVED_VARIABLE] = json.dumps(given)
    os.environ[HOME_VARIABLE] = str(default_home().absolute())


def settle(home: Home) -> None:
    """Point Prefect at a home's own folder, and drop what the shell says of it."""
    assert "prefect" not in sys.modules, "prefect was imported before its settings were made"
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        del os.environ[name]
    for name, value in THREADS.items():
        os.environ.setdefault(name, value)
    logging.raiseExceptions = False  # a line that Prefect cannot log says nothing that the run does not say itself
    os.environ["PYTHONSAFEPATH"] = "1"  # a random.py in the current folder must not reach prefect's server
    os.environ.update(SETTINGS, PREFECT_HOME=str(home.prefect), PREFECT_PROFILES_PATH=str(home.prefect / "none.toml"))
