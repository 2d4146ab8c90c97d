"""Whether live traffic is still like the records that a certificate was proven on: a conformal martingale.

Each live request has one score: how sure the ladder was at the last local rung that ran. If live and held-out
requests are exchangeable, the rank of each new score among all before it is uniform, and nobody can win by
betting on the ranks. The simple jumper bets that ranks drift down; its capital starts at 1 and, by
Ville's inequality, ever reaches 1 / level with probability at most `level` while nothing has changed, however
long one watches and whenever one looks.

It sees changes of the requests that change how sure the ladder is. A teacher that starts to answer
otherwise to the same requests leaves scores as they are; the audit of a rollout sees that.

References
----------
Vovk, Petej, Nouretdinov, Ahlberg, Carlsson, Gammerman, "Retrain or not retrain: conformal test martingales
for change-point detection", COPA 2021 (the simple jumper).
Vovk, Nouretdinov, Gammerman, "Testing exchangeability on-line", ICML 2003.
"""

from __future__ import annotations

import bisect
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

JUMP = 0.01
"""Share of the capital that moves between bets in each step."""

ROUND = 20_000
"""Live requests after which the test begins anew, so that what it holds in memory is bounded."""

DOWNWARD = (-1.0, 0.0)
"""Bets that the ladder gets less sure; 0 waits. Live traffic repeats texts that training held, on which the
ladder is surer than on held-out ones: a bet on rising scores would take that for a change."""


def score_of(attempts: Sequence[Mapping[str, Any]]) -> float | None:
    """Give a logged decision's score, in [-1, 1].

    Parameters
    ----------
    attempts : sequence of mappings
        Those of a logged decision.

    Returns
    -------
    float or None
        The acceptor's probability at the last local rung that ran; where all were skipped, the difficulty
        model's for the first minus 1. None where something failed or nothing was tried, as such a request
        says nothing about the traffic.
    """
    local = _local(attempts)
    if not local or failed(attempts):
        return None
    sure = [a["confidence_after"] for a in local if a.get("confidence_after") is not None]
    return float(sure[-1]) if sure else float(local[0]["p_right_before"]) - 1.0


def failed(attempts: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a local rung failed at a logged decision, or too little time was left for one.

    Requests that the first rung settles meet no other, so what is left of many that failed is what the ladder
    is sure of.
    """
    return any(str(attempt["reason"]).startswith(("error", "deadline")) for attempt in _local(attempts))


def _local(attempts: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [attempt for attempt in attempts if attempt.get("p_right_before") is not None]


def name_of(text: str) -> bytes:
    """Give a short name of a text, by which one that was seen before is known."""
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()


def _share_of(number: int) -> float:
    """Give the part of the level that a round may spend, the first being 1; those of all add up to 1."""
    return 0.9 if number == 1 else 0.1 / (number * (number - 1))


class LiveTest:
    """Bets against "live scores are exchangeable with the held-out ones".

    After `ROUND` live requests it begins anew, with the held-out scores alone. Each round has a share of the
    level, so the chance of a false alarm ever is at most the level (a union bound over rounds).

    Parameters
    ----------
    reference : iterable of float
        Scores of the held-out records.
    level : float
        Chance of a false alarm over the whole life of the test, in (0, 1); 0 never alarms.
    bets : sequence of float
        In [-1, 1]: on smaller ranks where negative.

    Examples
    --------
    >>> test = LiveTest([i / 500 for i in range(500)], 0.01)
    >>> for i in range(200):
    ...     test.add(f"request {i}", 0.01)
    >>> test.alarm
    True
    """

    def __init__(self, reference: Iterable[float], level: float, bets: Sequence[float] = DOWNWARD) -> None:
        self._reference = sorted(float(score) for score in reference)
        self._bets = tuple(bets)
        self._round = 0
        self.level = level
        self.n = 0
        self.most = 0.0
        self._begin_round()

    def _begin_round(self) -> None:
        self._round += 1
        self._sorted = self._reference.copy()
        self._seen: set[bytes] = set()
        self._capital = [1 / len(self._bets)] * len(self._bets)

    @property
    def alarm(self) -> bool:
        """Whether the capital of a round, times the round's share of the level, ever reached 1 / level."""
        return self.level > 0 and self.most >= 1 / self.level

    @property
    def p_value(self) -> float:
        """An anytime-valid p-value: 1 over the most that a round's capital times its share ever was."""
        return min(1.0, 1 / self.most) if self.most else 1.0

    def add(self, text: str, score: float) -> None:
        """Take one live request; a text that was seen before in this round is not taken again.

        Held-out records are distinct texts, so repeats among live ones would not be like them.
        """
        self.add_named(name_of(text), score)

    def add_named(self, name: bytes, score: float) -> None:
        """Take one live request by its text's `name_of`; see `add`."""
        if name in self._seen:
            return
        if len(self._seen) == ROUND:
            self._begin_round()
        self._seen.add(name)
        low, high = bisect.bisect_left(self._sorted, score), bisect.bisect_right(self._sorted, score)
        # ties are broken at random, by the text: the same log gives the same capital in every process
        luck = (int.from_bytes(name, "big") + 0.5) / 2**64
        p = (low + luck * (high - low + 1)) / (len(self._sorted) + 1)
        self._sorted.insert(high, score)
        self.n += 1
        total = sum(self._capital)
        self._capital = [
            ((1 - JUMP) * own + JUMP / len(self._bets) * total) * (1 + bet * (p - 0.5))
            for own, bet in zip(self._capital, self._bets, strict=True)
        ]
        self.most = max(self.most, _share_of(self._round) * sum(self._capital))

    def reason(self) -> str:
        """Say in plain words what the alarm means; empty without one."""
        if not self.alarm:
            return ""
        return (
            f"the traffic changed: over {self.n:,} live requests the ladder's certainty is not like that on "
            f"the held-out records (anytime-valid p = {self.p_value:.1e}, level {self.level:g}); retrain"
        )
