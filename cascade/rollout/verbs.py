"""What people do with rollouts: start, approve, hold, roll back, look at. The same for CLI and RPC."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cascade.config import Config
from cascade.errors import BundleError, RolloutRefused, StoreError, UnknownNode
from cascade.manifest import read_manifest, verify_files
from cascade.pointer import point_to, serving_version
from cascade.policy import steps
from cascade.rollout.shelf import refuse_outside
from cascade.rollout.state import Event, NodeRollout, What, apply, fold
from cascade.rollout.store import RolloutStore

if TYPE_CHECKING:
    from cascade.flags.named import FlagsNamed

_TRIES = 20
_JUST_NOW = 600.0
"""Seconds in which a second rollback that names no bundle is taken for the same wish as the first."""


@dataclass
class Verbs:
    """Changes and shows rollouts.

    Every change is written as an event on the state that was read; where somebody else was faster, the state
    is read and the change judged anew.

    Parameters
    ----------
    config : Config
    store : RolloutStore
    clock : callable
        Unix seconds.
    """

    config: Config
    store: RolloutStore
    clock: Callable[[], float] = time.time

    def state(self, node: str) -> NodeRollout:
        """Give where a node's rollout stands.

        Raises
        ------
        UnknownNode, StoreError
        """
        return self._read(node)[0]

    def history(self, node: str) -> list[Event]:
        """Give all events of a node, in order. Raises like `state`."""
        return self._read(node)[1]

    def _read(self, node: str) -> tuple[NodeRollout, list[Event]]:
        if node not in self.config.nodes:
            raise UnknownNode(node, list(self.config.nodes))
        events = self.store.events(node)
        return fold(NodeRollout(node), events), events

    def start(
        self,
        node: str,
        who: str,
        why: str = "",
        bundle: str = "",
        percent: int = 0,
        approval: str = "",
        force: bool = False,
    ) -> NodeRollout:
        """Begin the rollout of a bundle.

        Parameters
        ----------
        node, who, why : str
        bundle : str
            Empty for the newest one.
        percent : int
            The step to begin at: 0 for shadow, or one of the configured steps.
        approval : str
            `automatic` or `manual`; empty for what the configuration says.
        force : bool
            Whether one that was rolled back, or is fenced off since its live traffic changed, may begin
            again, one that serves be taken off the traffic for it, or the one under way be given up.

        Raises
        ------
        UnknownNode, RolloutRefused, BundleError, StoreError
        """
        shares = (steps.SHADOW, *self.config.rollout.steps)
        if percent not in shares:
            raise RolloutRefused(f"{percent} is none of the steps {', '.join(map(str, shares))}")
        if approval not in ("", "automatic", "manual"):
            raise RolloutRefused(f"approval is automatic or manual, not {approval!r}")
        automatic = (approval or self.config.rollout.approval) == "automatic"
        state = self.state(node)
        version = bundle or newest(self.config.models_path, node)
        check_bundle(self.config.models_path, node, version, self.config.nodes[node].bar.agreement)

        def event(state: NodeRollout) -> tuple[str, Mapping[str, object]]:
            under_way = state.candidate
            if under_way and not force:
                raise RolloutRefused(
                    f"the rollout of {under_way} is under way; roll it back first, or start with --force"
                )
            if version in state.barred and not force:
                raise RolloutRefused(
                    f"{version} was rolled back ({state.barred[version]}); start with --force to try it again"
                )
            if version in state.fenced and not force:
                raise RolloutRefused(
                    f"{version} is fenced off ({state.fenced[version].why}); start with --force to settle "
                    "by it again, and have its live traffic tested anew from then on"
                )
            stable = state.stable(pointer_of(self.config.models_path, node))
            if stable == version and not force:
                raise RolloutRefused(
                    f"{version} serves everybody already, so there is nothing to roll out; --force takes it "
                    "off the traffic and begins anew"
                )
            return version, {
                "stable": "" if stable == version else stable,
                "shares": list(shares),
                "step": shares.index(percent),
                "automatic": automatic,
                "marks": list(self.store.marks()),
            }

        return self._pointed(self._write(state, "start", who, why, event))

    def approve(self, node: str, who: str, why: str = "", force: bool = False) -> NodeRollout:
        """Let a rollout that waits, or is held, go on. `force`: to the next step without the evidence.

        It is about the step that is read first: where that is left meanwhile, it is refused, since of two
        who approve at once nobody wants two steps.

        Raises
        ------
        UnknownNode, RolloutRefused, StoreError
        BundleError
            The bundle to get more traffic is damaged or gone.
        """
        first = self.state(node)
        rollout = first.rollout
        if rollout is not None and first.candidate and (force or rollout.status is steps.Status.AWAITING):
            bar = self.config.nodes[node].bar.agreement
            check_bundle(self.config.models_path, node, rollout.bundle, bar)

        def event(state: NodeRollout) -> tuple[str, Mapping[str, object]]:
            if _place(state) != _place(first) and state.last is not None:
                last = state.last
                raise RolloutRefused(
                    f"somebody changed it meanwhile: {last.what} of {last.bundle} by {last.who}"
                    f"{last.why and f' ({last.why})'}; look where it stands now, and say it again"
                )
            return _current(state), {"force": force}

        return self._pointed(self._write(first, "approve", who, why, event))

    def _pointed(self, state: NodeRollout) -> NodeRollout:
        """Move the pointer where the change has completed a rollout, as a report is about what it names."""
        if state.rollout is not None and state.rollout.full:
            with contextlib.suppress(OSError):  # the shared state says it anyway
                point_to(self.config.models_path, state.node, state.rollout.bundle)
        return state

    def hold(self, node: str, who: str, why: str = "") -> NodeRollout:
        """Keep a rollout at its step; the guard may still pull it back.

        Raises
        ------
        UnknownNode, RolloutRefused, StoreError
        """
        return self._write(self.state(node), "hold", who, why, lambda state: (_current(state), {}))

    def rollback(self, node: str, who: str, why: str = "", bundle: str = "") -> NodeRollout:
        """Pull a bundle back and bar it: the named one, else the candidate, else the stable one.

        Which one that is, is settled by what is read first: where somebody else pulls it back meanwhile, that
        was what was wanted, and nothing more is written.

        Raises
        ------
        UnknownNode, StoreError
        RolloutRefused
            There is nothing to pull back, nobody knows such a bundle, it was pulled back before, or no bundle
            is named and, a moment after another rollback, only the stable one is left.
        """
        first, events = self._read(node)
        if bundle and not self._known(node, bundle, events):
            known = ", ".join(_bundles(self.config.models_path, node)) or "none"
            raise RolloutRefused(
                f"{bundle!r} is no bundle of node {node}: it has no folder, is in no event, and the pointer "
                f"does not name it; there are: {known}"
            )
        version = bundle or first.candidate or self._stable_to_pull_back(first, events)

        def event(state: NodeRollout) -> tuple[str, Mapping[str, object]] | None:
            if version not in state.barred:
                return version, {}
            if state is not first:
                return None
            raise RolloutRefused(f"{version} was rolled back before: {state.barred[version]}")

        return self._write(first, "rollback", who, why, event)

    def _known(self, node: str, version: str, events: list[Event]) -> bool:
        """Say whether there is or was such a bundle; a folder that is gone may be in memory still."""
        told = {name for e in events for name in (e.bundle, e.data.get("stable"))}
        if version in told or version == pointer_of(self.config.models_path, node):
            return True
        with contextlib.suppress(BundleError):
            refuse_outside(version)
            return (self.config.models_path / node / version).is_dir()
        return False

    def _stable_to_pull_back(self, state: NodeRollout, events: list[Event]) -> str:
        """Give the stable version for a rollback that names none.

        Of two people who roll a candidate back at once, or one who is a moment later than the guard, the
        second finds only the good bundle, and did not mean that one.
        """
        stable = state.stable(pointer_of(self.config.models_path, state.node))
        if not stable:
            raise RolloutRefused(f"node {state.node} serves no bundle: there is nothing to roll back")
        last = next((e for e in reversed(events) if e.what != "fence"), None)  # a fence is about traffic
        # One of a clock that runs ahead is recent, too: to ask once more costs less than the good bundle.
        if last is not None and last.what == "rollback" and self.clock() - last.time < _JUST_NOW:
            at = datetime.fromtimestamp(last.time, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
            raise RolloutRefused(
                f"{last.who} rolled {last.bundle} back at {at}{last.why and f' ({last.why})'}, and {stable} "
                f"serves now; to take the stable bundle out as well say --bundle {stable}"
            )
        return stable

    def _write(
        self,
        state: NodeRollout,
        what: What,
        who: str,
        why: str,
        make: Callable[[NodeRollout], tuple[str, Mapping[str, object]] | None],
    ) -> NodeRollout:
        """Write what `make` gives for the state, which is read anew where a race was lost; None: nothing."""
        if not who.strip():
            raise RolloutRefused("say who does this")
        for _ in range(_TRIES):
            made = make(state)
            if made is None:
                return state
            bundle, data = made
            event = Event(state.node, state.seq + 1, self.clock(), who, what, why.strip(), bundle, data)
            after = apply(state, event)
            if self.store.append(event):
                return after
            state = fold(state, self.store.events(state.node, state.seq))
        raise StoreError(f"node {state.node}: others changed the rollout {_TRIES} times meanwhile; try again")

    def describe(self, node: str) -> dict[str, Any]:
        """Give where a node's rollout stands as JSON values. Raises like `state`."""
        return describe(self.config, self.state(node))


def problem_of(config: Config, node: str, version: str) -> str:
    """Say why a service that starts now would not serve a version; one that runs goes on with what it had.

    Parameters
    ----------
    version : str
        What `describe` calls `stable`; empty for the teacher.
    """
    try:
        serving_version(config.models_path, node)
        if version:
            folder = config.models_path / node / version
            refuse_outside(version)
            if not folder.is_dir():
                raise BundleError(version, f"there is no folder {folder}")
            verify_files(folder, read_manifest(folder))
    except (BundleError, OSError) as error:
        return f"bundle refused: {error}"
    return ""


def describe(config: Config, state: NodeRollout, flags: FlagsNamed | None = None) -> dict[str, Any]:
    """Give where a rollout stands as JSON values, and the flags that may say otherwise.

    Parameters
    ----------
    config : Config
    state : NodeRollout
    flags : FlagsNamed, optional
        What is in force; by default what the flag file says, where there is no vendor's provider.
    """
    from cascade.flags.named import FlagsNamed, named_in_file  # OpenFeature takes a while to import

    if flags is None:
        of_vendor = config.flags_provider is not None
        flags = FlagsNamed([]) if of_vendor else named_in_file(config.flags_path, config.nodes, state.node)
    plan = state.plan(pointer_of(config.models_path, state.node))
    rollout = state.rollout
    return {
        "node": state.node,
        "seq": state.seq,
        "status": "none" if rollout is None else rollout.status.value.replace(" ", "-"),
        "bundle": "" if rollout is None else rollout.bundle,
        "stable": plan.stable,
        "candidate": plan.candidate,
        "percent": 0 if rollout is None else rollout.share,
        "shares": [] if rollout is None else list(rollout.shares),
        "automatic": True if rollout is None else rollout.automatic,
        "since": state.since,
        "why": "" if state.last is None else state.last.why,
        "who": "" if state.last is None else state.last.who,
        "rolled_back": dict(state.barred),
        "flags": flags.keys,
        "flags_problem": flags.problem,
    }


def newest(models: Path, node: str) -> str:
    """Name the newest bundle of a node.

    Raises
    ------
    RolloutRefused
        There is none.
    """
    found = _bundles(models, node)
    if not found:
        raise RolloutRefused(
            f"node {node} has no bundle in {models / node}; `cascade retrain {node}` makes one"
        )
    return found[-1]


def _bundles(models: Path, node: str) -> list[str]:
    folder = models / node
    return sorted(p.parent.name for p in folder.glob("[0-9]*-*/manifest.json")) if folder.is_dir() else []


def check_bundle(models: Path, node: str, version: str, bar: float) -> None:
    """Check that a bundle can be rolled out: its files are intact and its certificate covers the bar.

    Raises
    ------
    BundleError
        They are not.
    """
    refuse_outside(version)
    if not (models / node / version).is_dir():
        known = ", ".join(_bundles(models, node)) or "none"
        raise BundleError(version, f"is missing: node {node} has no such bundle; it has: {known}")
    manifest = read_manifest(models / node / version)
    verify_files(models / node / version, manifest)
    if manifest.get("node") != node:
        raise BundleError("manifest.json", f"the bundle is for node {manifest.get('node')!r}, not {node!r}")
    certificate = manifest.get("certificate", {})
    if not certificate.get("valid") or certificate.get("bar", 0.0) < bar:
        raise BundleError(
            "manifest.json",
            f"no valid certificate covers the node's bar of {bar}: {certificate.get('reason')}",
        )


def _current(state: NodeRollout) -> str:
    return state.rollout.bundle if state.rollout is not None else ""


def _place(state: NodeRollout) -> tuple[str, int, bool]:
    """Give what an approval is about: the bundle, what began its step, and whether somebody holds it."""
    held = state.rollout is not None and state.rollout.status is steps.Status.HELD
    return _current(state), state.step_seq, held


def pointer_of(models: Path, node: str) -> str:
    """Give the version that a node's pointer names; empty where it names none or cannot be read."""
    try:
        return serving_version(models, node) or ""
    except BundleError:
        return ""
