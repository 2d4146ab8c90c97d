"""What a certificate's reader must know beside its figures: said with the verdict, wherever that is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.evaluate import Scored, settle
from training.journal import Retraining
from training.wording import counted, part_of, sentence


def caveats(manifest: Mapping[str, Any], earlier: Sequence[Retraining] = ()) -> list[str]:
    """Give the caveats of a retraining, in sentences; empty where there are none.

    Parameters
    ----------
    manifest : mapping
        Of the bundle, or of the refused retraining.
    earlier : sequence of Retraining
        The node's retrainings before this one, oldest first.
    """
    data = manifest.get("dataset") or {}
    records = data.get("records") or {}
    bare = manifest["certificate"].get("without_right_answer") or {}
    found = []
    certificate = manifest["certificate"]
    if certificate.get("valid") and "held_out_records" not in certificate:
        found.append(
            "It was certified before near copies and the records of a session counted once. Where traffic "
            "repeats itself, its confidence is less than it says: retrain."
        )
    if bare.get("held_out") or bare.get("trained"):
        found.append(_without_right_answer(records, bare))
    if records.get("ignored_session_records"):
        found.append(_sessions(records, manifest["certificate"].get("new_sessions")))
    n = refused_on_same(earlier, data.get("held_out_from"))
    if n:
        chance = min((n + 1) * manifest["certificate"]["delta"], 1.0)
        found.append(
            f"This was try {n + 1} on held-out records that may overlap, after {counted(n, 'refused one')} "
            "since the last certificate. The confidence is that of a single try: that one of them all "
            "certifies what is below the bar has a chance of which is only known that it is at most "
            f"{chance:.0%}."
        )
    return found


def refused_on_same(earlier: Sequence[Retraining], held_out_from: float | None) -> int:
    """Count the refused retrainings since the last certified one that held out some of the same records.

    Parameters
    ----------
    earlier : sequence of Retraining
    held_out_from : float, optional
        Time of the oldest record held out now; None where the split was not by time, so that any may be.
    """
    n = 0
    for entry in reversed(earlier):
        if entry.version:
            break
        apart = (
            held_out_from is not None
            and entry.held_out_until is not None
            and entry.held_out_until < held_out_from
        )
        n += not apart
    return n


def without_right_answer(
    trained: NDArray[np.int64], scored: Scored, thresholds: Sequence[float]
) -> dict[str, int]:
    """Count the records that no rung can be right about, and those that would have been settled.

    Parameters
    ----------
    trained : int array
        Labels of the training records.
    scored : Scored
        Of the held-out records.
    thresholds : sequence of float
    """
    first, _ = settle(scored, thresholds)
    bare = scored.y < 0
    return {
        "trained": int((trained < 0).sum()),
        "held_out": int(bare.sum()),
        "settled": int((first[bare] < scored.right.shape[1]).sum()),
    }


def _without_right_answer(records: Mapping[str, int], bare: Mapping[str, int]) -> str:
    kinds = (
        ("rare_labels", "rare labels", "an answer that no other record has"),
        ("off_contract", "off the contract", "an answer that is none of its labels"),
    )
    named = [(name, f"{records[key]:,} with {what}") for key, name, what in kinds if records.get(key)]
    line = (
        f"{' and '.join(name for name, _ in named)}: of {records['kept']:,} distinct records, no local rung "
        f"can be right about {' and '.join(what for _, what in named)}. {bare['held_out']:,} of them were "
        f"held out as wrong, and it would have answered {bare['settled']:,} of those; from the "
        f"{bare['trained']:,} others it learned only what to leave to the teacher"
    )
    if records.get("off_contract"):
        line += (
            ". Where they are answers of an older contract, correct them in their file, and import it with "
            "--replace"
        )
    return sentence(line)


def _sessions(records: Mapping[str, int], measured: Mapping[str, float] | None) -> str:
    n, of_them, kept = (records[key] for key in ("ignored_sessions", "ignored_session_records", "kept"))
    hold, stand = ("holds", "it stands") if n == 1 else ("hold", "they stand")
    line = (
        f"{counted(n, 'session')} {hold} {part_of(of_them, kept)} of the distinct records, too many to be "
        f"kept together, so {stand} among training and held-out records alike: this says nothing about new "
        "sessions. "
    )
    if measured:
        line += (
            f"Out of fold, the linear model alone is right about {measured['seen']:.1%} of their records, "
            f"and about {measured['new']:.1%} where it has seen no other record of the session. "
        )
    return line + (
        "Where the id names a service or a stream of traffic that goes on, that is as it should be; where it "
        "names a conversation or a user, it is not."
    )
