"""Open-ended chatter: questions of no fixed kind with answers of no fixed set, made up from phrase tables."""

from __future__ import annotations

import random

_ASKS = (
    "can you help me write {thing} for {who}", "explain {topic} to me like I'm {age}", "what do you think about {topic}?",
    "give me {n} ideas for {thing}", "why does {topic} matter so much these days", "tell me a story about {who} and {topic}",
    "how would {who} feel about {topic}", "summarise what we know about {topic}", "rewrite this so that {who} gets it: {topic} is hard",
    "draft {thing} that mentions {topic}", "what's the difference between {topic} and {topic2}", "plan {thing} with {who} around {topic}",
    "I had an argument with {who} about {topic}, was I wrong?", "make {thing} funnier, it's about {topic}", "translate a line on {topic} into plain words",
)  # fmt: skip
_THINGS = (
    "a toast", "a cover letter", "a haiku", "a short speech", "a packing list", "an apology", "a workout plan", "a blog post", "a birthday card",
    "a product description", "a lesson plan", "a dinner menu", "a complaint", "a limerick", "a weekend trip", "a job advert", "a eulogy",
)  # fmt: skip
_WHO = (
    "my sister", "a new colleague", "our landlord", "my old teacher", "a ten-year-old", "the neighbours", "my boss", "a football team", "my cat",
    "a poet", "my grandfather", "the whole office", "a sceptical friend", "our volunteers", "a tired nurse",
)  # fmt: skip
_TOPICS = (
    "black holes", "sourdough", "compound interest", "jazz harmony", "the French Revolution", "coral reefs", "chess openings", "grief", "solar panels",
    "medieval maps", "sleep", "urban foxes", "quantum computers", "good coffee", "public libraries", "marathon training", "ancient Rome", "kindness",
    "cloud shapes", "knitting", "tax law", "volcanoes", "bird migration", "stand-up comedy", "beekeeping", "minimalism", "the tides", "graph theory",
)  # fmt: skip
_SAID = (
    "Here is one way to look at {topic}: {a} first, then {b}.", "I would start with {a}. After that, {topic} becomes mostly a question of {b}.",
    "Honestly, {topic} is about {a} more than about {b}, at least for {who}.", "Let me sketch it. {topic} needs {a}; {b} comes by itself.",
    "Think of {who}: for them {topic} means {a}, while {b} stays in the background.", "A short answer: {a}. A longer one has to mention {b} and {topic}.",
)  # fmt: skip
_PARTS = (
    "patience", "a clear first step", "an honest look at the numbers", "warm colours", "the right people", "a bit of luck", "practice", "small tools",
    "a quiet room", "an early start", "good questions", "old habits", "the weather", "a simple rhythm", "plenty of light", "a second opinion",
)  # fmt: skip


def chatter(n: int, seed: int = 0) -> list[tuple[str, str]]:
    """Give n questions with open answers."""
    rng = random.Random(seed)
    made = []
    for _ in range(n):
        fill = {
            "thing": rng.choice(_THINGS), "who": rng.choice(_WHO), "topic": rng.choice(_TOPICS), "topic2": rng.choice(_TOPICS),
            "age": rng.randint(5, 80), "n": rng.randint(3, 12), "a": rng.choice(_PARTS), "b": rng.choice(_PARTS),
        }  # fmt: skip
        answer = " ".join(rng.choice(_SAID).format(**fill) for _ in range(rng.randint(1, 3)))
        made.append(
            (rng.choice(_ASKS).format(**fill), f"{answer} ({rng.randint(2, 99)} more where that came from.)")
        )
    return made
