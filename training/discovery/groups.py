"""Calls grouped by their fixed part: system prompt, tools, response format, or the prompt around the text."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from cascade.gateway.question import Frame
from training.discovery.asked import Asked
from training.discovery.contracts import infer

SAME_TEMPLATE = 0.7
"""Share of word triples that two system prompts have in common when they are one template filled twice."""

_FRAME_WORDS = (4, 8, 16)
_MAX_TEMPLATES = 500


@dataclass(slots=True)
class Group:
    """Calls with one fixed part.

    Attributes
    ----------
    members : list of int
        Indices into the calls.
    system : str
        The system prompt that occurs most.
    fingerprints : list of str
        Of its calls' fixed parts, the commonest first.
    frame : Frame, optional
        What stands around the text of each, where the prompt is in the user's message.
    fixed : bool
        Whether there is anything fixed; of one group there is not.
    """

    members: list[int]
    system: str = ""
    fingerprints: list[str] = field(default_factory=list)
    frame: Frame | None = None
    fixed: bool = True


def group_by_fixed_part(asked: Sequence[Asked], min_calls: int) -> list[Group]:
    """Group calls, the largest group first; the one without a fixed part, if any, last."""
    exact: dict[tuple[str, str], list[int]] = defaultdict(list)
    for i, each in enumerate(asked):
        exact[(each.offered, each.template)].append(i)
    merged: list[tuple[str, str, set[tuple[str, ...]], list[int]]] = []
    for (offered, template), members in sorted(exact.items(), key=lambda kv: (-len(kv[1]), kv[0])):
        shingles = _shingles(template)
        for other, _, known, into in merged if len(merged) <= _MAX_TEMPLATES else merged[:_MAX_TEMPLATES]:
            if other == offered and _alike(shingles, known):
                into.extend(members)
                break
        else:
            merged.append((offered, template, shingles, list(members)))
    groups, bare = [], []
    for offered, template, _, members in merged:
        if offered or template:
            groups.append(_described(asked, members))
        else:
            bare += members
    framed, rest = _by_frame(asked, bare, min_calls)
    groups += framed
    groups.sort(key=lambda group: (-len(group.members), group.members[0]))
    if rest:
        groups.append(Group(sorted(rest), fixed=False))
    return groups


def _described(asked: Sequence[Asked], members: list[int]) -> Group:
    members = sorted(members)
    system = Counter(asked[i].system for i in members).most_common(1)[0][0]
    prints = Counter(asked[i].fingerprint for i in members if asked[i].fingerprint)
    return Group(members, system, [print_ for print_, _ in prints.most_common()])


def _shingles(template: str) -> set[tuple[str, ...]]:
    words = template.split()
    return {tuple(words[i : i + 3]) for i in range(max(1, len(words) - 2))} if words else set()


def _alike(a: set[tuple[str, ...]], b: set[tuple[str, ...]]) -> bool:
    if not a or not b:
        return a == b
    return len(a & b) >= SAME_TEMPLATE * len(a | b)


def _by_frame(asked: Sequence[Asked], bare: list[int], min_calls: int) -> tuple[list[Group], list[int]]:
    """Group calls without a system prompt by what their messages begin or end with.

    People begin alike too ("can you help me"), so only what also has a closed set of answers is a group. The
    fewest words come first: a longer beginning is that of the prompt and of some of its texts.
    """
    groups: list[Group] = []
    left = [i for i in bare if asked[i].single]
    rest = [i for i in bare if not asked[i].single]
    for n in _FRAME_WORDS:
        for at_start in (True, False):
            by_words: dict[tuple[str, ...], list[int]] = defaultdict(list)
            for i in left:
                words = asked[i].said.split()
                if len(words) > n:
                    by_words[tuple(words[:n] if at_start else words[-n:])].append(i)
            for members in by_words.values():
                if len(members) < min_calls or infer([asked[i].call for i in members]) is None:
                    continue
                frame = _frame([asked[i].said for i in members])
                groups.append(Group(sorted(members), frame=frame))
                taken = set(members)
                left = [i for i in left if i not in taken]
    return groups, left + rest


def _frame(texts: Sequence[str]) -> Frame:
    """Give what all texts begin and end with, cut at a word."""
    before = _common_start(texts)
    after = _common_start([text[len(before) :][::-1] for text in texts])[::-1]
    before = before[: max(before.rfind(" "), before.rfind("\n")) + 1]
    at = min((i for i in (after.find(" "), after.find("\n")) if i >= 0), default=len(after))
    return Frame(before, after[at:])


def _common_start(texts: Sequence[str]) -> str:
    low, high = min(texts), max(texts)  # what these two share, all between them share
    n = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))
    return low[:n]
