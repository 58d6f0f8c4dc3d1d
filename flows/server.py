"""Prefect's server for the time of one process: started beside it, and gone when it is.

Prefect starts such a server by itself where none is set up, but that one outlives a parent that is killed, listens
to a Ctrl-C that was meant for its parent, and looks for a free port that another may take meanwhile. This one watches
its parent, has a session of its own, and is handed a socket that is open already.
"""

import atexit
import http.client
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

from storage.home import OWNER_ONLY_FILE
from tasks.child import end_with
from tasks.progress import check_stop

LOCALHOST = "127.0.0.1"
START_TIMEOUT_S = 120.0


class ServerError(RuntimeError):
    """Prefect's server did not start."""


@dataclass(frozen=True)
class Server:
    """A server under way: `Server.start(home.logs / "prefect.log")`."""

    process: "subprocess.Popen[bytes]"
    port: int
    log: Path

    @classmethod
    def start(cls, log: Path) -> "Server":
        """A server of Prefect's current settings, which says what it has to say to a file."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        with socket.create_server((LOCALHOST, 0)) as listener, open(os.open(log, flags, OWNER_ONLY_FILE), "wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(listener.fileno()), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                pass_fds=[listener.fileno()],
                start_new_session=True,
            )
            server = cls(process, listener.getsockname()[1], log)
        atexit.register(server.stop)  # before prefect's own, which therefore still reach it
        bypass_proxy()
        return server

    @property
    def api(self) -> str:
        """Its address, for PREFECT_API_URL."""
        return f"http://{LOCALHOST}:{self.port}/api"

    def wait(self) -> None:
        """Until it answers. Raises ServerError where it does not, and StoppedError where that was asked."""
        deadline = monotonic() + START_TIMEOUT_S
        while not self.answers():
            check_stop()
            if self.process.poll() is not None or monotonic() > deadline:
                raise ServerError(f"prefect's server did not start; {self.log} says why. `flywheel run` tries again.")
            sleep(0.05)

    def answers(self) -> bool:
        """Whether it is ready."""
        connection = http.client.HTTPConnection(LOCALHOST, self.port, timeout=1)
        try:
            connection.request("GET", "/api/health")
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def stop(self) -> None:
        """End it. What its database was about to write may be lost: the lake alone counts."""
        self.process.kill()
        self.process.wait()


def bypass_proxy() -> None:
    """Have prefect's client ask this machine itself, whatever proxy the shell names."""
    for name in ("no_proxy", "NO_PROXY"):
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), LOCALHOST]))


# What follows runs in the server's process.


def serve(descriptor: int, parent: int) -> None:
    """Answer on a socket that was handed down, until the parent is gone."""
    end_with(parent)
    import uvicorn
    from prefect.server.api.server import create_app

    config = uvicorn.Config(create_app(ephemeral=True, final=True), log_level="error", lifespan="on")
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=descriptor)])


if __name__ == "__main__":
    serve(*map(int, sys.argv[1:]))
