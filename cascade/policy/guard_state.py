"""What the guard remembers of a bundle's life, and how one audit changes it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from cascade.policy.eprocess import NO_STRETCH, BettingTest, Stretch, Wealth
from cascade.policy.guard_settings import ALL, GuardSettings


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One settled answer that the teacher was asked about too.

    Attributes
    ----------
    seq : int
        Number under which it was committed; later commits have higher ones.
    agrees : bool
        Whether the settled answer equals the teacher's, and was not reported wrong by then.
    propensity : float
        The chance with which it was drawn, in (0, 1]; 1 in shadow mode.
    floor : float or None
        The smallest propensity that any settled answer could have had at that moment; None: the same for all.
    slices : tuple of str
        The slices it belongs to.
    step : int
        The rollout's step at which the answer was settled.
    verdict : bool
        Whether the teacher's answer could be compared. Without, it proves nothing against the bundle, and
        counts as disagreeing where the bundle wants to be promoted: whichever it was, both promises hold.
    """

    seq: int
    agrees: bool
    propensity: float = 1.0
    floor: float | None = None
    slices: tuple[str, ...] = ()
    step: int = 0
    verdict: bool = True

    def __post_init__(self) -> None:
        floor = self.propensity if self.floor is None else self.floor
        if not 0 < floor <= self.propensity <= 1:
            raise ValueError(
                f"audit {self.seq}: 0 < floor <= propensity <= 1 must hold, not {floor} and {self.propensity}"
            )

    @property
    def weight(self) -> float:
        """The weight in (0, 1] with which it is bet on."""
        return 1.0 if self.floor is None else self.floor / self.propensity


@dataclass(frozen=True, eq=False)
class Tally:
    """One part's audits: counts, inverse-propensity sums, its test's wealth and evidence, the bad stretch.

    `unjudged` of the disagreements had no verdict; only promotion counts such.
    """

    audits: int
    disagreements: int
    weight: float
    wrong_weight: float
    wealth: Wealth
    stretch: Stretch = NO_STRETCH
    evidence: float = 1.0
    unjudged: int = 0

    @property
    def agreement(self) -> float | None:
        """Estimated agreement, each audit weighted by one over its propensity; None without audits."""
        return None if not self.audits else 1 - self.wrong_weight / self.weight

    def to_json(self) -> dict[str, Any]:
        """Give it as JSON values."""
        return {
            "audits": self.audits, "disagreements": self.disagreements, "weight": self.weight,
            "wrong_weight": self.wrong_weight, "wealth": self.wealth.to_json(),
            "stretch": asdict(self.stretch), "evidence": self.evidence, "unjudged": self.unjudged,
        }  # fmt: skip

    @staticmethod
    def from_json(data: dict[str, Any]) -> Tally:
        """Read what `to_json` gave."""
        return Tally(
            data["audits"], data["disagreements"], data["weight"], data["wrong_weight"],
            Wealth.from_json(data["wealth"]), Stretch(**data["stretch"]),
            data["evidence"], data.get("unjudged", 0),
        )  # fmt: skip


def _tally(test: BettingTest) -> Tally:
    return Tally(0, 0, 0.0, 0.0, test.start())


def _count(tally: Tally, record: AuditRecord, test: BettingTest) -> Tally:
    wrong, inverse = int(not (record.agrees and record.verdict)), 1 / record.propensity
    wealth = test.bet(tally.wealth, wrong, record.weight)
    return Tally(
        tally.audits + 1,
        tally.disagreements + wrong,
        tally.weight + inverse,
        tally.wrong_weight + wrong * inverse,
        wealth,
        tally.stretch.add(test.limit, wrong, 1),
        float(test.evidence(wealth)),
        tally.unjudged + int(not record.verdict),
    )


@dataclass(frozen=True, eq=False)
class GuardState:
    """All that the guard remembers of a bundle's life; a small JSON value.

    Attributes
    ----------
    seq : int
        The last record taken; -1 for none.
    parts : dict of str to Tally
        `ALL` and each slice.
    step : int
        The step that `promotion` is about.
    promotion : Tally
        The audits of that step.
    evidence : float
        The averaged evidence against the bar now.
    peak : float
        Its highest value ever.
    peak_seq : int
        The record that brought it there; -1 for none.
    peak_part : str
        The part that contributed most then.
    peak_audits, peak_disagreements : int
        That part's counts then.
    peak_stretch : Stretch
        Since when that part looked bad then.
    """

    seq: int
    parts: dict[str, Tally]
    step: int
    promotion: Tally
    evidence: float = 1.0
    peak: float = 1.0
    peak_seq: int = -1
    peak_part: str = ALL
    peak_audits: int = 0
    peak_disagreements: int = 0
    peak_stretch: Stretch = NO_STRETCH

    def to_json(self, settings: GuardSettings) -> dict[str, Any]:
        """Give it as JSON values, with what it depends on."""
        return {
            "settings": settings.fingerprint(), "seq": self.seq, "step": self.step,
            "parts": {name: tally.to_json() for name, tally in self.parts.items()},
            "promotion": self.promotion.to_json(), "evidence": self.evidence, "peak": self.peak,
            "peak_seq": self.peak_seq, "peak_part": self.peak_part, "peak_audits": self.peak_audits,
            "peak_disagreements": self.peak_disagreements, "peak_stretch": asdict(self.peak_stretch),
        }  # fmt: skip

    @staticmethod
    def from_json(settings: GuardSettings, data: dict[str, Any]) -> GuardState:
        """Read what `to_json` gave.

        Raises
        ------
        ValueError
            It was made under another bar, other slices or other margins; replay the audits instead.
        """
        if data.get("settings") != settings.fingerprint():
            raise ValueError(
                "the guard's state was made with another bar, other slices or margins: replay the audits"
            )
        return GuardState(
            data["seq"], {name: Tally.from_json(tally) for name, tally in data["parts"].items()},
            data["step"], Tally.from_json(data["promotion"]), data["evidence"], data["peak"],
            data["peak_seq"], data["peak_part"], data["peak_audits"], data["peak_disagreements"],
            Stretch(**data["peak_stretch"]),
        )  # fmt: skip


def new_guard(settings: GuardSettings) -> GuardState:
    """Give the state before any record."""
    parts = {name: _tally(test) for name, test in settings.broken.items()}
    return GuardState(-1, parts, 0, _tally(settings.good_enough(0)))


def observe(settings: GuardSettings, state: GuardState, record: AuditRecord) -> GuardState:
    """Take one audit; one that was taken already changes nothing.

    Slices of the record that are not among the settings' are ignored. An audit of an earlier step than the
    state's counts against the bar, but no longer for promotion. One without a verdict counts for promotion
    alone, as disagreeing.
    """
    if record.seq <= state.seq:
        return state
    parts = dict(state.parts)
    for name in {ALL, *record.slices} & parts.keys() if record.verdict else ():
        parts[name] = _count(parts[name], record, settings.broken[name])
    step, promotion = state.step, state.promotion
    if record.step > step:
        step, promotion = record.step, _tally(_promotion_test(settings, record.step))
    if record.step == step:
        promotion = _count(promotion, record, _promotion_test(settings, step))
    shares = {name: settings.share_of(name) * tally.evidence for name, tally in parts.items()}
    evidence = sum(shares.values())
    state = replace(state, seq=record.seq, parts=parts, step=step, promotion=promotion, evidence=evidence)
    if evidence <= state.peak:
        return state
    most = max(shares, key=lambda name: shares[name])
    return replace(
        state, peak=evidence, peak_seq=record.seq, peak_part=most,
        peak_audits=parts[most].audits, peak_disagreements=parts[most].disagreements,
        peak_stretch=parts[most].stretch,
    )  # fmt: skip


def _promotion_test(settings: GuardSettings, step: int) -> BettingTest:
    # the last step leads nowhere; its test is never asked, but audits there are counted
    return settings.good_enough(min(step, len(settings.margins) - 1))
