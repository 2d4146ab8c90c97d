"""The loop: a node that is due is retrained, compared with what serves, and rolled out or told why not."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.bundle import Bundle, load_bundle
from cascade.config import Config, EncoderRungConfig
from cascade.encoder import find_encoder
from cascade.errors import BundleError, CascadeError, RetrainRefused, RolloutRefused
from cascade.manifest import read_manifest
from cascade.page.figures import answer_shift
from cascade.policy.slices import SliceRules
from cascade.rollout.database_store import DatabaseRolloutStore
from cascade.rollout.state import NodeRollout
from cascade.rollout.verbs import Verbs
from cascade.traffic import TrafficStore
from cascade.validators import import_validators
from training.asking import open_chats
from training.compare import Comparison, compare, nothing_settled, outcome
from training.curate import CuratedRecord
from training.journal import read_journal
from training.net_cost import measure_ms
from training.node_rungs import encoders_of, local_rungs
from training.retrain import retrain
from training.sizes import LadderSize, bundle_bytes, ladder_sizes, smallest

WHO = "loop"
_TIMED = 60
_URGENT = ("shift", "fence", "rollback")


@dataclass
class Turn:
    """What the loop did about one node.

    Attributes
    ----------
    node : str
    due : list of str
        Why it was due, each beginning with `first`, `new`, `time`, `shift`, `fence` or `rollback`; empty
        where it was not.
    version : str
        The bundle that was trained; empty where none was.
    started : bool
        Whether its rollout was started.
    why : str
        Why it was, or was not, in a sentence.
    comparison : Comparison, optional
        With what serves.
    sizes : list of LadderSize
        The ladders that the node could have, the smallest first.
    smallest : tuple of str
        The local rungs of the smallest that clears the bar; empty where none does.
    caveats : list of str
        What is to be said with the retraining's verdict: see `training.caveats`.
    """

    node: str
    due: list[str] = field(default_factory=list)
    version: str = ""
    started: bool = False
    why: str = ""
    comparison: Comparison | None = None
    sizes: list[LadderSize] = field(default_factory=list)
    smallest: tuple[str, ...] = ()
    caveats: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Give it as JSON."""
        return {
            "node": self.node, "due": self.due, "version": self.version, "started": self.started,
            "why": self.why, "comparison": self.comparison.to_json() if self.comparison else None,
            "sizes": [size.to_json() for size in self.sizes], "smallest": list(self.smallest),
            "caveats": self.caveats,
        }  # fmt: skip


def why_due(config: Config, store: TrafficStore, node: str, now: float) -> list[str]:
    """Say why a node should be retrained now; nothing where it need not be.

    Raises
    ------
    StoreError
    """
    settings = config.loop
    times = [record.time or 0.0 for record in store.training_records(node)]
    journal = read_journal(config, node)
    if not times:
        return []
    if not journal:
        return [f"first: {len(times)} training records, and never trained"]
    last = journal[-1].time
    due = []
    new = sum(at > last for at in times)
    if new >= settings.new_records:
        due.append(f"new: {new} training records since the last retraining")
    days = (now - last) / 86_400
    if new and days >= settings.every_days:
        due.append(f"time: the last retraining is {days:.1f} days old")
    shift = answer_shift(store, node)
    if new and shift is not None and shift >= settings.shift:
        due.append(f"shift: {shift:.0%} of the newest answers are others than before")
    verbs = Verbs(config, DatabaseRolloutStore(store))
    back = [event for event in verbs.history(node) if event.what == "rollback" and event.time > last]
    if back and new:
        due.append(f"rollback: {back[-1].bundle} was rolled back: {back[-1].why}")
    state = verbs.state(node)
    changed = state.fenced.get(_serving(config, verbs, node))
    fenced = [changed.why] if changed is not None else []
    if slices := _fenced(config, state, node):
        fenced.append(f"{', '.join(slices[:5])} go to the teacher")
    if new >= max(1, settings.new_records // 4):
        due += [f"fence: {why}, and there are {new} new records" for why in fenced]
    return due


def turn(
    config: Config, store: TrafficStore, node: str, progress: Callable[[str], None] = lambda _: None,
    force: bool = False, seed: int = 0,
) -> Turn:  # fmt: skip
    """Look at one node, and do what is due.

    Parameters
    ----------
    config : Config
    store : TrafficStore
    node : str
    progress : callable
        Told the name of each step.
    force : bool
        Whether it is retrained even if nothing is due.
    seed : int

    Raises
    ------
    StoreError, ConfigError
    """
    done = Turn(node, why_due(config, store, node, time.time()))
    if not done.due and not force:
        done.why = "nothing is due"
        return done
    records = store.training_records(node)
    encoders = encoders_of(config)
    means = store.teacher_means(node)
    try:
        result = retrain(node, config, records, encoders, means, seed, progress, activate=False)
    except RetrainRefused as error:
        done.why = error.message
        return done
    done.caveats = result.caveats
    if not result.version:
        done.why = f"no certificate: {result.certificate.reason}"
        return done
    done.version = result.version
    progress("comparing")
    open_chat = open_chats(config, config.nodes[node])
    folder = config.models_path / node / result.version
    candidate = load_bundle(folder, encoders, node, open_chat=open_chat)
    done.sizes = _sizes(config, node, candidate, result.scored, result.counted)
    found = smallest(done.sizes)
    done.smallest = found.rungs if found else ()
    verbs = Verbs(config, DatabaseRolloutStore(store))
    serving = _serving(config, verbs, node)
    if serving == result.version:
        done.why = "the same traffic gave the bundle that serves already"
        return done
    if serving:
        settles = serving not in verbs.state(node).fenced
        done.comparison = _compared(
            config, node, result.records, candidate, serving, encoders, open_chat, seed, settles
        )
    start, why = verdict(done.comparison, done.due, config.loop.significance)
    done.why = why
    if not start:
        return done
    try:
        verbs.start(node, WHO, why, result.version, percent=config.loop.percent)
        done.started = True
    except RolloutRefused as error:
        done.why = f"{why}; but its rollout was refused: {error}"
    return done


def verdict(comparison: Comparison | None, due: Sequence[str], significance: float) -> tuple[bool, str]:
    """Say whether a new bundle's rollout is started, and why.

    Better bundles are; where traffic moved away from the serving one, those that are not worse are, too.
    """
    if comparison is None:
        return True, "no bundle serves yet, and this one is certified"
    c = comparison
    sure = c.p_value < significance
    shown = (
        f"on {c.n} records it alone settles {c.gained} rightly, the serving bundle alone {c.lost} "
        f"(McNemar p = {c.p_value:.2g}); settled {c.settled:.1%} after {c.settled_before:.1%}"
    )
    if sure and c.gained > c.lost:
        return True, f"better: {shown}"
    if sure and c.lost > c.gained:
        return False, f"worse: {shown}"
    urgent = [reason for reason in due if reason.startswith(_URGENT)]
    if urgent:
        return True, f"not worse, and {urgent[0]}; {shown}"
    return False, f"not better by more than chance: {shown}"


def _serving(config: Config, verbs: Verbs, node: str) -> str:
    """Give what serves or is on its way; empty for the teacher."""
    found = verbs.describe(node)
    return str(found["candidate"] or found["stable"])


def _fenced(config: Config, state: NodeRollout, node: str) -> list[str]:
    version = state.candidate or (state.rollout.bundle if state.rollout else "")
    if not version or version in state.barred:
        return []
    try:
        certificate = read_manifest(config.models_path / node / version)["certificate"]
        rules = SliceRules.from_manifest(certificate)
    except (BundleError, KeyError):
        return []
    return [f"{dimension}={value}" for dimension, value in rules.fenced]


def _compared(
    config: Config, node: str, records: Sequence[CuratedRecord], candidate: Bundle, serving: str,
    encoders: Any, open_chat: Any, seed: int, settles: bool,
) -> Comparison | None:  # fmt: skip
    """Compare on the records that the new bundle's certificate counted: the newest, where split by time.

    The serving bundle may have learned from some of them, which favours it; the new one's thresholds were
    certified on them, which, a little, favours that. A serving bundle whose traffic changed settles nothing
    (`settles` is false), whatever it once would have.
    """
    try:
        old = load_bundle(config.models_path / node / serving, encoders, node, open_chat=open_chat)
    except CascadeError:
        return None
    validators = import_validators(node, config.nodes[node].validators)
    before = outcome(old, records, validators) if settles else nothing_settled(len(records))
    return compare(outcome(candidate, records, validators), before, seed)


def _sizes(
    config: Config, node: str, bundle: Bundle, scored: Any, counted: NDArray[np.int64] | None
) -> list[LadderSize]:
    rungs = local_rungs(node, config, config.nodes[node])
    folders = {}
    for r, (name, kind) in enumerate(rungs):
        rung = config.rungs[name]
        if kind == "encoder" and isinstance(rung, EncoderRungConfig):
            folders[r] = find_encoder(rung.model, config.models_path, config.base)
    each, common = bundle_bytes(
        config.models_path / node / bundle.version, [kind for _, kind in rungs], folders
    )
    golden = bundle.manifest["settings"]["strictness"]
    texts = [f"{label} please" for label in bundle.contract.labels][:_TIMED]
    bar = config.nodes[node].bar
    return ladder_sizes(
        scored, golden, bar.agreement, round(1 - bar.confidence, 9),
        measure_ms(bundle.ladder, texts).tolist(), each, common, counted,
    )  # fmt: skip
