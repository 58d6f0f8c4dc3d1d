"""How many cores are used where fewer are granted than there are."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from models.cores import granted, num_cores

V2 = "0::/user.slice/job\n"
V1 = "5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("membership", "files", "cores"),
    [
        (V2, {}, math.inf),
        (V2, {"user.slice/job/cpu.max": "max 100000\n"}, math.inf),
        (V2, {"user.slice/job/cpu.max": "150000 100000\n"}, 1.5),
        (V2, {"user.slice/job/cpu.max": "400000 100000\n", "user.slice/cpu.max": "200000 100000\n"}, 2.0),
        (V2, {"cpu.max": "50000 100000\n"}, 0.5),
        (V1, {"cpu/docker/abc/cpu.cfs_quota_us": "-1\n", "cpu/docker/abc/cpu.cfs_period_us": "100000\n"}, math.inf),
        (V1, {"cpu/docker/abc/cpu.cfs_quota_us": "300000\n", "cpu/docker/abc/cpu.cfs_period_us": "100000\n"}, 3.0),
        (V1, {"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1.0),
        (V1, {"memory/docker/abc/cpu.max": "1 1\n"}, math.inf),
        ("", {"cpu.max": "100000 100000\n"}, math.inf),
    ],
)
def test_control_groups_grant_the_least_of_what_they_and_those_above_have(
    tmp_path: Path, membership: str, files: dict[str, str], cores: float
) -> None:
    write(tmp_path / "self", membership)
    for name, text in files.items():
        write(tmp_path / "groups" / name, text)
    assert granted(tmp_path / "groups", tmp_path / "self") == cores


def test_affinity_counts() -> None:
    program = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\nfrom models.cores import num_cores\n"
    told = subprocess.run([sys.executable, "-c", f"{program}print(num_cores())"], capture_output=True, text=True)
    assert told.stdout == "1\n", told.stderr
    assert 1 <= num_cores() <= len(os.sched_getaffinity(0))
