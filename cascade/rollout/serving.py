"""What a node serves at this moment: the plan, the bundles in memory and the flags, read by every request."""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from cascade.ask import Mode
from cascade.bundle import Bundle
from cascade.fences import TRAFFIC
from cascade.flags import Flags
from cascade.heap import trim
from cascade.rollout.choice import Plan, bucket, choose
from cascade.rollout.shelf import Shelf

_log = logging.getLogger(__name__)

_LOG_EVERY = 30.0
_MOST_CHOSEN = 256


@dataclass(frozen=True, slots=True)
class Served:
    """Who serves a request.

    Attributes
    ----------
    mode : Mode
    bundle : Bundle, optional
        Whose ladder answers; None where the teacher does.
    shadow : Bundle, optional
        What runs beside; None for nothing.
    """

    mode: Mode
    bundle: Bundle | None = None
    shadow: Bundle | None = None


@dataclass(frozen=True, slots=True)
class _Now:
    """One consistent picture; replaced whole."""

    plan: Plan
    bundles: Mapping[str, Bundle]
    available: frozenset[str]
    chosen: dict[tuple[str | None, str | None, bool], tuple[Served, str]] = field(default_factory=dict)
    """Who serves, and why flags were overruled; by flags, and whether the key is in the candidate's share."""


@dataclass(slots=True)
class ServingCounts:
    """What flags could not have: how often a request was served by the last good bundle instead."""

    overruled: int = 0


_BY_TEACHER = Served("passthrough")


@dataclass
class Serving:
    """Chooses, for one node.

    Parameters
    ----------
    node : str
    shelf : Shelf
    flags : Flags
    """

    node: str
    shelf: Shelf
    flags: Flags
    counts: ServingCounts = field(default_factory=ServingCounts)

    def __post_init__(self) -> None:
        self._now = _Now(Plan(known=False), {}, frozenset())
        self._asked = Plan(known=False)
        self._lock = threading.Lock()
        self._last_log = float("-inf")

    @property
    def plan(self) -> Plan:
        """What requests are served by."""
        return self._now.plan

    @property
    def bundles(self) -> Mapping[str, Bundle]:
        """What can be served now, by version."""
        return self._now.bundles

    @property
    def stable(self) -> Bundle | None:
        """The bundle that serves whoever is not on a candidate."""
        return self._now.bundles.get(self._now.plan.stable)

    def of(self, context: Mapping[str, str], key: str) -> Served:
        """Choose who serves a request.

        Parameters
        ----------
        context : mapping of str to str
        key : str
            The targeting key: the session, else the request id, else one that nobody else has.
        """
        return self.of_each([context], lambda _: key)[0]

    def of_each(self, contexts: Sequence[Mapping[str, str]], key: Callable[[int], str]) -> list[Served]:
        """Choose who serves each of several requests.

        Parameters
        ----------
        contexts : sequence of mapping of str to str
        key : callable
            Gives the targeting key of the request at a place.
        """
        now = self._now
        # With a share, the key decides as well.
        names = self.flags.decided_by(self.node) if len(contexts) > 1 and not 0 < now.plan.share < 1 else None
        found: list[tuple[Served, str]] = []
        if names is not None:
            if names:
                found = self._choose_by(names, contexts, key)
            else:
                found = [self._choose(contexts[0], key(0))] * len(contexts)
            if now is not self._now or names != self.flags.decided_by(self.node):
                found = []  # what decides has changed meanwhile
        if not found:
            found = [self._choose(context, key(i)) for i, context in enumerate(contexts)]
        for _, overruled in found:
            if overruled:
                self._tell(overruled)
        return [served for served, _ in found]

    def _choose_by(
        self, names: Sequence[str], contexts: Sequence[Mapping[str, str]], key: Callable[[int], str]
    ) -> list[tuple[Served, str]]:
        """Give the same of each, once for all that agree on some keys of the context."""
        chosen: dict[tuple[str | None, ...], tuple[Served, str]] = {}
        found = []
        for i, context in enumerate(contexts):
            said = tuple([context.get(name) for name in names])
            one = chosen.get(said)
            if one is None:
                one = chosen[said] = self._choose(context, key(i))
            found.append(one)
        return found

    def _choose(self, context: Mapping[str, str], key: str) -> tuple[Served, str]:
        """Give who serves a request, and why flags were overruled."""
        flags = self.flags.of(self.node, context, key)
        now = self._now
        plan = now.plan
        place = bucket(self.node, plan.candidate, key) if 0 < plan.share < 1 else 0.0
        key_of_choice = flags.mode, flags.bundle, place < plan.share  # hashed in C, as `flags` is not
        chosen = now.chosen.get(key_of_choice)
        if chosen is None:
            choice = choose(plan, flags, now.available, place)
            served = Served(choice.mode, now.bundles.get(choice.bundle), now.bundles.get(choice.shadow))
            chosen = (served if choice.bundle or choice.shadow else _BY_TEACHER, choice.overruled)
            if len(now.chosen) < _MOST_CHOSEN:  # a vendor's flags may name ever new bundles
                now.chosen[key_of_choice] = chosen
        return chosen

    def adopt(self, plan: Plan) -> None:
        """Serve by a plan from now on, as far as its bundles are in memory. Never waits for a bundle.

        What is rolled back goes at once. A stable version that is not in memory yet, or is refused, leaves
        the one before in its place.
        """
        with self._lock:
            self._asked = plan
            self._picture()

    def load(self, again: bool = True) -> bool:
        """Bring the plan's bundles, and those that flags name, into memory; let go of the others.

        Takes as long as loading takes. Bundles of before are let go of only after the new picture stands, so
        that no request waits or fails. `again` tries anew what was refused a moment ago.

        Returns
        -------
        bool
            Whether anything changed.
        """
        before = (self._now.plan, set(self._now.bundles))
        plan = self._asked
        wanted = {v for v in (plan.stable, plan.candidate, plan.spare) if v}
        wanted |= self.flags.bundles(self.node) - plan.barred
        for version in sorted(wanted):
            self.shelf.fetch(version, again)
        with self._lock:
            self._picture()
        let_go = self.shelf.keep(wanted | {self._now.plan.stable})
        with self._lock:
            self._picture()
        if let_go:
            gc.collect()  # what a failed question left may hold its bundle in a cycle
            trim()
        changed = (self._now.plan, set(self._now.bundles)) != before
        if changed:
            _log.info("node %s: %s", self.node, self.describe())
        return changed

    def _picture(self) -> None:
        plan, last = self._asked, self._now.plan.stable
        bundles = {v: b for v in self.shelf.versions() if (b := self.shelf.get(v)) is not None}
        if plan.stable and plan.stable not in bundles and last in bundles and last not in plan.barred:
            plan = replace(plan, stable=last)
        for version, reason in plan.fenced.items():  # before it serves; `LiveWatch` takes it down
            if version in bundles:
                bundles[version].fences.set(TRAFFIC, reason)
        available = frozenset(v for v, bundle in bundles.items() if bundle.policy.certified)
        self._now = _Now(plan, bundles, available)

    def describe(self) -> str:
        """Say in a few words what is served."""
        plan = self._now.plan
        if not plan.known:
            return "the teacher answers everything until the rollout's state can be read"
        said = f"serving bundle {plan.stable}" if self.stable is not None else "the teacher answers"
        if plan.candidate and plan.candidate not in plan.barred:
            beside = ", and beside the others" if plan.shadow and plan.share else ""
            live = f"live for {plan.share:.4g} of requests" if plan.share else "in shadow"
            said += f"; candidate {plan.candidate} is {live}{beside}"
        return said

    def _tell(self, overruled: str) -> None:
        self.counts.overruled += 1
        now = time.monotonic()
        if now - self._last_log >= _LOG_EVERY:
            self._last_log = now
            _log.error(
                "node %s: %s; the last good bundle serves (%d requests so far)",
                self.node, overruled, self.counts.overruled,
            )  # fmt: skip
