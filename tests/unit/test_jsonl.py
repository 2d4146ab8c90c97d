"""Traffic files: every bad line is named with its reason, and nothing that stands in a file raises."""

import json
import os
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.errors import InvalidInput, TrafficFileError
from cascade.traffic import BadLine, Labelled, SqliteStore, export_file, import_file, read_jsonl

pytestmark = pytest.mark.alone

GOOD = b'{"id": "a", "text": "hi", "label": "greet"}'


def reason(line: bytes, **options: object) -> str:
    records, bad = read_jsonl([line], "n", **options)  # type: ignore[arg-type]
    assert not records
    assert [b.line for b in bad] == [1]
    return bad[0].reason


def test_text_and_label() -> None:
    assert read_jsonl([GOOD], "n") == ([Labelled("n", "a", "hi", None, "greet")], [])


def test_messages_output_session_time() -> None:
    line = {
        "id": "b",
        "messages": [{"role": "user", "content": "hé"}, {"role": "assistant", "content": ""}],
        "output": {"tool": None, "n": [1, 2.5]},
        "session": "s",
        "time": 12,
    }
    records, bad = read_jsonl([json.dumps(line, ensure_ascii=False).encode()], "n")
    assert not bad
    chat = (("user", "hé"), ("assistant", ""))
    assert records == [Labelled("n", "b", None, chat, {"tool": None, "n": [1, 2.5]}, "s", 12.0)]


def test_a_context_names_session_and_tenant_as_well() -> None:
    line = {"id": "a", "text": "t", "label": "x", "context": {"language": "de", "tenant": "north"}}
    (record,), bad = read_jsonl([json.dumps(line).encode()], "n")
    assert not bad
    assert (record.tenant, record.session, record.context) == ("north", None, line["context"])
    line |= {"session": "s", "context": {"session": "s", "tier": ""}}
    (record,), bad = read_jsonl([json.dumps(line).encode()], "n")
    assert not bad
    assert (record.tenant, record.session, record.context) == (None, "s", {"session": "s", "tier": ""})


@pytest.mark.parametrize(
    ("time", "seconds"),
    [
        ("1970-01-02", 86400.0),
        ("1970-01-01T00:00:10Z", 10.0),
        ("1970-01-01T01:00:10+01:00", 10.0),
        ("1970-01-01T00:00:10.5", 10.5),
        (-1.5, -1.5),
        (None, None),
    ],
)
def test_times(time: object, seconds: float | None) -> None:
    line = json.dumps({"id": "a", "text": "t", "label": "x", "time": time}).encode()
    (record,), bad = read_jsonl([line], "n")
    assert not bad
    assert record.time == seconds


@pytest.mark.parametrize(
    ("line", "part"),
    [
        (b"{", "not JSON at column"),
        (b"[1]", "a list"),
        (b"17", "a number"),
        (b"\xff{}", "not UTF-8 at byte 1"),
        (b'\xef\xbb\xbf{"id": "a"}\xef', "not UTF-8"),
        (b'{"id": "a", "text": "t", "output": NaN}', "NaN is not JSON"),
        (b'{"id": "a", "text": "t", "output": -Infinity}', "-Infinity is not JSON"),
        (b'{"id": "a", "text": "t", "output": 1e999}', "too large"),
        (b'{"id": "a", "text": "t", "output": ' + b"9" * 5000 + b"}", "too many digits"),
        (b'{"id": "a", "text": "t", "output": ' + b"[" * 100_000, "nested too deeply"),
        (b'{"id": "a", "text": "t", "output": ' + b"[" * 80 + b"]" * 80 + b"}", "nested too deeply"),
        (b'{"id": "a", "text": "\\ud800", "label": "x"}', "other half"),
        (b'{"id": "a", "id": "b", "text": "t", "label": "x"}', "'id' stands twice"),
        (b'{"id": "a", "text": "t", "lable": "x"}', "unknown key 'lable'; did you mean 'label'?"),
        (b'{"id": "a", "text": "t", "label": "x", "zzz": 1}', "the keys are: id, text"),
        (b'{"text": "t", "label": "x"}', "'id' is missing"),
        (b'{"id": 7, "text": "t", "label": "x"}', "'id' must be a string, not a number"),
        (b'{"id": "", "text": "t", "label": "x"}', "'id' is empty"),
        (b'{"id": "a", "label": "x"}', "both are missing"),
        (b'{"id": "a", "text": "t", "messages": [], "label": "x"}', "both are there"),
        (b'{"id": "a", "text": "t"}', "'label' or 'output': both are missing"),
        (b'{"id": "a", "text": "t", "label": "x", "output": "x"}', "'label' or 'output': both are there"),
        (b'{"id": "a", "text": " \\n", "label": "x"}', "'text' is empty"),
        (b'{"id": "a", "text": null, "label": "x"}', "'text' must be a string, not null"),
        (b'{"id": "a", "text": "t", "label": ["x"]}', "'label' must be a string, not a list"),
        (b'{"id": "a", "text": "t", "label": "x", "session": 3}', "'session' must be a string"),
        (b'{"id": "a", "messages": {}, "label": "x"}', "'messages' must be a list, not an object"),
        (b'{"id": "a", "messages": [], "label": "x"}', "'messages' is empty"),
        (b'{"id": "a", "messages": [{"role": "u"}], "label": "x"}', "messages[0]"),
        (b'{"id": "a", "messages": [{"role": "u", "content": 1}], "label": "x"}', "messages[0].content"),
        (b'{"id": "a", "text": "t", "label": "x", "time": "soon"}', "'time' must be"),
        (
            b'{"id": "a", "text": "t", "label": "x", "context": "de"}',
            "'context' must be an object, not a string",
        ),
        (
            b'{"id": "a", "text": "t", "label": "x", "context": {"turn": 3}}',
            "'context.turn' must be a string, not a number",
        ),
        (b'{"id": "a", "text": "t", "label": "x", "context": {"": "de"}}', "'context' has an empty key"),
        (b'{"id": "a", "text": "t", "label": "x", "context": {"k": "1", "k": "2"}}', "'k' stands twice"),
        (
            b'{"id": "a", "text": "t", "label": "x", "tenant": "a", "context": {"tenant": "b"}}',
            "'tenant' and 'context.tenant' differ",
        ),
        (b'{"id": "a", "text": "t", "label": "x", "context": {"session": ""}}', "'context.session' is empty"),
        (
            json.dumps(
                {"id": "a", "text": "t", "label": "x", "context": {str(i): "" for i in range(33)}}
            ).encode(),
            "'context' has 33 entries; the limit is 32",
        ),
        (b'{"id": "a", "text": "t", "label": "x", "time": true}', "'time' must be"),
        (b'{"id": "a", "text": "t", "label": "x", "time": 1700000000000}', "milliseconds"),
    ],
)
def test_bad_lines(line: bytes, part: str) -> None:
    assert part in reason(line)


def test_labels_and_check() -> None:
    labels = frozenset({"greet", "leave"})
    assert read_jsonl([GOOD], "n", labels)[1] == []
    assert "did you mean 'greet'?" in reason(GOOD.replace(b'"greet"', b'"gret"'), labels=labels)
    assert "not a number" in reason(b'{"id": "a", "text": "t", "output": 3}', labels=labels)
    assert reason(GOOD, check=lambda output: f"no {output}") == "no greet"


def test_blank_lines_bom_and_line_numbers() -> None:
    lines = [b"\xef\xbb\xbf" + GOOD + b"\r\n", b"\n", b"  \r\n", b"oops\n", GOOD.replace(b'"a"', b'"b"')]
    records, bad = read_jsonl(lines, "n")
    assert [r.id for r in records] == ["a", "b"]
    assert [b.line for b in bad] == [4]
    assert read_jsonl([GOOD, b"\xef\xbb\xbf" + GOOD], "n")[1] != []


def test_a_repeated_id_is_bad_only_with_other_content() -> None:
    other = b'{"id": "a", "text": "hi", "output": 1}'
    same_but_for_type = b'{"id": "a", "text": "hi", "output": true}'
    records, bad = read_jsonl([other, other, same_but_for_type], "n")
    assert len(records) == 2
    assert bad == [BadLine(3, "the id 'a' is that of line 1, whose content differs")]


def test_a_repeated_id_in_another_language_is_other_content() -> None:
    german, french = (
        json.dumps({"id": "a", "text": "t", "label": "x", "context": {"language": language}}).encode()
        for language in ("de", "fr")
    )
    records, bad = read_jsonl([german, german, french], "n")
    assert len(records) == 2
    assert bad == [BadLine(3, "the id 'a' is that of line 1, whose content differs")]


@given(st.lists(st.binary(max_size=60), max_size=5))
def test_no_bytes_raise(lines: list[bytes]) -> None:
    records, bad = read_jsonl(lines, "n")
    assert len(records) + len(bad) <= len(lines)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
keys = st.sampled_from(
    ["id", "text", "messages", "label", "output", "session", "time", "context", "role", "content"]
)


@given(st.dictionaries(keys, json_values, max_size=6))
def test_no_json_raises(value: dict[str, object]) -> None:
    records, bad = read_jsonl([json.dumps(value).encode()], "n")
    assert len(records) + len(bad) == 1


good_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20).filter(str.strip)
finite = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | good_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(good_text, inner, max_size=3),
    max_leaves=6,
)


@given(
    text=st.none() | good_text,
    chat=st.lists(st.tuples(good_text, good_text), min_size=1, max_size=3),
    output=finite,
    session=st.none() | good_text,
    time=st.none() | st.floats(-1e10, 1e10),
    ascii_only=st.booleans(),
)
def test_round_trip(
    text: str | None,
    chat: list[tuple[str, str]],
    output: object,
    session: str | None,
    time: float | None,
    ascii_only: bool,
) -> None:
    line: dict[str, object] = {"id": string.ascii_letters, "output": output, "session": session, "time": time}
    if text is None:
        line["messages"] = [{"role": role, "content": content} for role, content in chat]
    else:
        line["text"] = text
    raw = json.dumps(line, ensure_ascii=ascii_only).encode()
    messages = tuple(chat) if text is None else None
    records, bad = read_jsonl([raw], "n")
    assert not bad
    assert records == [Labelled("n", string.ascii_letters, text, messages, output, session, time)]


def test_import_file(tmp_path: Path) -> None:
    path = tmp_path / "traffic.jsonl"
    path.write_bytes(GOOD + b"\nbad\n" + GOOD.replace(b'"a"', b'"b"') + b"\n" + GOOD + b"\n")
    with SqliteStore(tmp_path / "t.db") as store:
        with pytest.raises(TrafficFileError) as caught:
            import_file(store, "n", path)
        assert list(caught.value.lines) == [2]
        assert store.counts("n")["imported"] == 0

        count = import_file(store, "n", path, skip_bad=True)
        assert (count.added, count.already_there, [b.line for b in count.bad_lines]) == (2, 1, [2])
        assert import_file(store, "n", path, skip_bad=True).added == 0
        with pytest.raises(InvalidInput):
            import_file(store, "n", tmp_path / "missing.jsonl")


def test_an_export_that_is_cut_short_leaves_the_file_of_before(tmp_path: Path) -> None:
    class CutShort:
        def labelled(self, node: str) -> Iterator[Labelled]:
            yield Labelled(node, "a", "t", None, "x")
            raise KeyboardInterrupt

    store: Any = CutShort()
    link = tmp_path / "link.jsonl"
    link.symlink_to(tmp_path / "kept.jsonl")
    (tmp_path / "kept.jsonl").write_text("of before")
    for path in (link, tmp_path / "new.jsonl"):
        with pytest.raises(KeyboardInterrupt):
            export_file(store, "n", path)
    assert (tmp_path / "kept.jsonl").read_text() == "of before"
    assert {path.name for path in tmp_path.iterdir()} == {"link.jsonl", "kept.jsonl"}
    with SqliteStore(tmp_path / "t.db") as store:
        assert export_file(store, "n", link) == 0
        assert export_file(store, "n", "/dev/null") == 0
    assert (link.is_symlink(), link.read_text()) == (True, "")


def test_an_export_is_read_by_whom_the_file_of_before_was_and_goes_where_no_link_of_another_leads(
    tmp_path: Path,
) -> None:
    kept, elsewhere = tmp_path / "kept.jsonl", tmp_path / "elsewhere"
    kept.touch(mode=0o600)
    elsewhere.write_text("")
    (tmp_path / f".kept.jsonl-{os.getpid()}").symlink_to(elsewhere)
    with SqliteStore(tmp_path / "t.db") as store:
        store.import_labelled([Labelled("n", "a", "t", None, "x")])
        assert export_file(store, "n", kept) == 1
    assert (kept.stat().st_mode & 0o777, kept.is_symlink()) == (0o600, False)
    assert elsewhere.read_text() == ""


def test_what_was_imported_is_exported_and_read_again(tmp_path: Path) -> None:
    lines: list[dict[str, object]] = [
        {"id": "a", "text": "hé", "label": "x", "context": {"language": "de", "tenant": "north"}},
        {"id": "b", "messages": [{"role": "user", "content": "hi"}], "output": {"n": 1}, "session": "s"},
        {"id": "c", "text": "t", "output": "", "time": 12.5},
    ]
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    first.write_text("\n".join(map(json.dumps, lines)), "utf-8")
    with SqliteStore(tmp_path / "t.db") as store:
        import_file(store, "n", first)
        store.import_labelled([Labelled("other", "d", "t", None, "x")])
        assert export_file(store, "n", second) == 3
        with pytest.raises(InvalidInput, match="cannot be written"):
            export_file(store, "n", tmp_path / "no" / "folder.jsonl")
        kept = list(store.labelled("n"))
    with first.open("rb") as one, second.open("rb") as two:
        assert read_jsonl(one, "n") == (kept, [])
        assert read_jsonl(two, "n") == (kept, [])
