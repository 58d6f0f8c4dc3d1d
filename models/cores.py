"""Cores that this process may use, which may be fewer than the machine has."""

import math
import os
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def num_cores() -> int:
    """By its affinity, and by the processor time that its control groups are granted, rounded up; at least 1."""
    may_run_on = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(may_run_on, granted(ROOT, MEMBERSHIP))))


def granted(root: Path, membership: Path) -> float:
    """Cores' worth of time that the control groups of a process have, the least of its own and all above it.

    Of versions 1 and 2 (`cpu.cfs_quota_us`, `cpu.max`: docs.kernel.org/admin-guide/cgroup-v2.html); infinite where
    nothing bounds it.
    """
    least = math.inf
    for line in _read(membership).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = root / "cpu" if controllers else root
        group = top / path.lstrip("/")
        for each in (group, *group.parents):  # within a container the path may be the host's, and lead nowhere here
            if each.is_relative_to(top):
                least = min(least, _quota(each))
    return least


def _quota(group: Path) -> float:
    words = _read(group / "cpu.max").split() or [_read(group / "cpu.cfs_quota_us"), _read(group / "cpu.cfs_period_us")]
    try:
        quota, period = map(float, words)
    except ValueError:  # "max", or no such file
        return math.inf
    return quota / period if quota > 0 < period else math.inf


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
