"""Fences: what keeps a loaded bundle from settling, because its certificate speaks about something else.

A certificate says how often local answers equal those of one teacher, asked with one prompt for one set of
answers, on traffic like the held-out records. Change any of these, and it says nothing until the node is
retrained. The bundle stays loaded, so that it is seen and measured, and the teacher answers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cascade.config import ChatRungConfig, Config
from cascade.rungs.identity import ChatIdentity, digest

TEACHER, TRAFFIC, VALIDATORS = "teacher", "traffic", "validators"
"""What fences are about."""


@dataclass(frozen=True)
class Teacher(ChatIdentity):
    """Who a node's local rungs are measured against: the ladder's last rung, and what it may answer.

    Attributes
    ----------
    contract : str
        SHA-256 of what the configuration says an answer must be: `from-traffic`, the set of labels, or the
        JSON Schema.
    """

    contract: str

    @property
    def name(self) -> str:
        """A short name, `model/prompt`, that decisions carry: whose answer it was."""
        return f"{self.model}/{self.prompt[:12]}"


def teacher_of(config: Config, node: str) -> Teacher:
    """Give the teacher that a configuration names for a node.

    Raises
    ------
    ConfigError
        The contract's schema file cannot be read.
    """
    found = config.nodes[node]
    rung = config.rungs[found.ladder[-1]]
    assert isinstance(rung, ChatRungConfig)
    contract = found.contract.load(config.base)
    stated = "from-traffic"
    if contract is not None:
        form = contract.to_json()
        if contract.labels:
            form |= {"labels": sorted(contract.labels)}
        stated = json.dumps(form, sort_keys=True)
    return Teacher(rung.model, digest(found.prompt), digest(stated))


def teacher_fence(certificate: Mapping[str, Any], now: Teacher) -> str:
    """Say why a certificate does not speak about a teacher; empty where it does.

    Parameters
    ----------
    certificate : mapping
        Of a bundle's manifest.
    now : Teacher
        The one that the configuration names.

    Examples
    --------
    >>> old = Teacher("big-1", "aa", "cc")
    >>> teacher_fence({"teacher": old.to_json()}, old)
    ''
    >>> teacher_fence({"teacher": old.to_json()}, Teacher("big-2", "aa", "cc"))
    'the teacher changed: the model was big-1 and is big-2; retrain on its answers'
    """
    stated = certificate.get("teacher")
    if not stated:
        return "the bundle names no teacher, so nothing says whose answers it was certified against; retrain"
    then = Teacher(**stated)
    changes = []
    if then.model != now.model:
        changes.append(f"the model was {then.model} and is {now.model}")
    if then.prompt != now.prompt:
        changes.append(f"the prompt is another one ({then.prompt[:8]} then, {now.prompt[:8]} now)")
    if changes:
        return f"the teacher changed: {', '.join(changes)}; retrain on its answers"
    if then.contract != now.contract:
        return "the labels or the schema of the contract changed; retrain"
    return ""


class Fences:
    """The fences around one loaded bundle; they may change while it serves. Any thread may ask and set.

    Examples
    --------
    >>> fences = Fences()
    >>> fences.set("teacher", "the teacher changed")
    >>> fences.reason
    'the teacher changed'
    >>> fences.set("teacher", "")
    >>> fences.reason
    ''
    """

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {}

    def set(self, about: str, reason: str) -> None:
        """Put a fence up, or take it down with an empty reason."""
        reasons = {key: value for key, value in self._reasons.items() if key != about}
        if reason:
            reasons[about] = reason
        self._reasons = reasons  # replaced whole, so that readers need no lock

    def has(self, about: str) -> bool:
        """Say whether such a fence is up."""
        return about in self._reasons

    @property
    def reason(self) -> str:
        """Why the bundle does not settle; empty where no fence is up."""
        return "; ".join(self._reasons.values())
