"""The command line: `cascade serve | retrain | import | report | encoder export | demo | ...`."""

import os
import signal

if os.getpid() == 1:
    # A container's first process gets no signal that it has no handler for: told to end while it starts, it
    # would be waited for, and then killed. `serve` sets its own handlers once there is something to drain.
    signal.signal(signal.SIGTERM, lambda number, _: os._exit(128 + number))

from cascade.cli.app import app

__all__ = ["app"]
