"""How many cores a process may use: those that it may run on, and what its control groups leave it of them.

A container's limit (`--cpus 2`, Kubernetes' `limits.cpu`) and systemd's `CPUQuota=` are quotas of time: the
process still sees every core of the machine, and with a worker for each would be throttled most of the time.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_MOUNT = Path("/sys/fs/cgroup")
_SELF = Path("/proc/self/cgroup")


def usable_cores(mount: Path = _MOUNT, membership: Path = _SELF) -> int:
    """Give how many cores this process may use, at least 1; a part of a core counts as one.

    Parameters
    ----------
    mount : Path
        Where the control groups are mounted.
    membership : Path
        The kernel's list of the groups of this process.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([cores, *(math.ceil(quota) for quota in _quotas(mount, membership))]))


def _quotas(mount: Path, membership: Path) -> Iterator[float]:
    """Give the limits, in cores, of the groups that this process is in and of all around them."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = mount if not controllers else mount / "cpu"  # the second version has no name here
        inner = root / path.lstrip("/")
        # A container may see itself as the root while the path is the machine's, which is then not there.
        for folder in (inner, *inner.parents):
            quota = _quota(folder)
            if quota is not None:
                yield quota
            if folder == root:
                break


def _quota(folder: Path) -> float | None:
    with suppress(OSError, ValueError, ZeroDivisionError):
        most, period = (folder / "cpu.max").read_text().split()
        return None if most == "max" else int(most) / int(period)
    with suppress(OSError, ValueError, ZeroDivisionError):
        most, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return None if int(most) < 0 else int(most) / int(period)
    return None
