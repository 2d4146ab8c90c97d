"""How many calls got an error: by method, gRPC's code and the error's reason."""

from __future__ import annotations

import threading

Failure = tuple[str, str, str]
"""Method, code and reason; few differ, since all are names that this package gives."""

HTTP = "http"
"""The method of whatever came over HTTP."""

UNSEEN = "unseen"
"""The method, and the reason, of calls that gRPC ended before they were looked at."""


class Failures:
    """Counts errors, once each, where a caller is told of one. For any thread.

    Most of these calls were refused before anything was decided, so nothing of them is in the traffic log.
    Counted here and not by Prometheus' client, which is slower than some refusals, and which a service
    without metrics never imports; `cascade.observe.metrics` takes the counts over.
    """

    def __init__(self) -> None:
        self._counts: dict[Failure, int] = {}
        self._lock = threading.Lock()

    def count(self, method: str, code: str, reason: str, many: int = 1) -> None:
        """Count an error, or many alike.

        Parameters
        ----------
        method : str
            The method's own name, `Decide`; never one that a caller made up.
        code : str
            Name of the gRPC status code.
        reason : str
            See `cascade.errors.CascadeError.reason`.
        """
        key = (method, code, reason)
        with self._lock:
            self._counts[key] = self._counts.get(key, 0) + many

    def counts(self) -> dict[Failure, int]:
        """Give what was counted until now."""
        with self._lock:
            return dict(self._counts)


failures = Failures()
"""The one of a process."""
