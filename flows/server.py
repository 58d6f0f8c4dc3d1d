"""Prefect's server for the time of one process: started beside it, and gone when it is. Or one that is there already.

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
from urllib.parse import urlsplit

from models.orphan import end_with
from storage.files import OWNER_ONLY_FILE
from tasks.progress import check_stop

LOCALHOST = "127.0.0.1"
START_TIMEOUT_S = 120.0
PATIENCE_S = 5.0
"""For an answer."""


class ServerError(RuntimeError):
    """Prefect's server did not start, or does not answer as it should."""


@dataclass(frozen=True)
class Server:
    """A server under way: `Server.start(home.logs / "prefect.log")`, or `Server(api="http://…/api")`."""

    api: str
    """Its address, for PREFECT_API_URL."""
    process: "subprocess.Popen[bytes] | None" = None
    """None where others started it."""
    log: Path | None = None

    @classmethod
    def start(cls, log: Path, port: int = 0, with_ui: bool = False) -> "Server":
        """A server of Prefect's current settings, which says what it has to say to a file.

        With its UI it also keeps schedules. Port 0 is any that is free. Raises ServerError where another has the port.
        """
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        with listen(port) as listener, open(os.open(log, flags, OWNER_ONLY_FILE), "wb") as out:
            api = f"http://{LOCALHOST}:{listener.getsockname()[1]}/api"
            process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(listener.fileno()), str(os.getpid()), str(int(with_ui))],
                stdin=subprocess.DEVNULL,
                env=os.environ | {"PREFECT_API_URL": api},
                cwd=os.environ["PREFECT_HOME"],  # where no prefect.toml or .env of the user's says what it is
                stdout=out,
                stderr=out,
                pass_fds=[listener.fileno()],
                start_new_session=True,
            )
            server = cls(api, process, log)
        atexit.register(server.stop)  # before prefect's own, which therefore still reach it
        bypass_proxy()
        return server

    @property
    def ui(self) -> str:
        """Where people look."""
        return self.api.removesuffix("/api")

    def wait(self) -> None:
        """Until it answers. Raises ServerError where it does not, and StoppedError where that was asked."""
        deadline = monotonic() + START_TIMEOUT_S
        while not self.answers():
            check_stop()
            if self.process is None:
                raise ServerError(f"no Prefect server answers at {self.api}; start it, or leave out serve.url.")
            if self.ended or monotonic() > deadline:
                raise ServerError(f"prefect's server did not start; {self.log} says why. The same command tries again.")
            sleep(0.05)

    @property
    def ended(self) -> bool:
        """Whether it was started here, and is no more."""
        return self.process is not None and self.process.poll() is not None

    def answers(self) -> bool:
        """Whether it is ready."""
        address = urlsplit(self.api)
        kind = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
        connection = kind(address.netloc, timeout=PATIENCE_S)
        try:
            connection.request("GET", f"{address.path}/health")
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def stop(self) -> None:
        """End it. What its database was about to write may be lost: the lake alone counts."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()


def listen(port: int) -> socket.socket:
    """A socket of this machine alone. Raises ServerError where another has the port."""
    try:
        return socket.create_server((LOCALHOST, port))
    except OSError as error:
        raise ServerError(
            f"cannot listen on port {port} ({error.strerror}): stop what does, or take another, as "
            f"--set serve.port={port + 1}"
        ) from error


def bypass_proxy() -> None:
    """Have prefect's client ask this machine itself, whatever proxy the shell names."""
    for name in ("no_proxy", "NO_PROXY"):
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), LOCALHOST]))


# What follows runs in the server's process.


def serve(descriptor: int, parent: int, with_ui: int) -> None:
    """Answer on a socket that was handed down, until the parent is gone."""
    end_with(parent)
    import uvicorn
    from prefect.server.api.server import create_app

    config = uvicorn.Config(create_app(ephemeral=not with_ui, final=True), log_level="error", lifespan="on")
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=descriptor)])


if __name__ == "__main__":
    serve(*map(int, sys.argv[1:]))
