"""Request ids: a repeated one gets the first answer again, also while that is still being found."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import Future

from cascade.ask import Ask, Decided
from cascade.errors import CascadeError, StoreError
from cascade.redaction import holds_placeholder
from cascade.server.decision_log import from_log
from cascade.traffic import TrafficStore

_log = logging.getLogger(__name__)


class RequestIds:
    """Who is deciding which request id.

    Parameters
    ----------
    store : TrafficStore
        Where earlier decisions are found.
    """

    def __init__(self, store: TrafficStore) -> None:
        self._store = store
        self._answering: dict[tuple[str, str], Future[Decided]] = {}
        self._lock = threading.Lock()

    def claim(self, ask: Ask) -> tuple[Decided | None, Future[Decided] | None, Future[Decided] | None]:
        """Look a request id up: its decision, or the right to decide it, or the one who is deciding it."""
        key = (ask.node, ask.scoped_request_id)
        with self._lock:
            other = self._answering.get(key)
            if other is not None:
                return None, None, other
            mine: Future[Decided] = Future()
            self._answering[key] = mine
        known = None
        try:
            found = self._store.find(*key)
            # An answer whose log was redacted is not what was answered; it is found anew.
            if found is not None and found.error is None and not holds_placeholder(found.output):
                known = from_log(found, ask.request_id)
        # A store that fails, or a record that cannot be read, costs idempotency, never the answer.
        except StoreError:
            _log.warning("the store cannot be read: request ids are not recognised", exc_info=True)
        except Exception:
            _log.exception("node %s: the decision of an earlier request id cannot be read", ask.node)
        if known is not None:
            self.release(ask, mine, known)
            return known, None, None
        return None, mine, None

    def release(self, ask: Ask, mine: Future[Decided], result: Decided | CascadeError) -> None:
        """Give what was claimed its result, for all who follow."""
        with self._lock:
            self._answering.pop((ask.node, ask.scoped_request_id), None)
        if isinstance(result, CascadeError):
            mine.set_exception(result)
        else:
            mine.set_result(result)
