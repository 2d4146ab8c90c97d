"""From the messages of a chat completion request to a node's input."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
from jinja2.sandbox import SandboxedEnvironment

from cascade.gateway.fixed_part import content_text, is_fixed
from cascade.text import flatten_messages

_SHORTEST_PROMPT = 12
"""Fewer fixed characters than this around the text would recognise calls that have nothing in common."""

_ROLES = {"user": "user", "assistant": "assistant", "tool": "tool", "function": "tool"}
_MARK = "\ufdd0"  # a code point that is no character, so that no prompt holds it


class NoQuestion(ValueError):
    """The messages are no input of a node: they hold more than text, or nothing."""


@dataclass(frozen=True)
class Question:
    """A node's input.

    Attributes
    ----------
    text : str
        As local rungs read it; a chat is flattened.
    messages : tuple of (role, content)
        The chat, where there is more than one user message; empty otherwise.
    """

    text: str
    messages: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Frame:
    """What a prompt puts around its text: `Name the intent: {{ text }}` has a before and an empty after.

    Attributes
    ----------
    before, after : str
    """

    before: str
    after: str

    def text_in(self, said: str) -> str | None:
        """Give what stands inside the frame; None where `said` does not stand in it."""
        said, before, after = said.strip(), self.before.lstrip(), self.after.rstrip()
        inside = said[len(before) : len(said) - len(after)]
        if said.startswith(before) and said.endswith(after) and len(said) > len(before) + len(after):
            return inside.strip() or None
        return None


def frame_of(prompt: str) -> Frame | None:
    """Give the frame of a prompt template; None where it depends on more than `text`, or is too short.

    Examples
    --------
    >>> frame_of("Name the intent of this message: {{ text }}").text_in("Name the intent of this message: hi")
    'hi'
    """
    environment = SandboxedEnvironment(undefined=jinja2.StrictUndefined, autoescape=False)
    try:
        shown = environment.from_string(prompt).render(text=_MARK)
    except Exception:  # a prompt that also wants labels or messages has no fixed frame
        return None
    if shown.count(_MARK) != 1:
        return None
    before, after = shown.split(_MARK)
    return Frame(before, after) if len(before.strip()) + len(after.strip()) >= _SHORTEST_PROMPT else None


def question_of(messages: Sequence[Mapping[str, Any]], frame: Frame | None = None) -> Question:
    """Give a node's input from a call's messages.

    System prompts are the call's fixed part and no input. What remains is the text, where it is one user
    message, and a chat otherwise.

    Parameters
    ----------
    messages : sequence of JSON objects
        As sent.
    frame : Frame, optional
        The node's prompt; a single user message that stands in it gives the text inside.

    Raises
    ------
    NoQuestion
        There is nothing, or something that is no text.
    """
    chat = []
    for message in messages:
        if is_fixed(message):
            continue
        role = message.get("role")
        if not isinstance(role, str) or role not in _ROLES:
            raise NoQuestion(f"a message has the role {str(role)[:40]!r}")
        content = content_text(message.get("content"))
        if content is None:
            raise NoQuestion("a message holds more than text")
        chat.append((_ROLES[role], content + _calls_text(message)))
    if all(not content.strip() for _, content in chat):
        raise NoQuestion("there is no message but the system prompt")
    if len(chat) == 1 and chat[0][0] == "user":
        said = chat[0][1].strip()
        return Question((frame.text_in(said) if frame else None) or said)
    return Question(flatten_messages(chat), tuple(chat))


def _calls_text(message: Mapping[str, Any]) -> str:
    """Give an assistant's tool calls as text, a line each."""
    lines = []
    calls = message.get("tool_calls") or []
    for call in calls if isinstance(calls, list) else [None]:
        function = call.get("function") if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping):
            raise NoQuestion("a message holds a tool call that is no call of a function")
        arguments = function.get("arguments")
        shown = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
        lines.append(f"\ncalls {function.get('name')}({shown})")
    return "".join(lines)
