"""What every test stands on: components that may be missing, and a machine that is left alone.

`@pytest.mark.needs("mount")` skips a test where the component is missing; the end of
the run lists all such. Under FLYWHEEL_REQUIRE=all it fails instead.
"""

import os
import shutil
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

REQUIRE = "FLYWHEEL_REQUIRE"
MISSING = pytest.StashKey[dict[str, list[str]]]()
"""Why a component is missing, to the tests that need it."""


def why_no_mount() -> str:
    """Why no small disk can be mounted here; empty where one can."""
    if os.geteuid() != 0:
        return "only root may mount"
    if shutil.which("mount") is None:
        return "there is no mount command (Debian: apt install mount)"
    with tempfile.TemporaryDirectory() as folder:
        tried = subprocess.run(["mount", "-t", "tmpfs", "none", folder], capture_output=True, text=True)
        if tried.returncode == 0:
            subprocess.run(["umount", folder], check=True)
    return tried.stderr.strip()


def why_no_chromium() -> str:
    """Why no browser can be started here; empty where one can."""
    return "" if shutil.which("chromium") else "there is no chromium command (Debian: apt install chromium)"


def why_no_vllm() -> str:
    """Why vLLM is not to be had here, empty where it is: it is installed, which takes a minute."""
    done = subprocess.run(["sh", "setup-vllm.sh"], cwd=Path(__file__).parents[1], capture_output=True, text=True)
    return "" if done.returncode == 0 else done.stderr.strip() or "setup-vllm.sh failed"


def why_no_compose() -> str:
    """Why docker-compose cannot be asked here; empty where it can."""
    return "" if shutil.which("docker-compose") else "there is no docker-compose (Debian: apt install docker-compose)"


def postgres_commands() -> list[Path]:
    """Debian's initdb, postgres and pg_isready of the newest version there is; empty where there is none."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    newest = max(found, key=lambda path: int(path.parent.name), default=None)
    return [newest / name for name in ("initdb", "postgres", "pg_isready")] if newest else []


def why_no_postgres() -> str:
    """Why there is no Postgres here; empty where there is."""
    return "" if postgres_commands() else "there is no initdb (Debian: apt install postgresql)"


COMPONENTS: dict[str, Callable[[], str]] = {
    "mount": cache(why_no_mount),
    "chromium": cache(why_no_chromium),
    "vllm": cache(why_no_vllm),
    "docker-compose": cache(why_no_compose),
    "postgres": cache(why_no_postgres),
}
"""Component to why it is missing, empty where it is there."""


def pytest_configure(config: pytest.Config) -> None:
    """Before any import of a test: nobody's state, no network, no GPU, and one thread, so that runs repeat."""
    config.stash[MISSING] = defaultdict(list)
    home = Path(tempfile.mkdtemp(prefix="flywheel-tests-"))
    config.add_cleanup(lambda: shutil.rmtree(home, ignore_errors=True))
    for name in [name for name in os.environ if name.startswith("PREFECT_") or is_setting(name)]:
        del os.environ[name]
    os.environ |= {"FLYWHEEL_HOME": str(home / "flywheel"), "PREFECT_HOME": str(home / "prefect")}
    os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def is_setting(name: str) -> bool:
    """Whether an environment variable configures the wheel."""
    return name.startswith("FLYWHEEL_") and "__" in name


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse components that nobody can look for."""
    for item in items:
        for component in components(item):
            if component not in COMPONENTS:
                known = ", ".join(COMPONENTS)
                raise pytest.UsageError(f"{item.nodeid} needs {component!r}; tests/conftest.py knows {known}: add it.")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose component is missing, or fail it where all are required."""
    for component in components(item):
        reason = COMPONENTS[component]()
        if reason:
            item.config.stash[MISSING][f"{component}: {reason}"].append(item.nodeid)
            give_up = pytest.fail if os.environ.get(REQUIRE) == "all" else pytest.skip
            give_up(f"{component} is missing: {reason}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """List the tests that missed a component."""
    for reason, tests in config.stash[MISSING].items():
        terminalreporter.section(f"missing {reason}")
        for test in tests:
            terminalreporter.line(test)


def components(item: pytest.Item) -> list[str]:
    """What a test needs."""
    return [component for marker in item.iter_markers("needs") for component in marker.args]
