"""The guard watches what the certificate proves about slices, at the bar it proves."""

from cascade.policy.guard import Action, AuditRecord, GuardSettings, decide, new_guard, observe
from cascade.policy.guarded_slices import GuardedSlices


def row(dimension: str, value: str, state: str, bar: float) -> dict[str, object]:
    return {"dimension": dimension, "value": value, "state": state, "bar": bar}


TABLE = [
    row("label", "refund", "proven", 0.9), row("label", "order", "covered", 0.9),
    row("tenant", "a", "proven", 0.8), row("tenant", "b", "fenced", 0.9),
]  # fmt: skip


def test_proven_slices_are_watched_covered_and_fenced_ones_are_not() -> None:
    slices = GuardedSlices.from_certificate({"slices": {"context": ["tenant"], "table": TABLE}})
    assert slices.names == ("label=refund", "tenant=a")
    assert slices.bars == (0.9, 0.8)


def test_a_certificate_without_slices_gives_none() -> None:
    assert GuardedSlices.from_certificate({"valid": True}).names == ()


def test_an_answer_lies_in_the_slices_of_its_label_and_of_its_context() -> None:
    slices = GuardedSlices.from_certificate({"slices": {"context": ["tenant"], "table": TABLE}})
    assert slices.of("refund", {"tenant": "a"}) == ("label=refund", "tenant=a")
    assert slices.of({"json": "value"}, {}) == ()


def test_a_missing_context_key_counts_as_the_empty_value() -> None:
    assert GuardedSlices({("tenant", ""): 0.9}).of("refund", {}) == ("tenant=",)


def test_each_slice_is_judged_at_its_own_bar() -> None:
    slices = GuardedSlices({("label", "refund"): 0.9, ("tenant", "a"): 0.5})
    settings = GuardSettings(0.9, slices=slices.names, slice_bars=slices.bars)

    def verdict(name: str) -> Action:
        state = new_guard(settings)
        for n in range(600):  # one in four wrong in the slice, which is a twelfth of the traffic
            inside = n % 12 == 0
            wrong = inside and n % 48 == 0
            state = observe(settings, state, AuditRecord(n, not wrong, slices=(name,) if inside else ()))
        return decide(settings, state, 0).action

    assert verdict("tenant=a") is Action.PROMOTE
    assert verdict("label=refund") is not Action.PROMOTE
