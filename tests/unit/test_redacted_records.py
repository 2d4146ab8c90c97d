"""What is left of a log record once it is redacted, and ids that stand alone in their text."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.redaction import redactor
from cascade.redaction.redactor import Redactor
from cascade.traffic import Decision
from cascade.traffic.rows import Rows
from tests.traffic_records import decision, row_of

REDACT = Redactor(b"sixteen bytes or more")
SAID = "ask anna@example.com"


def stored(record: Decision) -> Decision:
    rows = Rows(redactor=REDACT)
    return rows.decision_of(row_of(rows, record))


def test_every_part_that_may_repeat_what_was_said_is_redacted() -> None:
    record = decision(
        "d1", text=SAID, context={"user": SAID}, output={"a": SAID}, error=f"bad: {SAID}",
        attempts=[{"rung": "r", "reason": SAID}, {"rung": "s", "reason": ""}],
    )  # fmt: skip
    found = stored(record)
    clean = REDACT.text(SAID)
    assert "anna" not in repr(found)
    assert (found.text, found.context, found.output) == (clean, {"user": clean}, {"a": clean})
    assert (found.error, found.attempts[0]["reason"]) == (f"bad: {clean}", clean)
    chat = replace(
        record, text=None, messages=(("user", SAID),), context={}, output="x", error=None, attempts=[]
    )
    assert stored(chat).messages == (("user", clean),)


def test_a_reason_alone_is_redacted() -> None:
    record = decision("d1", attempts=[{"rung": "r", "reason": SAID}])
    assert stored(record).attempts == [{"rung": "r", "reason": REDACT.text(SAID, "t")}]
    assert record.attempts[0]["reason"] == SAID


def test_the_trace_of_a_request_stays_and_nothing_else_by_its_name() -> None:
    trace = "00-da817180c3098008231247acf61696d5-be983fdd1c7b3ed7-03"
    assert "IBAN" in REDACT.text(trace)  # drawn at random, as many are before one looks like this
    assert stored(decision("d1", context={"traceparent": trace})).context == {"traceparent": trace}
    for key, value in (("traceparent", SAID), ("traceparent", f"{trace} {SAID}"), ("other", trace)):
        assert REDACT.context({key: value}) == {key: REDACT.text(value)} != {key: value}


TRACE = "00-da817180c3098008231247acf61696d5-be983fdd1c7b3ed7-03"
# A digit more or less; as many dashes as there should be, elsewhere; letters that are none of ours.
ALMOST = [
    "", TRACE[:-1], f"{TRACE}0", TRACE.upper(), TRACE.replace("-", "0"), f"{TRACE[:2]}a-{TRACE[4:]}",
    "-" * 55, f"{TRACE[:-1]}٣", f"{TRACE[:-1]}\n", f"{TRACE[:-3]} {TRACE[-2:]}", SAID.ljust(55, "-"),
]  # fmt: skip


@pytest.mark.parametrize("almost", [*ALMOST, TRACE])
def test_contexts_that_are_redacted_together_are_what_each_would_be_alone(almost: str) -> None:
    others: list[dict[str, str]] = [
        {"traceparent": almost}, {"traceparent": almost, "tenant": "t"}, {"user": almost},
        {"traceparent": SAID},
    ]  # fmt: skip
    for other in others:
        for batch in (
            [other],
            [{"traceparent": TRACE}, other, {}],
            [other, {"traceparent": TRACE * 2}],
            [{}],
        ):
            assert REDACT.contexts(batch) == [REDACT.context(context) for context in batch]


@given(st.lists(st.text("-0aA٣\n", max_size=3).map(lambda odd: odd + TRACE[len(odd) :]) | st.just(TRACE)))
def test_traces_are_told_together_as_each_is_alone(values: list[str]) -> None:
    assert redactor._are_traces(values) is all(redactor._TRACE.fullmatch(value) for value in values)


def test_what_holds_nothing_stays_as_it_is() -> None:
    record = decision("d1", text="where is my parcel 12?", output="tracking")
    assert stored(record) == record


@pytest.mark.parametrize(
    "id_",
    [
        "123-45-6789", "AB123456C", "X1234567L", "12345678Z", "RSSMRA85T10A562S", "529.982.247-25",
        "185017832101159", "my ssn 123456789",
    ],
)  # fmt: skip
def test_an_id_is_found_without_any_digit_beside_it(id_: str) -> None:
    assert [span.kind for span in REDACT.find(id_)] == ["NATIONAL_ID"]
