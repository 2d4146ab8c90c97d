"""A candidate as the part of `cascade.yaml` that a person can accept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import yaml

from training.discovery.candidates import Candidate

MAX_FINGERPRINTS = 50


def prompt_of(candidate: Candidate) -> str:
    """Give the prompt of the node: what the calls had around their text, as a template."""
    frame = candidate.group.frame
    if frame is not None:
        return f"{_escaped(frame.before)}{{{{ text }}}}{_escaped(frame.after)}"
    system = _escaped(candidate.group.system.strip())
    return f"{system}\n\n{{{{ text }}}}" if system else "{{ text }}"


def stanzas(
    candidates: Sequence[Candidate],
    teacher: str,
    folder: Path | None = None,
    local: Sequence[str] = ("linear", "encoder"),
    agreement: float = 0.98,
    priced: bool = True,
) -> str:
    """Write the `nodes` section for candidates.

    Parameters
    ----------
    candidates : sequence of Candidate
    teacher : str
        The name of the chat rung that teaches them.
    folder : Path, optional
        Where schema files are written; without it, nodes with a schema are shown as comments only.
    local : sequence of str
        The rungs below the teacher, for nodes with labels; other answers are not learned locally.
    agreement : float
        The bar of each node, at a confidence of 0.95.
    priced : bool
        Whether shares are of dollars; of tokens else. See `Discovered.priced`.
    """
    of = "spend" if priced else "tokens"
    lines = ["nodes:"]
    for c in candidates:
        told = ", ".join(f"{share:.0%} at {bar:.0%}" for bar, share in (c.settled or {}).items())
        lines.append(
            f"  # {len(c.members)} calls, {c.spend_share:.1%} of the {of}; guessed to be settled: "
            f"{told or 'none yet, since local rungs learn labels only'}"
        )
        node: dict[str, object] = {"prompt": prompt_of(c)}
        if c.contract.kind == "labels":
            node["contract"] = {"labels": list(c.contract.labels)}
        elif folder is not None and c.contract.schema is not None:
            path = folder / f"{c.name}.schema.json"
            path.write_text(
                json.dumps(c.contract.schema, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
            )
            node["contract"] = {"schema": path.name}
        node["bar"] = {"agreement": agreement, "confidence": 0.95}
        node["ladder"] = [*local, teacher] if c.contract.kind == "labels" else [teacher]
        if c.part_of_group:
            lines.append(
                "  # its calls share their fixed part with others: callers name it, by model: cascade/"
                + c.name
            )
        elif c.group.fingerprints:
            node["recognise"] = c.group.fingerprints[:MAX_FINGERPRINTS]
        text = yaml.safe_dump({c.name: node}, sort_keys=False, allow_unicode=True, width=110)
        if c.contract.kind != "labels" and "contract" not in node:
            lines += [f"  # {line}" for line in text.rstrip().splitlines()]
        else:
            lines += [f"  {line}" for line in text.rstrip().splitlines()]
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    """Keep braces of the prompt from being read as a template."""
    if "{{" not in text and "{%" not in text and "{#" not in text:
        return text
    return "{% raw %}" + text + "{% endraw %}"
