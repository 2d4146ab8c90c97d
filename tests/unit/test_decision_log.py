"""A decision and its record in the log say the same, each thing in its place."""

from cascade.ask import Ask, Attempt, Decided
from cascade.errors import TeacherUnavailable
from cascade.server.decision_log import from_log, to_log

TEACHER = "frontier"
ATTEMPTS = (
    Attempt("linear", 0.25, 0.5, 1.5, "confidence 0.5 is below 0.9"),
    Attempt("frontier", latency_ms=250.0, teacher="gpt"),
)
DECIDED = Decided("id-1", "refund", "frontier", 0.75, "0003-12345678", "live", ATTEMPTS, 0.125, 11, 7, "r-1")
ASK = Ask("support", "my money back", (), {"tenant": "acme"}, "r-1", ("refund", "order"))


def test_what_was_decided_is_read_from_its_record() -> None:
    assert from_log(to_log(ASK, DECIDED, TEACHER, 1000.0, 1002.5, None), "r-1") == DECIDED


def test_a_record_says_who_asked_what_and_how_long_it_took() -> None:
    record = to_log(ASK, DECIDED, TEACHER, 1000.0, 1002.5, None)
    assert (record.node, record.time, record.latency_ms) == ("support", 1000.0, 2500.0)
    assert (record.request_id, record.context) == ("acme/r-1", {"tenant": "acme"})
    assert (record.text, record.messages, record.choices) == ("my money back", None, ("refund", "order"))
    assert record.by_teacher
    assert record.error is None


def test_a_record_of_a_chat_has_its_messages_and_not_its_text() -> None:
    ask = Ask("support", "user: hello", (("user", "hello"),))
    record = to_log(ask, DECIDED, TEACHER, 0.0, 0.0, TeacherUnavailable("it is down"))
    assert (record.text, record.messages, record.request_id) == (None, (("user", "hello"),), None)
    assert record.error == "TEACHER_UNAVAILABLE: it is down"
