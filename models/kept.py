"""A command that is ended when whoever holds this process's standard input is gone, whatever ended that one.

Run by its path, and of the standard library alone, so that neither the folder it is started in nor the packages of
the command's own environment matter: `kept(["vllm", "serve"])` is what to start.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from threading import Thread

LOOK_S = 0.2
GRACE_S = 3.0
"""For a command to clear up what it shares with others, before it is killed."""
LEAVE_S = 10.0
"""In which what a command started is to be gone with it, and with it the memory of GPUs."""


def kept(command: Sequence[str]) -> list[str]:
    """The command that runs another so, given a pipe as its standard input."""
    return [sys.executable, "-P", __file__, *command]


def keep(command: Sequence[str]) -> int:
    """Run a command until it ends, or whoever holds our standard input does."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)

    def end() -> None:
        while os.read(0, 1):  # not by sys.stdin, whose lock would be held when this process ends
            pass
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGTERM)
            time.sleep(GRACE_S)
            os.killpg(child.pid, signal.SIGKILL)

    Thread(target=end, daemon=True).start()
    status, deadline = child.wait(), time.monotonic() + LEAVE_S
    with suppress(ProcessLookupError):
        while time.monotonic() < deadline:
            os.killpg(child.pid, signal.SIGKILL)  # workers that outlived it
            time.sleep(LOOK_S)
    return status


if __name__ == "__main__":
    sys.exit(keep(sys.argv[1:]))
