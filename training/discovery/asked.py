"""A raw call as discovery sees it: its fixed part, what was asked, and what was answered."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cascade.gateway.fixed_part import CONTEXT_KEY, FIXED_ROLES, content_text, fingerprint, has_fixed_part
from cascade.redaction import PLACEHOLDER
from cascade.text import normalise
from cascade.traffic import Call

_NUMBER = re.compile(r"\d+(?:[.,:/-]\d+)*")


@dataclass(frozen=True, slots=True)
class Asked:
    """One call.

    Attributes
    ----------
    call : Call
    system : str
        Its system prompt; empty where it has none.
    offered : str
        Its tools and response format, canonically.
    fingerprint : str
        Of its fixed part; empty where it has none.
    said : str
        What the user said last, where that is all there is besides the fixed part; the whole chat else.
    single : bool
        Whether it is one user message.
    """

    call: Call
    system: str
    offered: str
    fingerprint: str
    said: str
    single: bool

    @property
    def template(self) -> str:
        """The system prompt with its numbers, dates and placeholders left out."""
        return _NUMBER.sub("0", normalise(PLACEHOLDER.sub(r"<\1>", self.system)))


def read_calls(calls: Sequence[Call]) -> list[Asked]:
    """Read calls; those that failed, or hold more than text, are left out."""
    found = []
    for call in calls:
        if call.error is not None or not isinstance(call.output, dict):
            continue
        system: list[tuple[str, str]] = []
        turns: list[tuple[str, str]] = []
        for message in call.messages:
            content = content_text(message.get("content"))
            if content is None:
                break
            (system if message.get("role") in FIXED_ROLES else turns).append(
                (str(message.get("role")), content)
            )
        else:
            if not any(content.strip() for _, content in turns):
                continue
            single = len(turns) == 1 and turns[0][0] == "user"
            said = turns[0][1] if single else "\n".join(f"{role}: {content}" for role, content in turns)
            fixed = has_fixed_part(call.messages, call.tools, call.response_format)
            print_ = call.context.get(CONTEXT_KEY) or fingerprint(
                call.messages, call.tools, call.response_format
            )
            found.append(
                Asked(
                    call=call,
                    system="\n".join(content.strip() for _, content in system),
                    offered=_offered(call),
                    fingerprint=print_ if fixed else "",
                    said=PLACEHOLDER.sub(r"<\1>", said.strip()),
                    single=single,
                )
            )
    return found


def _offered(call: Call) -> str:
    offered: dict[str, Any] = {"tools": call.tools or None, "response_format": call.response_format or None}
    return json.dumps(offered, sort_keys=True) if any(offered.values()) else ""
