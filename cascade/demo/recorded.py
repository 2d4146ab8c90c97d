"""Recorded answers, found by the input that a chat ends with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from cascade.contract import JsonValue
from cascade.text import flatten_messages


class Recorded:
    """Recorded answers.

    One is found by its input: the end of the last user message, as prompts end with the input's text after a
    line break or `: `; else the content of any message; else the whole chat, as
    `cascade.text.flatten_messages` joins it. The longest input wins.

    Parameters
    ----------
    answers : mapping of str to JSON value
        The answer to each input.
    """

    def __init__(self, answers: Mapping[str, JsonValue]) -> None:
        self._answers = {text.strip(): answer for text, answer in answers.items()}
        self._longest = max(map(len, self._answers), default=0)

    def answer(self, chat: list[tuple[str, str]]) -> JsonValue:
        """Give the answer to a chat. Raises LookupError where none is recorded."""
        for candidate in self._candidates(chat):
            if len(candidate) <= self._longest and candidate in self._answers:
                return self._answers[candidate]
        raise LookupError

    def _candidates(self, chat: list[tuple[str, str]]) -> Iterator[str]:
        if len(chat) > 1:  # before its last message alone, which may stand in other chats too
            yield flatten_messages(chat[1:]).strip()
            yield flatten_messages(chat).strip()
        said = next((content for role, content in reversed(chat) if role == "user"), "")
        yield from _endings(said.strip(), self._longest)
        for _, content in reversed(chat):
            yield content.strip()
        # A server without structured output is asked with an instruction after the input.
        yield from _endings(said.rpartition("\n\n")[0].strip(), self._longest)


def _endings(text: str, longest: int) -> Iterator[str]:
    """Give the text, then what follows each line break and each `: `, the longest first."""
    yield text
    at = max(0, len(text) - longest - 2)
    while True:
        ends = [found + len(mark) for mark in ("\n", ": ") if (found := text.find(mark, at)) >= 0]
        if not ends:
            return
        at = min(ends)
        yield text[at:].strip()
