"""How many cores a process may use, and which its workers keep to.

Those are the ones that it may run on, and of them what its control groups leave it.

A container's limit (`--cpus 2`, Kubernetes' `limits.cpu`) and systemd's `CPUQuota=` are quotas of time: the
process still sees every core of the machine, and with a worker for each would be throttled most of the time.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from cascade.errors import ConfigError

_log = logging.getLogger(__name__)

_MOUNT = Path("/sys/fs/cgroup")
_SELF = Path("/proc/self/cgroup")
_THREADS = Path("/proc/self/task")


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


def cores_of_workers(
    workers: int, wanted: bool | None = None, mount: Path = _MOUNT, membership: Path = _SELF
) -> list[int] | None:
    """Give the core that each worker keeps to, or None where they may run anywhere.

    The threads of a worker share the interpreter's lock. Spread over cores by the kernel, they pass it from
    one to the other, and with it what lies in the caches.

    Parameters
    ----------
    workers : int
    wanted : bool, optional
        By default they do where each has a core for itself: with fewer workers a core would stay idle, and
        under a quota the cores are others' too, who might pick the same ones.
    mount, membership : Path
        See `usable_cores`.

    Raises
    ------
    ConfigError
        It is wanted, and this system has no such call.
    """
    if not hasattr(os, "sched_setaffinity"):
        if wanted:
            raise ConfigError("server.pin_workers: this system cannot keep a process to a core; leave it out")
        return None
    cores = sorted(os.sched_getaffinity(0))
    if wanted is None:
        wanted = 1 < workers == len(cores) and all(q >= len(cores) for q in _quotas(mount, membership))
    return [cores[worker % len(cores)] for worker in range(workers)] if wanted else None


def keep_to(core: int) -> None:
    """Have this process run on one core only, with the threads that it has and those to come."""
    try:
        for thread in _THREADS.iterdir() if _THREADS.is_dir() else ():
            with suppress(ProcessLookupError):  # it has ended meanwhile
                os.sched_setaffinity(int(thread.name), {core})
        os.sched_setaffinity(0, {core})
    except OSError as error:  # the core was taken from us meanwhile: slower, and no reason not to serve
        _log.warning("worker: cannot keep to core %d: %s", core, error)


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
