"""A YAML document as plain values, with the line of every key.

The node tree is walked here rather than by PyYAML's constructor, because a constructed value has no position,
a duplicate key silently wins, and aliases let a small file stand for a huge one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import yaml

KeyPath = tuple[str | int, ...]

_MAX_DEPTH = 50
_TAG = "tag:yaml.org,2002:"
_PLAIN = {_TAG + name for name in ("null", "bool", "int", "float")}
# Read as the text that was written: no key holds a date, and `=` and `<<` mean nothing here.
_TEXT = {_TAG + name for name in ("str", "timestamp", "value", "merge")}


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: on which line, at which key, what.

    A problem of the file as a whole has no path.
    """

    line: int
    path: KeyPath
    text: str


class Unreadable(Exception):
    """The document has no values to go on with: bad syntax, an alias, too deep."""

    def __init__(self, line: int, text: str) -> None:
        super().__init__(text)
        self.problem = Problem(line, (), text)


@dataclass
class Document:
    """The values, the line of every key and item, scalars as written, and what was wrong on the way."""

    data: Any = None
    lines: dict[KeyPath, int] = field(default_factory=dict)
    written: dict[KeyPath, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def line(self, path: KeyPath) -> int:
        """Give the line of the key at `path`, or of the nearest key around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


class _Loader(yaml.SafeLoader):
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if self.check_event(yaml.AliasEvent):
            raise Unreadable(
                event.start_mark.line + 1,
                f"aliases are not allowed (*{event.anchor[:40]}); write the value out",
            )
        if self.depth >= _MAX_DEPTH:
            raise Unreadable(event.start_mark.line + 1, f"nested deeper than {_MAX_DEPTH} levels")
        self.depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


def read_document(text: str) -> Document:
    """Read one YAML document.

    Raises
    ------
    Unreadable
        Bad syntax, an alias, or too much nesting. Everything else is listed in `problems`.
    """
    document = Document()
    loader: _Loader | None = None
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        if root is not None:
            document.data = _value(document, loader, root, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        what = error.problem or error.context or "cannot be read"
        raise Unreadable(line, f"not valid YAML: column {column}: {what}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise Unreadable(line, f"not valid YAML: the character {_code(error)} is not allowed") from None
    except (ValueError, OverflowError, TypeError, IndexError, AttributeError) as error:
        # PyYAML lets some of these through, such as for "\UFFFFFFFF".
        line = loader.line + 1 if loader else 1
        raise Unreadable(line, f"not valid YAML: {str(error)[:80]}") from None
    finally:
        if loader:
            loader.dispose()
    return document


def _code(error: yaml.reader.ReaderError) -> str:
    return f"U+{ord(error.character) if isinstance(error.character, str) else error.character:04X}"


def _value(document: Document, loader: _Loader, node: yaml.Node, path: KeyPath) -> Any:
    document.lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        return _mapping(document, loader, node, path)
    if isinstance(node, yaml.SequenceNode):
        items = []
        for index, item in enumerate(node.value):
            items.append(_value(document, loader, item, (*path, index)))
        return items
    return _scalar(document, loader, node, path)


def _mapping(document: Document, loader: _Loader, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            document.problems.append(Problem(line, path, "a key must be a text, not a list or a mapping"))
            continue
        # The key as written: `on` or `1` as a name is a text, whatever YAML 1.1 makes of it.
        key = _clean(document, key_node.value, line, path)
        inner = (*path, key)
        if key.lower() == "api_key":
            text = "keys do not belong into this file; use api_key_env, the name of an environment variable"
            document.problems.append(Problem(line, inner, text))
        elif key in result:
            first = document.lines[inner]
            document.problems.append(Problem(line, inner, f"duplicate key; it is first on line {first}"))
        else:
            document.lines[inner] = line
            result[key] = _value(document, loader, value_node, inner)
    return result


def _scalar(document: Document, loader: _Loader, node: yaml.Node, path: KeyPath) -> Any:
    line = node.start_mark.line + 1
    written = _clean(document, node.value, line, path)
    document.written[path] = written
    if node.tag in _TEXT:
        return written
    if node.tag in _PLAIN:
        try:
            return loader.construct_object(node)
        except (ValueError, KeyError, OverflowError, IndexError, yaml.YAMLError):
            document.problems.append(Problem(line, path, f"cannot be read as {node.tag.removeprefix(_TAG)}"))
            return written
    document.problems.append(Problem(line, path, f"the YAML tag {node.tag[:60]} is not allowed"))
    return written


def _clean(document: Document, text: str, line: int, path: KeyPath) -> str:
    # A lone surrogate, written "\uD800", is no text: it can be neither printed nor stored.
    cleaned = text.encode("utf-8", "replace").decode("utf-8")
    if cleaned != text:
        document.problems.append(Problem(line, path, "holds half of a surrogate pair"))
    return cleaned
