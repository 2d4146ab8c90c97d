"""Keeps a process's rollouts going in the background: follows the shared state, loads bundles, judges."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping

from cascade.errors import CascadeError, StoreError
from cascade.policy import steps
from cascade.policy.alarms import Place
from cascade.policy.guard import Raised
from cascade.rollout.alarm_board import AlarmBoard
from cascade.rollout.alarm_book import AlarmBook
from cascade.rollout.follow import Follower
from cascade.rollout.judge import Judge
from cascade.rollout.serving import Serving
from cascade.rollout.state import Event

_log = logging.getLogger(__name__)

_LOG_EVERY = 30.0


class Watch:
    """Two threads: one follows the shared state, one loads bundles, so that a rollback waits for no bundle.

    Parameters
    ----------
    follower : Follower
    judge : Judge
    alarms : AlarmBook
    board : AlarmBoard
        Is told which alarms are raised.
    servings : mapping of str to Serving
        Of each node.
    adopt : callable
        Serves a node by what is known at once, without loading anything.
    load : callable
        Brings into memory what a node serves, and says whether to try again what was refused a moment ago;
        may take seconds.
    completed : callable
        Told of a node and the bundle that its rollout made the stable one, by the process that wrote it.
    overdue : callable
        Gives the bundle of a node of which `completed` should have been told by a process that died.
    seconds : float
        How often the shared state is read.
    """

    def __init__(
        self,
        follower: Follower,
        judge: Judge,
        alarms: AlarmBook,
        board: AlarmBoard,
        servings: Mapping[str, Serving],
        adopt: Callable[[str], None],
        load: Callable[[str, bool], object],
        completed: Callable[[str, str], None],
        overdue: Callable[[str], str],
        seconds: float,
    ) -> None:
        self.store_failures = 0
        self._follower = follower
        self._judge = judge
        self._alarms = alarms
        self._board = board
        self._servings = servings
        self._adopt = adopt
        self._load = load
        self._completed = completed
        self._overdue = overdue
        self._seconds = seconds
        self._started: dict[tuple[str, str], int] = {}  # when each bundle was started last, as a place
        self._to_load = threading.Event()
        self._ended = threading.Event()
        self._last_log = float("-inf")
        self._next = time.monotonic() + seconds
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Run in the background."""
        for target, name in ((self._work, "rollouts"), (self._work_loading, "bundles")):
            thread = threading.Thread(target=target, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def close(self) -> None:
        """End both threads."""
        self._ended.set()
        self._to_load.set()
        for thread in self._threads:
            thread.join(10)

    def follow(self) -> None:
        """Read the shared state; what was rolled back, here or elsewhere, serves nobody from now on."""
        self._next = time.monotonic() + self._seconds
        began = not self._follower.known
        for node in self._follower.poll():
            if began and (bundle := self._overdue(node)):
                self._complete(node, bundle)
            self._alarms_anew(node)
            self._adopt(node)
            self._to_load.set()

    def load(self, again: bool = True) -> None:
        """Bring into memory what the nodes serve; `again` tries anew what was refused a moment ago."""
        for node in self._servings:
            self._load(node, again)

    def judge(self) -> list[Event]:
        """Let the guard look at every node; give what it decided in this process."""
        return [event for node in self._servings for event in self._judge_node(node)]

    def round(self) -> None:
        """Follow, and let the guard look at every node.

        Between two nodes the shared state is read again where that is due, so that a rollback elsewhere
        waits for one look at most, however many nodes there are.
        """
        self.follow()
        for node in self._servings:
            if time.monotonic() >= self._next:
                self.follow()
            self._judge_node(node)

    def _judge_node(self, node: str) -> list[Event]:
        if not self._follower.known:
            return []
        try:
            raised = self._alarms.look(node, self._places(node))
            events = self._judge.look(node, self._servings[node].bundles, raised)
        except StoreError as error:
            self._complain("the guard cannot see its evidence; nothing changes meanwhile: %s", error)
            return []
        for event in events:
            self._adopt(node)
            rollout = self._follower.state(node).rollout
            if event.what == "promote" and rollout is not None and rollout.full:
                self._complete(node, rollout.bundle)
        if events:
            self._to_load.set()
        self._show(node, raised)
        return events

    def _places(self, node: str) -> dict[str, Place]:
        """Say what a node's bundles are to it, and what could take their place if they were pulled back."""
        serving = self._servings[node]
        bundles, plan = serving.bundles, serving.plan
        places = {}
        for version in bundles:
            other = bundles.get(plan.spare if version == plan.stable else plan.stable)
            if version == plan.candidate:
                places[version] = Place.CANDIDATE
            elif (
                other is not None and other.version not in plan.barred | {version}
                and other.policy.certified and not other.fences.reason and not other.policy.too_dear
            ):  # fmt: skip
                places[version] = Place.REPLACEABLE
            else:
                places[version] = Place.ALONE
        return places

    def _show(self, node: str, raised: Mapping[str, list[Raised]]) -> None:
        # What was pulled back serves nobody: why it was is in the events.
        bundles, barred = self._servings[node].bundles, self._follower.state(node).barred
        live = {v: some for v, some in raised.items() if v in bundles and v not in barred}
        try:
            self._board.tell(node, live)
        except StoreError as error:
            self._complain("what alarms are raised cannot be shown; the guard heeds them: %s", error)

    def _complain(self, text: str, error: StoreError) -> None:
        self.store_failures += 1
        if time.monotonic() - self._last_log >= _LOG_EVERY:
            self._last_log = time.monotonic()
            _log.error(text, error)

    def _complete(self, node: str, bundle: str) -> None:
        try:
            self._completed(node, bundle)
        except (CascadeError, OSError) as error:  # the shared state says it anyway
            _log.error("node %s: the pointer to %s cannot be written: %s", node, bundle, error)

    def _alarms_anew(self, node: str) -> None:
        for bundle, start in self._follower.state(node).starts.items():
            if self._started.get((node, bundle)) != start.seq:  # whatever came after it meanwhile
                self._started[node, bundle] = start.seq
                self._alarms.forget(node, bundle)

    def _work(self) -> None:
        # On time, not so long after the last round: on a busy machine a round takes its share of that.
        while not self._ended.wait(max(self._next - time.monotonic(), self._seconds / 4)):
            try:
                self.round()
            except Exception:  # whatever it was, the next look may go well
                _log.exception("looking after rollouts failed")

    def _work_loading(self) -> None:
        while not self._ended.is_set():
            self._to_load.wait(1.0)
            self._to_load.clear()
            if self._ended.is_set():
                return
            try:
                self.load(again=False)
            except Exception:  # what is served keeps serving
                _log.exception("looking at bundles failed")


def describe(share: int) -> str:
    """Name a step by its share in percent."""
    return "shadow" if share == steps.SHADOW else f"{share} %"
