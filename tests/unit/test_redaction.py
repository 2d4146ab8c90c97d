"""Redaction: values become placeholders, everything else stays, and the same value stays the same value."""

import re
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.redaction import score
from benchmarks.redaction_set import HARD_NEGATIVES, Row, rows
from cascade.redaction import PLACEHOLDER, Redactor, holds_placeholder
from cascade.redaction.checksums import (
    is_card,
    is_codice_fiscale,
    is_cpf,
    is_iban,
    is_ip,
    is_nir,
    is_spanish_id,
)
from cascade.redaction.engine import PatternEngine

KEY = b"a-secret-of-the-tests"
REDACT = Redactor(KEY)


def shape(text: str) -> str:
    """Redact, with the letters of the placeholders left out."""
    return PLACEHOLDER.sub(r"<\1>", REDACT.text(text))


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("mail Bob.Smith@Example.com, please", "mail <EMAIL>, please"),
        ("call +49 (30) 123-4567 or 555-123-4567", "call <PHONE> or <PHONE>"),
        ("card 4111 1111 1111 1111 exp 12/25", "card <CARD> exp 12/25"),
        ("iban de89 3704 0044 0532 0130 00 please", "iban <IBAN> please"),
        ("ssn 123-45-6789 / NIE X1234567L", "ssn <NATIONAL_ID> / NIE <NATIONAL_ID>"),
        ("from 192.168.1.20 with v1.2.3.4", "from <IP> with v1.2.3.4"),
        ("fe80::1ff:fe23:4567:890a at 12:30:45", "<IP> at 12:30:45"),
        ("my password is hunter2!", "my password is <SECRET>!"),
        ("postgres://app:s3cr3t@db/x", "postgres://<CREDENTIALS>@db/x"),
        ("key sk-abcdef0123456789abcdef", "key <SECRET>"),
        ("order 4500123456789013 of 2024-11-03, 3 items", "order 4500123456789013 of 2024-11-03, 3 items"),
        ("", ""),
    ],
)
def test_values_are_replaced_and_nothing_else(text: str, redacted: str) -> None:
    assert shape(text) == redacted


@pytest.mark.parametrize("digit", [*"0123456789", *"٠١٢٣٤٥٦٧٨٩"])
def test_any_digit_alone_makes_a_text_worth_a_look(digit: str) -> None:
    assert shape(f"pin: {digit * 4}") == "pin: <SECRET>"


def test_the_labelled_set_is_found_and_hard_negatives_stay() -> None:
    seen = score(REDACT, rows())
    assert seen["found"] / seen["values"] >= 0.98
    assert seen["right"] / seen["findings"] >= 0.99
    assert score(REDACT, [Row(text) for text in HARD_NEGATIVES])["findings"] <= 1


def test_the_same_value_is_the_same_within_a_tenant_and_another_in_the_next() -> None:
    one = REDACT.text("+49 30 1234567", "a")
    assert one == REDACT.text("+49-30-123 4567", "a")
    assert one == Redactor(KEY).text("+49301234567", "a")
    others = {REDACT.text("+49 30 1234567", "b"), Redactor(KEY[::-1]).text("+49 30 1234567", "a")}
    assert one not in others
    assert len(others) == 2
    assert REDACT.text("A@x.example", "a") == REDACT.text("a@X.example", "a")


def test_a_copied_value_is_still_a_copy() -> None:
    question = REDACT.text("change it to eve@x.example", "t")
    answer: Any = REDACT.value({"tool": "update", "arguments": ["eve@x.example", 3, None]}, "t")
    assert answer["arguments"][0] in question
    assert answer["arguments"][1:] == [3, None]
    assert holds_placeholder(answer)
    assert not holds_placeholder({"a": ["<b>", "x_y"]})


def test_rungs_below_the_teacher_read_kinds_whatever_the_key() -> None:
    for redactor in (REDACT, Redactor(KEY[::-1])):
        assert redactor.question("to a@b.example", ()) == ("to <EMAIL>", ())
        stored = redactor.text("to a@b.example", "t")
        assert redactor.question(stored, ()) == ("to <EMAIL>", ())
        text, chat = redactor.question("", (("user", "a@b.example"), ("assistant", "ok")))
        assert (text, chat) == ("user: <EMAIL>\nassistant: ok", (("user", "<EMAIL>"), ("assistant", "ok")))


def test_labels_stay_and_other_outputs_do_not() -> None:
    redactor = Redactor(KEY, label_nodes={"intent"}.__contains__)
    assert redactor.output("intent", "call +49301234567") == "call +49301234567"
    assert redactor.output("reply", "call +49301234567") != "call +49301234567"
    assert redactor.output(None, "call +49301234567") != "call +49301234567"


def test_the_context_is_redacted_but_for_the_tenant() -> None:
    context = REDACT.context({"tenant": "shop@a.example", "user": "eve@x.example", "plan": "gold"})
    assert context["tenant"] == "shop@a.example"
    assert context["plan"] == "gold"
    assert context["user"] == REDACT.text("eve@x.example", "shop@a.example")


@pytest.mark.parametrize(
    "name",
    [
        "authorization", "Proxy-Authorization", "api_key", "apikey", "x-api-key", "OPENAI_API_KEY", "token",
        "access_token", "accessToken", "password", "db.passwd", "cookie", "set-cookie",
        "client_secret", "credentials", "APIToken", "DBPassword", "sessionCookie", "authtoken",
        "header:authorization", "headers[cookie]", "passwords",
    ],
)  # fmt: skip
def test_what_stands_under_the_name_of_a_secret_is_one_whatever_it_looks_like(name: str) -> None:
    redactor = Redactor(KEY)
    once = redactor.context({"tenant": "acme", name: "Basic hunter two"})
    assert re.fullmatch(r"<SECRET_[a-z]{8}>", once[name])
    assert redactor.context(once) == once
    value = redactor.value({"a": [{name: "open sesame"}, {name: ""}, {name: 7}]}, "acme")
    assert "sesame" not in str(value)
    assert value["a"][1:] == [{name: ""}, {name: 7}]
    assert "sesame" not in str(redactor.value({name: ["open sesame", {"is": "open sesame"}]}))
    without = Redactor(KEY, PatternEngine(["EMAIL"]))
    assert without.context({name: "open sesame"}) == {name: "open sesame"}


def test_a_tool_calls_arguments_and_an_answer_written_as_json_are_read_as_json() -> None:
    redactor = Redactor(KEY)
    arguments = '{"user": "eve@x.example", "card": 4111111111111111, "password": "open sesame"}'
    call = {"content": '[{"apiKey": "open sesame"}]', "tool_calls": [{"function": {"arguments": arguments}}]}
    once = redactor.value(call, "acme")
    assert not any(said in str(once) for said in ("sesame", "eve@x", "4111"))
    assert redactor.value(once, "acme") == once
    assert redactor.value('{"token": "open sesame", "name": "\\ud800"}').endswith('"name": "\\ud800"}')
    for other in ('{"password": 7}', '{"password" ', "[token]", '{"maxTokens": "7"}', '{"monkey":  "x"}'):
        assert redactor.value(other) == other


@pytest.mark.parametrize(
    "name", ["tokens", "max_tokens", "keyboard", "language", "secretary", "monkey", "key"]
)
def test_other_names_are_no_names_of_secrets(name: str) -> None:
    assert Redactor(KEY).context({name: "open sesame"}) == {name: "open sesame"}
    assert Redactor(KEY).value({name: "open sesame"}) == {name: "open sesame"}


def test_patterns_of_your_own_win_over_the_built_in_ones() -> None:
    redactor = Redactor(KEY, custom={"EMPLOYEE": r"E-\d{6}", "NAME": r"name is (\w+)"})
    text = redactor.text("E-123456, my name is Eve, mail E-123456@x.example")
    assert re.sub(r"_[a-z]{8}>", ">", text) == "<EMPLOYEE>, my name is <NAME>, mail <EMPLOYEE>@x.example"
    assert redactor.fingerprint != REDACT.fingerprint
    assert Redactor(KEY[::-1]).fingerprint == REDACT.fingerprint
    with pytest.raises(ValueError, match="16 bytes"):
        Redactor(b"short")


FRAGMENTS = st.sampled_from(
    [
        "a@b.example",
        "+49 30 1234567",
        "4111 1111 1111 1111",
        "<",
        ">",
        "<EMAIL_abcdefgh>",
        "٣٤٥",
        " ",
        "7",
        "x",
        "_",
    ]
)


@given(st.lists(st.one_of(FRAGMENTS, st.text(max_size=8)), max_size=12).map("".join))
def test_redacting_again_changes_nothing(text: str) -> None:
    once = REDACT.text(text)
    assert REDACT.text(once) == once
    kinds = REDACT.kinds(text)
    assert REDACT.kinds(once) == kinds
    assert PLACEHOLDER.search(kinds) is None


TEXTS = st.lists(st.one_of(FRAGMENTS, st.text(max_size=8)), max_size=6).map(" ".join)
CHATS = st.lists(st.tuples(st.sampled_from(["user", "tool"]), TEXTS), max_size=2).map(tuple)


@given(st.lists(st.tuples(TEXTS, CHATS), max_size=8))
def test_questions_that_are_read_together_are_read_as_each_alone(asked: list[tuple[str, Any]]) -> None:
    redactor = Redactor(KEY)
    texts, chats = [text for text, _ in asked], [chat for _, chat in asked]
    read = redactor.questions(texts, chats)
    assert list(zip(*read, strict=True)) == [REDACT.question(text, chat) for text, chat in asked]
    logged = redactor.texts(texts, ["t"] * len(texts))  # what is remembered of them changes nothing
    assert logged == [REDACT.text(text, "t") for text in texts]


def test_what_a_batch_was_found_to_hold_nothing_of_is_not_looked_through_for_the_log() -> None:
    redactor = Redactor(KEY)
    texts = ["order 483922", "my 2 cards", "call +49 30 1234567", "hello"]
    redactor.questions(texts, [()] * len(texts))
    asked: list[str] = []
    redactor.text = lambda text, tenant="": asked.append(text) or text  # type: ignore[method-assign,func-returns-value]
    assert redactor.texts(texts, [""] * len(texts)) == texts
    assert asked == ["call +49 30 1234567"]


def test_what_a_redactor_of_others_finds_is_found_in_questions_together() -> None:
    redactor = Redactor(KEY, custom={"NAME": "Eve"})
    texts = ["I am Eve", "call +49 30 1234567", "nothing"]
    assert redactor.questions(texts, [()] * 3)[0] == ["I am <NAME>", "call <PHONE>", "nothing"]
    assert redactor.text("I am Eve") != "I am Eve"


@given(st.text(alphabet="abc @.:-/+0123456789AZ\n", max_size=3000))
def test_any_text_is_redacted_without_a_fault(text: str) -> None:
    spans = REDACT.find(text)
    assert all(a.end <= b.start for a, b in pairwise(spans))
    assert all(0 <= s.start < s.end <= len(text) for s in spans)


@pytest.mark.parametrize(
    "text", ["1" * 50_000, "1 " * 25_000, "a." * 25_000, "+1-" * 15_000, "a@" * 25_000, "1:" * 25_000]
)
def test_no_text_takes_long(text: str) -> None:
    REDACT.text(text)  # pytest's own limit on a test's time would end it


def test_checksums() -> None:
    assert is_card("378282246310005")
    assert not is_card("1234567812345670")  # the check digit fits, no issuer has the range
    assert is_iban("NO9386011117947")
    assert not is_iban("NO938601111794")
    assert is_spanish_id("X1234567L")
    assert is_cpf("52998224725")
    assert not is_cpf("11111111111")
    assert is_nir("185017832101159")
    assert is_codice_fiscale("RSSMRA85T10A562S")
    assert not is_codice_fiscale("RSSMRA85T10A562T")
    assert not is_codice_fiscale("RSSMRA8\u0665T10A562S")
    assert not is_ip("127.0.0.1")
    assert not is_ip("1.2.3.400")


def test_texts_are_redacted_together_as_each_alone() -> None:
    odd = [
        "a\0b@c.de 1",
        "٣",
        "naïve 555-01",
        "",
        "\ud800",
        "x" * 3000 + " anna@example.com",
        "<EMAIL_qhfkzzpa>",
    ]
    plain = ["hello", "mail anna@example.com or 0208 946 0958", "no hint", "parcel 12"] * 3
    for texts in (plain, odd, plain + odd, odd[:1], []):
        tenants = [f"t{number % 2}" for number in range(len(texts))]
        alone = [REDACT.text(text, tenant) for text, tenant in zip(texts, tenants, strict=True)]
        assert REDACT.texts(texts, tenants) == alone
