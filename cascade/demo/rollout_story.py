"""The demo's story of a rollout: shadow, canary, everybody; then a bad bundle, caught and pulled back."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cascade.client import Client
from cascade.demo.bundle_copies import copy_bundle
from cascade.demo.traffic import Example, NodeTraffic, Sent, send
from cascade.rollout.calls import RolloutCalls

ROLLOUT: dict[str, Any] = {
    "steps": [25, 100],
    "poll_seconds": 0.2,
    "audit": {"ceiling": 1.0, "floor": 0.05, "half": 5000},
}
"""Two steps and many audits, so that minutes of traffic prove what days prove otherwise."""

WRONG = 0.3
"""Share of the labels that the bad bundle has in the wrong order."""
WHO = "demo"
_CHUNK, _IN_FLIGHT, _MOST = 300, 64, 9_000
_WAIT_SECONDS = 30.0

Say = Callable[[str], None]


def go_live(target: str, traffic: NodeTraffic, say: Say) -> dict[str, Any]:
    """Take the newest bundle of a node from shadow to everybody, by evidence.

    Where the demo's traffic does not suffice for the proof, it says so and goes on by a person's word.
    """
    began = time.monotonic()
    sent: list[Sent] = []
    with RolloutCalls(target) as calls, Client(target) as client:
        said = calls.start(node=traffic.node, who=WHO, why="trained on the frontier's answers", force=True)
        told = _tell(calls, traffic.node, 0, say)
        for part in _chunks(traffic.unseen):
            sent += send(client, traffic.node, part, _IN_FLIGHT, lambda: None)
            told = _tell(calls, traffic.node, told, say)
            said = calls.status(traffic.node)
            if said["percent"] == 100 or len(sent) >= _MOST:
                break
        proven = said["percent"] == 100
        while calls.status(traffic.node)["percent"] < 100:
            calls.approve(node=traffic.node, who=WHO, why="the demo's traffic ends here", force=True)
            told = _tell(calls, traffic.node, told, say)
        events = calls.history(traffic.node)
    return {
        "bundle": said["bundle"], "by_evidence": proven, "requests": len(sent), "failed": _failed(sent),
        "seconds": round(time.monotonic() - began, 1), "events": events,
    }  # fmt: skip


def bad_bundle(target: str, models: Path, traffic: NodeTraffic, say: Say) -> dict[str, Any]:
    """Start a bundle with some labels in the wrong order at 25 %, and wait for the guard."""
    began = time.monotonic()
    sent: list[Sent] = []
    with RolloutCalls(target) as calls, Client(target) as client:
        good = calls.status(traffic.node)["stable"]
        told = calls.status(traffic.node)["seq"]
        bad = copy_bundle(models / traffic.node / good, int(good.split("-")[0]) + 1, WRONG)
        calls.start(node=traffic.node, bundle=bad, percent=25, who=WHO, why="a label list was sorted anew")
        told = _tell(calls, traffic.node, told, say)
        _wait_until_served(client, traffic, bad)
        for part in _chunks(traffic.unseen, "bad"):
            sent += send(client, traffic.node, part, _IN_FLIGHT, lambda: None)
            told = _tell(calls, traffic.node, told, say)
            if bad in calls.status(traffic.node)["rolled_back"] or len(sent) >= _MOST:
                break
        said = calls.status(traffic.node)
        after = send(client, traffic.node, traffic.unseen[:100], _IN_FLIGHT, lambda: None)
    on_it = [s for s in sent if s.decision is not None and s.decision.bundle_version == bad]
    wrong = [s for s in on_it if s.decision is not None and s.decision.label != s.example.label]
    return {
        "bundle": bad, "caught": bad in said["rolled_back"], "why": said["rolled_back"].get(bad, ""),
        "requests": len(sent), "on_it": len(on_it), "wrong": len(wrong), "failed": _failed(sent + after),
        "errors": sorted({s.error for s in sent + after if s.error})[:3],
        "serving_after": sorted({s.decision.bundle_version for s in after if s.decision is not None}),
        "seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip


def _chunks(examples: Sequence[Example], salt: str = "") -> Iterator[list[Example]]:
    """Give the examples again and again, each time in sessions of their own."""
    numbered = enumerate(itertools.cycle(examples))
    while True:
        part = itertools.islice(numbered, _CHUNK)
        yield [replace(example, session=f"{salt}{i}") for i, example in part]


def _tell(calls: RolloutCalls, node: str, told: int, say: Say) -> int:
    for event in calls.history(node):
        if event["seq"] > told:
            say(f"   {event['what']} by {event['who']}: {event['why']}")
            told = event["seq"]
    return told


def _wait_until_served(client: Client, traffic: NodeTraffic, bundle: str) -> None:
    end = time.monotonic() + _WAIT_SECONDS
    for i in itertools.count():
        probe = traffic.unseen[i % len(traffic.unseen)]
        seen = client.decide(
            node=traffic.node, text=probe.text, messages=probe.messages or None,
            context={"session": f"probe-{i}"}, timeout=30,
        )  # fmt: skip
        if seen.bundle_version == bundle or time.monotonic() > end:
            return


def _failed(sent: Sequence[Sent]) -> int:
    return sum(s.decision is None for s in sent)
