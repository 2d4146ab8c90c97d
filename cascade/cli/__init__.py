"""The command line: `cascade serve | retrain | import | report | encoder export | demo | ...`."""

from cascade.cli.app import app

__all__ = ["app"]
