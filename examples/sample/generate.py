"""Write the sample traffic: three nodes, each with a history and later, unseen records.

    python examples/sample/generate.py [--out FOLDER] [--seed 20261101]

Everything is made up from the phrase tables next to this file. The same seed gives the same bytes.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import continue_or_stop as chats
import support_intent as support
import tool_choice as tools
from slots import AGENT_CLOSERS, AGENT_OPENERS, CLOSERS, GREETINGS, OPENERS, SLOTS, phrases

SEED = 20261101
HISTORY, UNSEEN = 3000, 600
DAYS = 60
END = int(datetime(2026, 11, 1, tzinfo=UTC).timestamp())
LABEL_NOISE = 0.015

Content = dict[str, Any]


_SLOT = re.compile(r"\{(\w+)\}")
_CHOICE = re.compile(r"\(([^()]*)\)")
_QUESTION = re.compile(
    r"(where|when|what|why|who|whose|which|how|is|are|was|were|has|have|had|do|does|did|can|could|will|would|may|any|am)\b",
    re.I,
)
_KEYS = {
    "a": "s",
    "e": "r",
    "i": "o",
    "o": "p",
    "n": "m",
    "t": "y",
    "s": "d",
    "r": "t",
    "l": "k",
    "u": "i",
    "c": "v",
}
_CHATTY = (
    ("please", "pls"),
    ("you", "u"),
    ("because", "cuz"),
    ("your", "ur"),
    ("thanks", "thx"),
    ("don't", "dont"),
    ("I'm", "im"),
    ("can't", "cant"),
    ("and", "&"),
)


class Writer:
    """Draws phrases, fills them and adds the noise of people who type."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng

    def chance(self, p: float) -> bool:
        return self.rng.random() < p

    def pick(self, options: Sequence[str]) -> str:
        return options[int(self.rng.random() * len(options))]

    def weighted(self, options: Sequence[str], weights: Sequence[float]) -> str:
        return self.rng.choices(options, weights)[0]

    def fill(self, text: str, **given: str) -> str:
        """Resolve choices, slots and digits."""
        while _CHOICE.search(text) or _SLOT.search(text):
            text = _CHOICE.sub(lambda m: self.pick(m[1].split("|")), text)
            text = _SLOT.sub(lambda m: given[m[1]] if m[1] in given else self.pick(SLOTS[m[1]]), text)
        text = re.sub("~", lambda _: self.pick("123456789"), text)
        text = re.sub(r"\b(orders?) order\b", r"\1", text)
        return re.sub(r" {2,}", " ", text).strip()

    def typo(self, word: str) -> str:
        i = 1 + int(self.rng.random() * (len(word) - 2))
        kind = int(self.rng.random() * 4)
        if kind == 0:
            return word[:i] + word[i + 1] + word[i] + word[i + 2 :]
        if kind == 1:
            return word[:i] + word[i + 1 :]
        if kind == 2:
            return word[:i] + word[i] + word[i:]
        return word[:i] + _KEYS.get(word[i], word[i]) + word[i + 1 :]

    def noise(self, text: str, typos: float) -> str:
        """Register, punctuation and typing errors; `typos` is the share of messages that get some."""
        if self.chance(0.18):
            for formal, chatty in _CHATTY:
                text = re.sub(rf"\b{re.escape(formal)}\b", chatty, text)
        if self.chance(typos):
            words = text.split(" ")
            for _ in range(1 + int(self.rng.random() * (1 + len(words) / 8))):
                i = int(self.rng.random() * len(words))
                if len(words[i]) > 3 and words[i].isalpha():
                    words[i] = self.typo(words[i])
            text = " ".join(words)
        style = self.rng.random()
        if style < 0.25:
            text = text.lower()
        elif style < 0.27:
            text = text.upper()
        elif style < 0.8:
            text = re.sub(r"(^|[.!?] )([a-z])", lambda m: m[1] + m[2].upper(), text)
        if self.chance(0.12):
            text = re.sub(r"[,.!?'](?= |$)", "", text)
        return re.sub(r" {2,}", " ", text).strip()


def rank_weights(count: int, common: float, rare: float) -> list[float]:
    """The first two thirds of a table are common phrasings, the rest are rare ones."""
    cut = count * 2 // 3
    return [common] * cut + [rare] * (count - cut)


def ended(w: Writer, text: str) -> str:
    """The text with an end mark that suits it, or with none."""
    if text[-1] in ".!?:,":
        return text
    return text + w.pick(["?", "?", "?", ""] if _QUESTION.match(text) else [".", ".", "", "!", "..."])


class SupportIntent:
    """Customer messages."""

    name, prefix = "support-intent", "si"
    spread = 0.45  # of the classes' shares around their mean

    def __init__(self) -> None:
        self.cores = {label: phrases(block) for label, block in support.CORES.items()}
        self.short = {label: phrases(block) for label, block in support.SHORT.items()}
        self.names = {label: phrases(block) for label, block in support.NAMES.items()}
        self.labels = list(self.cores)
        self.details, self.background, self.negation = (
            phrases(b) for b in (support.DETAILS, support.BACKGROUND, support.NEGATION)
        )

    def other(self, w: Writer, label: str) -> str:
        return w.fill(w.pick(self.names[w.pick([x for x in self.labels if x != label])]))

    def make(self, w: Writer, label: str) -> tuple[Content, str]:
        if w.chance(0.04):
            first, second, block = support.AMBIGUOUS[int(w.rng.random() * len(support.AMBIGUOUS))]
            label = first if w.chance(0.5) else second
            core = w.fill(w.pick(phrases(block)))
        elif w.chance(0.1):
            core = w.fill(w.pick(self.short[label]))
        else:
            cores = self.cores[label]
            core = w.fill(w.weighted(cores, rank_weights(len(cores), 1.0, 0.35)))
        parts: list[str] = []
        if w.chance(0.35):
            parts.append(w.pick(GREETINGS) + w.pick([",", "!", " -", "."]))
        if w.chance(0.07):
            parts.append(w.fill(w.pick(self.background), other=self.other(w, label)))
        if w.chance(0.3):
            parts.append(w.pick(OPENERS))
        if w.chance(0.07):
            parts.append(w.fill(w.pick(self.negation), other=self.other(w, label)))
        parts.append(ended(w, core))
        if w.chance(0.5):
            parts.append(ended(w, w.fill(w.pick(self.details))))
        if w.chance(0.04):
            parts.append(w.fill(w.pick(self.background), other=self.other(w, label)))
        if w.chance(0.4):
            parts.append(w.fill(w.pick(CLOSERS)))
        return {"text": w.noise(" ".join(parts), 0.4)}, label


class ToolChoice:
    """Requests to an agent that has ten tools."""

    name, prefix = "tool-choice", "tc"
    spread = 0.4  # of the classes' shares around their mean

    def __init__(self) -> None:
        self.cores = {label: phrases(block) for label, block in tools.CORES.items()}
        self.labels = list(self.cores)
        self.names = {label: phrases(block) for label, block in tools.NAMES.items()}
        self.steps = {
            label: [c[1:] for c in cores if c.startswith("!")] for label, cores in self.cores.items()
        }
        self.able = [label for label in self.labels if self.steps[label]]
        self.chain, self.background = phrases(tools.CHAIN), phrases(tools.BACKGROUND)

    def make(self, w: Writer, label: str) -> tuple[Content, str]:
        others = [x for x in self.able if x != label]
        parts: list[str] = []
        if w.chance(0.16):
            parts.append(w.fill(w.pick(self.background), other=w.fill(w.pick(self.names[w.pick(others)]))))
        if label in self.able and w.chance(0.12):
            step, later = (w.fill(w.pick(self.steps[x])) for x in (label, w.pick(others)))
            core, opener = w.fill(w.pick(self.chain), a=step, b=later), 0.3
        else:
            core = w.weighted(self.cores[label], rank_weights(len(self.cores[label]), 1.0, 0.4))
            opener = 0.7 if core.startswith("!") else 0.15
            core = w.fill(core.lstrip("!"))
        if w.chance(0.2):
            parts.append(w.pick(GREETINGS) + w.pick([",", "!", " -", "."]))
        if w.chance(opener):
            parts.append(w.fill(w.pick(AGENT_OPENERS)))
        parts.append(ended(w, core))
        if w.chance(0.12) and label != "none":
            parts.append(w.fill(w.pick(self.background), other=w.fill(w.pick(self.names[w.pick(others)]))))
        if w.chance(0.45):
            parts.append(w.fill(w.pick(AGENT_CLOSERS)))
        return {"text": w.noise(" ".join(parts), 0.3)}, label


class ContinueOrStop:
    """The end of a chat between a user and an agent at work."""

    name, prefix = "continue-or-stop", "cs"
    spread = 0.2  # of the classes' shares around their mean

    def __init__(self) -> None:
        self.situations = {
            label: [s.strip() for s in block.strip().splitlines()]
            for label, block in chats.SITUATIONS.items()
        }
        self.labels = list(self.situations)
        self.tasks = [line.split(" // ") for line in chats.TASKS.strip().splitlines()]
        self.middle = [line.strip() for line in chats.MIDDLE.strip().splitlines()]
        self.bridge = phrases(chats.BRIDGE)
        # A situation of one turn may also be the past: what follows it decides.
        lone = {label: [s for s in rows if " > " not in s] for label, rows in self.situations.items()}
        self.reports = [s for rows in lone.values() for s in rows if s.startswith("A:")]
        self.prompts = [s for s in lone["continue"] if s.startswith("U:")]
        self.ambiguous = [line.strip() for line in chats.AMBIGUOUS.strip().splitlines()]

    def make(self, w: Writer, label: str) -> tuple[Content, str]:
        request, thing, did = self.tasks[int(w.rng.random() * len(self.tasks))]
        # What the agent did is about the very day, city or name that was asked for.
        given = {slot: w.fill(w.pick(SLOTS[slot])) for slot in _SLOT.findall(request)}
        given = {"thing": thing, "did": w.fill(did, **given), "request": w.fill(request, **given)}
        if w.chance(0.03):
            tail = w.pick(self.ambiguous)
        else:
            tail = w.weighted(self.situations[label], rank_weights(len(self.situations[label]), 1.0, 0.4))
        end = self.turns(tail, w, given)
        lead = w.fill(w.pick(AGENT_OPENERS)) + " " if w.chance(0.5) else ""
        turns = [("user", lead + given["request"] + (", thanks" if w.chance(0.15) else ""))]
        by_user = end[0][0] == "user"
        if len(end) + by_user < 3 and w.chance(0.45):
            turns += self.turns(w.pick(self.middle), w, given)
        elif not by_user and len(end) < 3 and w.chance(0.6):
            turns += self.turns(f"A: {w.pick(self.bridge)} > {w.pick(self.prompts)}", w, given)
        if by_user:
            turns += self.turns(
                w.pick(self.reports) if w.chance(0.6) else f"A: {w.pick(self.bridge)}", w, given
            )
        turns += end
        return {
            "messages": [{"role": role, "content": self.written(w, role, text)} for role, text in turns]
        }, label

    @staticmethod
    def written(w: Writer, role: str, text: str) -> str:
        return (
            w.noise(text, 0.25)
            if role == "user"
            else re.sub(r"(^|[.!?] )([a-z])", lambda m: m[1] + m[2].upper(), text)
        )

    @staticmethod
    def turns(text: str, w: Writer, given: dict[str, str]) -> list[tuple[str, str]]:
        roles = {"U:": "user", "A:": "assistant"}
        return [(roles[turn.strip()[:2]], w.fill(turn.strip()[2:], **given)) for turn in text.split(" > ")]


def key_of(content: Content) -> str:
    """What must not occur twice: the text without case."""
    return json.dumps(content, ensure_ascii=False).lower()


def clock(rng: random.Random, sizes: list[int]) -> list[int]:
    """Increasing times that fill the days up to the end, short steps within a session."""
    steps: list[tuple[bool, float]] = []
    for size in sizes:
        steps.append((True, rng.expovariate(1.0) + 0.02))
        steps += [(False, 15 + rng.random() * 200) for _ in range(size - 1)]
    inside = sum(int(gap) for first, gap in steps if not first)
    scale = (DAYS * 86400 - inside) / sum(gap for first, gap in steps if first)
    now, times = float(END - DAYS * 86400), []
    for first, gap in steps:
        now += max(1.0, gap * scale * 0.9999) if first else int(gap)
        times.append(int(now))
    return times


def records(node: Any, seed: int) -> list[dict[str, Any]]:
    """All records of a node in time order: the history, then the unseen ones."""
    rng = random.Random(f"{seed}/{node.name}")
    w = Writer(rng)
    sizes: list[int] = []
    for total in (HISTORY, UNSEEN):
        left = total
        while left:
            sizes.append(min(left, rng.choices((1, 2, 3, 4, 5), (40, 25, 17, 11, 7))[0]))
            left -= sizes[-1]
    times = clock(rng, sizes)
    sessions = [i for i, size in enumerate(sizes) for _ in range(size)]
    base = {label: rng.uniform(1 - node.spread, 1 + node.spread) for label in node.labels}
    slope = {label: rng.uniform(-0.35, 0.35) for label in node.labels}
    seen: set[str] = set()
    out: list[dict[str, Any]] = []
    while len(out) < len(times):
        at = len(out) / len(times)
        wanted = w.weighted(node.labels, [base[x] * (1 + slope[x] * (2 * at - 1)) for x in node.labels])
        content, label = node.make(w, wanted)
        if key_of(content) in seen:
            continue
        seen.add(key_of(content))
        if w.chance(LABEL_NOISE):
            label = w.pick([x for x in node.labels if x != label])
        i = len(out)
        out.append(
            {
                "id": f"{node.prefix}-{i + 1:04}",
                **content,
                "label": label,
                "session": f"{node.prefix}-s{sessions[i] + 1:04}",
                "time": times[i],
            }
        )
    return out


NODES: tuple[Callable[[], Any], ...] = (SupportIntent, ToolChoice, ContinueOrStop)


def files(seed: int = SEED) -> dict[str, bytes]:
    """Every file's name and bytes."""
    result: dict[str, bytes] = {}
    for make in NODES:
        node = make()
        rows = [json.dumps(r, ensure_ascii=False) + "\n" for r in records(node, seed)]
        result[f"{node.name}.jsonl"] = "".join(rows[:HISTORY]).encode()
        result[f"{node.name}.unseen.jsonl"] = "".join(rows[HISTORY:]).encode()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the sample traffic.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--seed", type=int, default=SEED)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for name, data in files(args.seed).items():
        (args.out / name).write_bytes(data)


if __name__ == "__main__":
    main()
