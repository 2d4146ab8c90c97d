"""Request ids: a repeated one gets the first answer again, also while that is still being found."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from cascade.ask import Ask, Decided
from cascade.errors import CascadeError, InvalidInput, StoreError
from cascade.redaction import holds_placeholder
from cascade.server.decision_log import from_log
from cascade.server.gone import CallerGone
from cascade.traffic import TrafficStore

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Follower:
    """Somebody who waits for what another is told.

    Attributes
    ----------
    ask : Ask
    told : callable
        Given that.
    lead : callable
        Given the claim instead, where the other failed for want of time or because it left: now this one
        decides.
    """

    ask: Ask
    told: Callable[[Decided | CascadeError], object]
    lead: Callable[[Claim], object]


class Claim:
    """The right to decide a request id, which goes from one to the next; and who waits for the outcome."""

    __slots__ = ("ask", "followers", "result")

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        self.followers: list[Follower] = []
        self.result: Decided | CascadeError | None = None


class RequestIds:
    """Who is deciding which request id.

    Parameters
    ----------
    store : TrafficStore
        Where earlier decisions are found.
    """

    def __init__(self, store: TrafficStore) -> None:
        self._store = store
        self._answering: dict[tuple[str, str], Claim] = {}
        self._lock = threading.Lock()

    def claim(self, ask: Ask) -> tuple[Decided | None, Claim | None, Claim | None]:
        """Look a request id up: its decision, or the right to decide it, or the one who is deciding it."""
        key = (ask.node, ask.scoped_request_id)
        with self._lock:
            other = self._answering.get(key)
            if other is not None:
                return None, None, other
            mine = self._answering[key] = Claim(ask)
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
            self.release(mine, known)
            return known, None, None
        return None, mine, None

    def follow(self, other: Claim, follower: Follower) -> None:
        """Have somebody told what another's claim comes to, which may be over already."""
        with self._lock:
            result = other.result
            if result is None:
                other.followers.append(follower)
                return
            act = partial(follower.told, result)
            if _may_do_better(follower.ask, other.ask, result):
                key = (follower.ask.node, follower.ask.scoped_request_id)
                if (third := self._answering.get(key)) is not None:
                    third.followers.append(follower)
                    return
                mine = self._answering[key] = Claim(follower.ask)
                act = partial(follower.lead, mine)
        act()

    def release(self, mine: Claim, result: Decided | CascadeError) -> None:
        """Give what was claimed its result, for all who follow.

        Where it failed for a reason of this caller's own, that one of them who has most time decides, and the
        others follow it: were all to ask again each time, n of them would come to n * n steps.
        """
        told: list[Follower] = []
        stay: list[Follower] = []
        with self._lock:
            for each in mine.followers:
                (stay if _may_do_better(each.ask, mine.ask, result) else told).append(each)
            heir = max(stay, key=lambda each: _until(each.ask), default=None)
            mine.followers = [each for each in stay if each is not heir]
            if heir is not None:
                mine.ask = heir.ask
            else:
                mine.result = result
                self._answering.pop((mine.ask.node, mine.ask.scoped_request_id), None)
        for each in told:
            each.told(result)
        if heir is not None:
            heir.lead(mine)


def repeated(ask: Ask, result: Decided | CascadeError) -> Decided | CascadeError:
    """Give who repeats a request id the first answer, unless what is asked now forbids it."""
    if isinstance(result, Decided) and ask.choices and result.output not in ask.choices:
        return InvalidInput(
            "request_id",
            f"was used for a question whose answer, {str(result.output)[:80]!r}, is none of this one's "
            "choices; another question needs an id of its own",
        )
    return result


def _until(ask: Ask) -> float:
    return math.inf if ask.deadline is None else ask.deadline


def _may_do_better(follower: Ask, leader: Ask, result: Decided | CascadeError) -> bool:
    """Say whether one may be decided where another was told that: it has more time, or is still there."""
    if not isinstance(result, CascadeError) or (follower.gone is not None and follower.gone.fired):
        return False
    return isinstance(result, CallerGone) or (result.by_deadline and _until(follower) > _until(leader))
