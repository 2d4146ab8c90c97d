"""From raw calls to candidate nodes, ranked by the money they could save."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import MiniBatchKMeans

from cascade.gateway.unstated import request_tokens, said_bytes, tokens
from cascade.text import normalise
from cascade.traffic import Call
from training.discovery.asked import Asked, read_calls
from training.discovery.contracts import Inferred, infer
from training.discovery.estimate import BARS, estimate
from training.discovery.groups import Group, group_by_fixed_part
from training.discovery.names import slug, telling_words

Embed = Callable[[Sequence[str]], NDArray[np.float32]]
Progress = Callable[[str], None]

MIN_CALLS = 50
N_EXAMPLES = 5
MAX_EMBEDDED = 4_000
_CLUSTER_OF = 150  # calls in a cluster by meaning, about


@dataclass(frozen=True, eq=False)
class Candidate:
    """A recurring kind of call.

    Attributes
    ----------
    name : str
        Free to change.
    members : tuple of int
        Indices of its calls.
    group : Group
        Its fixed part.
    part_of_group : bool
        Whether it was told from other calls of the same fixed part by meaning: callers have to name it.
    contract : Inferred
    spend, spend_share : float
        Dollars, and the share of all calls' dollars; see `Discovered.unpriced` for calls without a price.
        Tokens where no call has one: those that its model reported, or a quarter of its bytes.
    repetitiveness : float
        Share of calls whose question was asked before, up to case and white space.
    top_share : float
        Share of the commonest answer.
    settled : dict of float to float or None
        What a ladder could settle at each bar, by `estimate`; None where it cannot be said.
    topics : tuple of (str, float)
        What is asked about, with shares.
    examples : tuple of (str, str)
        Questions with their answers.
    """

    name: str
    members: tuple[int, ...]
    group: Group
    part_of_group: bool
    contract: Inferred
    spend: float
    spend_share: float
    repetitiveness: float
    top_share: float
    settled: dict[float, float] | None
    topics: tuple[tuple[str, float], ...]
    examples: tuple[tuple[str, str], ...]

    @property
    def worth(self) -> float:
        """Share of all spend that could be saved at a bar of 98 %."""
        return self.spend_share * (self.settled or {}).get(0.98, 0.0)

    def to_json(self) -> dict[str, Any]:
        """Give the candidate as plain data."""
        return {
            "name": self.name,
            "calls": len(self.members),
            "spend": self.spend,
            "spend_share": self.spend_share,
            "contract": self.contract.kind,
            "labels": list(self.contract.labels),
            "schema": self.contract.schema,
            "repetitiveness": self.repetitiveness,
            "top_share": self.top_share,
            "settled": None if self.settled is None else {f"{bar:g}": s for bar, s in self.settled.items()},
            "worth": self.worth,
            "topics": [list(topic) for topic in self.topics],
            "examples": [list(example) for example in self.examples],
            "recognise": self.group.fingerprints,
            "named_by_caller": self.part_of_group,
        }


@dataclass(frozen=True, eq=False)
class Discovered:
    """What discovery found.

    Attributes
    ----------
    candidates : tuple of Candidate
        The most money first.
    calls : tuple of Call
        The calls that were read; indices refer to them.
    left : tuple of int
        Calls that are left to the teacher: their answers are open.
    left_topics : tuple of (str, float)
        What those are about, with shares.
    unread : int
        Calls that failed or hold more than text.
    priced : bool
        Whether spend is in dollars; in tokens else.
    unpriced : int
        Calls of no known price, though a model outside answered them. Where others have a price, they count
        at the dollars a token of those: of the same model, or of all where that has none.
    """

    candidates: tuple[Candidate, ...]
    calls: tuple[Call, ...]
    left: tuple[int, ...]
    left_topics: tuple[tuple[str, float], ...]
    unread: int
    priced: bool
    unpriced: int


@dataclass(slots=True)
class _Found:
    group: Group
    members: list[int]
    contract: Inferred
    part: bool
    questions: list[str] = field(default_factory=list)


def discover(
    calls: Sequence[Call],
    embed: Embed | None = None,
    min_calls: int = MIN_CALLS,
    seed: int = 0,
    progress: Progress = lambda _: None,
) -> Discovered:
    """Find candidate nodes.

    Parameters
    ----------
    calls : sequence of Call
    embed : callable, optional
        Gives sentence vectors of shape (n, dim); without it, calls of one fixed part are not told apart by
        meaning, and estimates rest on words alone.
    min_calls : int
        Smaller kinds of call are not looked at.
    seed : int
        The same calls and seed give the same candidates.
    progress : callable
        Told the name of each step as it begins.
    """
    asked = read_calls(calls)
    progress("grouping by fixed part")
    found: list[_Found] = []
    left: list[int] = []
    for group in group_by_fixed_part(asked, min_calls):
        questions = [_question(asked[i], group) for i in group.members]
        if len(group.members) < min_calls:
            left += group.members
            continue
        contract = infer([asked[i].call for i in group.members])
        if contract is not None and group.fixed:
            found.append(_Found(group, group.members, contract, False, questions))
            continue
        progress("grouping by meaning")
        parts, rest = _by_meaning(asked, group, questions, embed, min_calls, seed)
        found += parts
        left += rest
    money, priced, unpriced = _spend([each.call for each in asked])
    total = max(float(money.sum()), 1e-12)
    names = _names(found)
    candidates = []
    for each, name in zip(found, names, strict=True):
        progress(f"estimating {name}")
        candidates.append(_candidate(each, name, asked, money, total, embed, seed))
    candidates.sort(key=lambda c: (-c.worth, -c.spend, c.name))
    left = sorted(left)
    return Discovered(
        tuple(candidates),
        tuple(each.call for each in asked),
        tuple(left),
        topics([asked[i].said for i in left], embed, seed),
        len(calls) - len(asked),
        priced,
        unpriced,
    )


def _spend(calls: Sequence[Call]) -> tuple[NDArray[np.float64], bool, int]:
    """Give what each call cost, whether that is in dollars (in tokens else), and how many had no price."""
    usd = np.array([call.usd for call in calls], dtype=np.float64)
    known = usd > 0
    # A log says 0 of what is free and of what nobody priced alike. Only of our own ladder is it known.
    unpriced = ~known & np.array([call.context.get("served_by") != "ladder" for call in calls], dtype=bool)
    n_unpriced = int(unpriced.sum())
    if known.any() and not n_unpriced:
        return usd, True, 0
    used = np.array([float(_tokens(call)) for call in calls])
    if not known.any():
        return used, False, n_unpriced
    models = np.array([call.model for call in calls])
    for model in set(models[unpriced].tolist()):
        own = models == model
        by = known & own if (known & own).any() else known
        usd[unpriced & own] = used[unpriced & own] * (usd[by].sum() / max(used[by].sum(), 1.0))
    return usd, True, n_unpriced


def _tokens(call: Call) -> int:
    """Give the tokens of a call: those that its model reported, else counted from what was said."""
    body = {"messages": call.messages, "tools": call.tools, "response_format": call.response_format}
    return call.input_tokens + call.output_tokens or request_tokens(body) + tokens(said_bytes(call.output))


def topics(
    texts: Sequence[str], embed: Embed | None, seed: int = 0, n: int = 5
) -> tuple[tuple[str, float], ...]:
    """Name what texts are about: clusters by meaning, each with the words that tell it from the others."""
    if embed is None or len(texts) < 4 * n:
        return ()
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.permutation(len(texts))[:MAX_EMBEDDED])
    some = [texts[i] for i in chosen]
    which = MiniBatchKMeans(n, random_state=seed, n_init=3).fit_predict(embed(some))
    used = [c for c in range(n) if (which == c).any()]
    words = telling_words([" ".join(t for t, w in zip(some, which, strict=True) if w == c) for c in used])
    named = [
        (" ".join(w) or "(no word)", float((which == c).mean())) for c, w in zip(used, words, strict=True)
    ]
    return tuple(sorted(named, key=lambda topic: -topic[1]))


def _question(asked: Asked, group: Group) -> str:
    inside = group.frame.text_in(asked.said) if group.frame is not None else None
    return inside or asked.said


def _by_meaning(
    asked: Sequence[Asked],
    group: Group,
    questions: Sequence[str],
    embed: Embed | None,
    min_calls: int,
    seed: int,
) -> tuple[list[_Found], list[int]]:
    """Find kinds of call with a closed set of answers among those that share a fixed part, or have none."""
    members = group.members
    if embed is None or len(members) < 2 * min_calls:
        return [], list(members)
    # Answers recur within a kind of call and not outside it, so they tell kinds apart before meaning does.
    answers = Counter(_answer(asked[i]) for i in members)
    recurring = [at for at, i in enumerate(members) if answers[_answer(asked[i])] >= 3]
    if len(recurring) < min_calls:
        return [], list(members)
    vectors = embed([questions[at] for at in recurring])
    k = max(1, round(len(recurring) / _CLUSTER_OF))
    which = MiniBatchKMeans(k, random_state=seed, n_init=3).fit_predict(vectors)
    joined = _join_by_answers(which, [_answer(asked[members[at]]) for at in recurring])
    parts: list[_Found] = []
    taken: set[int] = set()
    for cluster in sorted(set(joined)):
        own = [at for at, j in zip(recurring, joined, strict=True) if j == cluster]
        if len(own) < min_calls:
            continue
        contract = infer([asked[members[at]].call for at in own])
        if contract is not None:
            indices = [members[at] for at in own]
            parts.append(_Found(group, indices, contract, True, [questions[at] for at in own]))
            taken.update(indices)
    return parts, [i for i in members if i not in taken]


def _answer(asked: Asked) -> str:
    output = asked.call.output
    assert isinstance(output, dict)
    calls = output.get("tool_calls") or []
    names = [str((call.get("function") or {}).get("name")) for call in calls if isinstance(call, dict)]
    return " ".join(names) or normalise(str(output.get("content") or ""))


def _join_by_answers(which: NDArray[np.int32], answers: Sequence[str]) -> list[int]:
    """Join clusters that share answers: one kind of call has many topics and one set of labels."""
    parent = list(range(int(which.max()) + 1))

    def root(c: int) -> int:
        while parent[c] != c:
            c = parent[c]
        return c

    first: dict[str, int] = {}
    for cluster, answer in zip(which.tolist(), answers, strict=True):
        parent[root(cluster)] = root(first.setdefault(answer, cluster))
    return [root(c) for c in which.tolist()]


def _names(found: Sequence[_Found]) -> list[str]:
    documents = []
    for each in found:
        frame = each.group.frame
        fixed = f"{each.group.system} {frame.before if frame else ''} {frame.after if frame else ''}".strip()
        labels = " ".join(label.replace("_", " ") for label in each.contract.labels[:50])
        some = " ".join(each.questions[:200])
        documents.append(fixed if fixed and not each.part else f"{labels} {some}")
    taken: set[str] = set()
    return [slug(words[:2], taken) for words in telling_words(documents)]


def _candidate(
    found: _Found,
    name: str,
    asked: Sequence[Asked],
    money: NDArray[np.float64],
    total: float,
    embed: Embed | None,
    seed: int,
) -> Candidate:
    values = found.contract.values
    labelled = [at for at, value in enumerate(values) if value is not None]
    rng = np.random.default_rng(seed)
    chosen = [labelled[i] for i in sorted(rng.permutation(len(labelled))[:MAX_EMBEDDED])]
    texts = [found.questions[at] for at in chosen]
    settled = None
    if found.contract.kind != "schema" and chosen:
        vectors = embed(texts) if embed is not None else None
        settled = estimate(texts, [str(values[at]) for at in chosen], vectors, seed)
        if settled is not None:  # what has no label goes to the teacher
            settled = {bar: share * len(labelled) / len(values) for bar, share in settled.items()}
    distinct = len({normalise(question) for question in found.questions})
    counts = Counter(value for value in values if value is not None)
    at = sorted(rng.permutation(len(found.members))[:N_EXAMPLES])
    spend = float(money[found.members].sum())
    return Candidate(
        name=name,
        members=tuple(found.members),
        group=found.group,
        part_of_group=found.part,
        contract=found.contract,
        spend=spend,
        spend_share=spend / total,
        repetitiveness=1 - distinct / len(found.members),
        top_share=counts.most_common(1)[0][1] / len(values) if counts else 0.0,
        settled=settled,
        topics=() if counts else topics(found.questions, embed, seed),
        examples=tuple((found.questions[i][:300], _answer(asked[found.members[i]])[:300]) for i in at),
    )


__all__ = ["BARS", "Candidate", "Discovered", "discover", "topics"]
