"""How many second tries a client may make while its calls are refused."""

from __future__ import annotations

import threading


class RetryThrottle:
    """Stops second tries of all calls of a client while many of them are refused.

    They would be most of what an overloaded server has to refuse: of lasting overload each caller would make
    all its tries. A refusal takes a token, an answer gives a part of one, and where half of them are gone a
    refusal is final (gRFC A6, "Throttling Retry Attempts and Hedged RPCs"): a burst is carried over, and of
    lasting overload no more tries come than a tenth of the answers. May be used by many threads.

    Parameters
    ----------
    tokens : float
        The most there are, and at first.
    of_an_answer : float
        What an answer gives.
    """

    def __init__(self, tokens: float = 100.0, of_an_answer: float = 0.1) -> None:
        self._most, self._of_an_answer = tokens, of_an_answer
        self._tokens = tokens
        self._lock = threading.Lock()

    def answered(self) -> None:
        """Count an answer."""
        if self._tokens < self._most:
            with self._lock:
                self._tokens = min(self._most, self._tokens + self._of_an_answer)

    def allows(self) -> bool:
        """Count a refusal, and say whether the call may be tried again."""
        with self._lock:
            self._tokens = max(0.0, self._tokens - 1.0)
            return self._tokens > self._most / 2
