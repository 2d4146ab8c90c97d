"""Simulated rollouts: many at once, through the very test that serves.

One step of the simulation is one audit of each rollout. How many settled answers lie between two audits is
drawn from the audit rate in force (`cascade.policy.audit_rate`), whether the audit disagrees from the
candidate's truth, and what the guard makes of it is computed by `cascade.policy.eprocess` on arrays.
`observe` and `decide` give the same verdicts on the same records, which tests/unit/test_guard_simulation.py
checks record by record.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cascade.policy.audit_rate import AuditSettings, audit_rate
from cascade.policy.eprocess import BettingTest, Wealth
from cascade.policy.guard import ALL, GuardSettings
from cascade.policy.steps import SHADOW, SHARES


@dataclass(frozen=True)
class Truth:
    """What a simulated candidate is really like.

    Attributes
    ----------
    agreement : float
        Of what it settles outside the slices.
    slices : tuple of (share, agreement)
        Slices that exclude each other: their share of what is settled, and the agreement in them.
    later : float or None
        The agreement outside the slices, once `settled_before` answers were settled live.
    settled_before : int
    """

    agreement: float
    slices: tuple[tuple[float, float], ...] = ()
    later: float | None = None
    settled_before: int = 0


@dataclass(frozen=True)
class Traffic:
    """What a node gets.

    Attributes
    ----------
    per_second : float
        Requests a second.
    settled_share : float
        The share of them that the candidate settles.
    usd_per_audit : float
        What asking the teacher costs.
    teacher_answers : bool
        Whether in shadow the teacher answers everybody. Then each answer that the candidate would have
        settled is compared at no cost; else shadow is audited like any other step.
    """

    per_second: float
    settled_share: float
    usd_per_audit: float = 0.0
    teacher_answers: bool = True

    def settled_per_second(self, share: int) -> float:
        """Give the settled answers a second at a step; in shadow all traffic is compared."""
        return self.per_second * self.settled_share * (100 if share == SHADOW else share) / 100


class Simulation:
    """Rollouts under way, all alike but for chance.

    Attributes
    ----------
    step : int64 array of shape (n_rollouts,)
        The step each is at.
    audits, disagreements : int64 array of shape (n_rollouts,)
        Over the whole life.
    settled : int64 array of shape (n_rollouts,)
        Answers settled live; none in shadow.
    seconds : float64 array of shape (n_rollouts,)
        Since the start.
    usd : float64 array of shape (n_rollouts,)
        What its audits have cost.
    evidence : float64 array of shape (n_rollouts,)
        Against the bar.
    rolled_back : bool array of shape (n_rollouts,)
    left : list of dict
        For each step that was left: `rollouts` (indices), `audits` and `seconds` they spent in it.
    wrong, member, propensity, at_step : arrays of shape (n_rollouts,)
        The last audit of each: whether it disagreed, its slice (-1 for none), its propensity, its step.
    """

    def __init__(
        self,
        settings: GuardSettings,
        truth: Truth,
        traffic: Traffic,
        audits: AuditSettings,
        n_rollouts: int,
        rng: np.random.Generator,
        shares: tuple[int, ...] = SHARES,
    ) -> None:
        if len(truth.slices) != len(settings.slices):
            raise ValueError(f"{len(settings.slices)} slices are tested, {len(truth.slices)} are simulated")
        if len(shares) > len(settings.margins) + 1:
            raise ValueError(
                f"{len(shares)} steps need {len(shares) - 1} margins, not {len(settings.margins)}"
            )
        self._settings, self._truth, self._rng = settings, truth, rng
        self._shares = np.array(shares)
        self._per_second = np.array([traffic.settled_per_second(share) for share in shares])
        self._audit_settings = audits
        self._traffic = traffic
        self._free = np.array([share == SHADOW and traffic.teacher_answers for share in shares])
        self._rates = np.zeros((len(shares), 2, 0))
        self._edges = np.cumsum([share for share, _ in truth.slices])
        self._slice_agreement = np.array([agreement for _, agreement in truth.slices])
        everything = settings.broken[ALL]
        self._all = everything.start((n_rollouts,))
        self._slices = everything.start((n_rollouts, len(settings.slices)))
        self._promotion = settings.good_enough(0).start((n_rollouts,))
        self._entered = np.zeros(n_rollouts)
        self.step = np.zeros(n_rollouts, np.int64)
        self.audits = np.zeros(n_rollouts, np.int64)
        self.disagreements = np.zeros(n_rollouts, np.int64)
        self.settled = np.zeros(n_rollouts, np.int64)
        self.seconds = np.zeros(n_rollouts)
        self.usd = np.zeros(n_rollouts)
        self.evidence = np.ones(n_rollouts)
        self.rolled_back = np.zeros(n_rollouts, bool)
        self.left: list[dict[str, NDArray[np.float64]]] = []
        self.wrong = np.zeros(n_rollouts, np.int64)
        self.member = np.full(n_rollouts, -1, np.int64)
        self.propensity = np.ones(n_rollouts)
        self.at_step = np.zeros(n_rollouts, np.int64)

    @property
    def full(self) -> NDArray[np.bool_]:
        """Whether each is at its last step."""
        at_goal: NDArray[np.bool_] = self.step == len(self._shares) - 1
        return at_goal

    def advance(self) -> None:
        """Go on to each rollout's next audit; one that is rolled back is audited on, and not promoted."""
        self._wait_for_audit()
        self._audit()
        self._promote()

    def _wait_for_audit(self) -> None:
        live = self._shares[self.step] != SHADOW
        suspicious = (self.evidence >= self._settings.suspicious).astype(np.int64)
        here = self._promotion.count
        if here.max() >= self._rates.shape[2]:
            self._rates = self._rates_up_to(2 * int(here.max()) + 1000)
        self.propensity = self._rates[self.step, suspicious, here]
        gap = self._rng.geometric(self.propensity)
        self.usd += np.where(self._free[self.step], 0.0, self._traffic.usd_per_audit)
        self.settled += np.where(live, gap, 0)
        self.seconds += gap / self._per_second[self.step]
        self.at_step = self.step.copy()

    def _rates_up_to(self, n: int) -> NDArray[np.float64]:
        """Give the rate at each step, without and with doubt, for each count of audits; none is 0."""
        per_audit, rates = self._traffic.usd_per_audit, np.ones((len(self._shares), 2, n))
        for step in np.flatnonzero(~self._free):
            day = self._per_second[step] * 86_400
            for doubt in (0, 1):
                rates[step, doubt] = [
                    audit_rate(self._audit_settings, count, bool(doubt), 0.0, per_audit, day).rate
                    for count in range(n)
                ]
        return np.maximum(rates, 1e-9)

    def _audit(self) -> None:
        truth, n = self._truth, len(self.step)
        agreement = np.full(n, truth.agreement)
        if truth.later is not None:
            agreement[self.settled > truth.settled_before] = truth.later
        if len(self._edges):
            self.member = np.searchsorted(self._edges, self._rng.random(n), side="right")
            inside = self.member < len(self._edges)
            agreement[inside] = self._slice_agreement[self.member[inside]]
            self.member[~inside] = -1
        self.wrong = (self._rng.random(n) >= agreement).astype(np.int64)
        self.audits += 1
        self.disagreements += self.wrong
        settings, everything = self._settings, self._settings.broken[ALL]
        self._all = everything.bet(self._all, self.wrong)
        self.evidence = settings.share_of(ALL) * everything.evidence(self._all)
        for k, name in enumerate(settings.slices):
            mine, broken = self.member == k, settings.broken[name]
            old = Wealth(self._slices.count[mine, k], self._slices.active[mine, k])
            new = broken.bet(old, self.wrong[mine])
            self._slices.count[mine, k], self._slices.active[mine, k] = new.count, new.active
            slice_k = Wealth(self._slices.count[:, k], self._slices.active[:, k])
            self.evidence += settings.share_of(name) * broken.evidence(slice_k)
        self.rolled_back |= self.evidence >= settings.audits_needed

    def _promote(self) -> None:
        settings = self._settings
        for step in np.unique(self.at_step):
            here = np.flatnonzero(self.at_step == step)
            test = settings.good_enough(min(int(step), len(settings.margins) - 1))
            self._bet_on_promotion(test, here)
            if step == len(self._shares) - 1:
                continue
            mine = Wealth(self._promotion.count[here], self._promotion.active[here])
            ready = here[
                (test.evidence(mine) >= 1 / settings.promote_delta)
                & (mine.count >= settings.min_audits)
                & (self.evidence[here] < settings.suspicious)
                & ~self.rolled_back[here]
            ]
            if not len(ready):
                continue
            self.left.append({
                "step": np.full(len(ready), float(step)), "rollouts": ready.astype(np.float64),
                "audits": self._promotion.count[ready].astype(np.float64),
                "seconds": self.seconds[ready] - self._entered[ready],
            })  # fmt: skip
            self._entered[ready] = self.seconds[ready]
            self._promotion.count[ready] = 0
            self._promotion.active[ready] = 0.0
            self.step[ready] += 1

    def _bet_on_promotion(self, test: BettingTest, here: NDArray[np.int64]) -> None:
        new = test.bet(Wealth(self._promotion.count[here], self._promotion.active[here]), self.wrong[here])
        self._promotion.count[here], self._promotion.active[here] = new.count, new.active
