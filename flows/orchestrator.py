"""What this process tells Prefect and torch through the environment, before either is imported, and Prefect's server.

Prefect lives in the home, offline, telling nobody, whatever the caller's shell says. It orchestrates
and shows; the lake alone decides what is done, so its folder may be deleted.
"""

import os
import sys

from flows.server import Server
from storage.home import Home

SETTINGS = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_LEVEL": "INFO",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "PREFECT_CLI_PROMPT": "false",
    "PREFECT_SERVER_REGISTER_BLOCKS_ON_START": "false",
}
"""Our choices; what goes wrong is told by the command line, not by prefect's console."""


THREADS = {"GOMP_SPINCOUNT": "3000"}
"""Threads that wait soon give their core away: spinning on, two on a busy machine were ten times slower than one."""


def start_prefect(home: Home) -> Server:
    """Make the settings, and start a server under them."""
    settle(home)
    server = Server.start(home.logs / "prefect.log")
    os.environ["PREFECT_API_URL"] = server.api
    return server


def settle(home: Home) -> None:
    """Point Prefect at a home's own folder, and drop what the shell says of it."""
    assert "prefect" not in sys.modules, "prefect was imported before its settings were made"
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        del os.environ[name]
    for name, value in THREADS.items():
        os.environ.setdefault(name, value)
    os.environ["PYTHONSAFEPATH"] = "1"  # a random.py in the current folder must not reach prefect's server
    os.environ.update(SETTINGS, PREFECT_HOME=str(home.prefect), PREFECT_PROFILES_PATH=str(home.prefect / "none.toml"))
