"""What a soak asks, and what of the answers is right, explained by a fault, or neither."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import httpx2 as httpx

from cascade.client import Client, DecisionError
from cascade.client.questions import Question
from cascade.config import load_config
from cascade.rungs.protocol import Query
from cascade.server.engine import Engine
from cascade.traffic import open_store

NODE = "support-intent"
DISTURBED = 15.0
"""Seconds after a kill or a reload in which calls may be cut off: draining takes 10 of them."""
TEACHERS = ("rung 'frontier'", "the teacher", "simulated_error")
GARBLED = ('{"label": "gar', None)  # None where it refused
HUNG = "HTTP calls that the teacher let hang"
MOST_HUNG = 0.05
"""Of HTTP calls: the teacher lets one in a hundred hang, of those that come to it."""


def expected(config: Path, texts: list[str]) -> dict[str, dict[str, str]]:
    """Give what each local rung answers to each text, computed in this process."""
    store = open_store(f"sqlite:///{config.parent}/reference.db")
    engine = Engine(load_config(config), store, refresh_seconds=0)
    bundle = engine.nodes[NODE].bundle
    assert bundle is not None, engine.nodes[NODE].problem
    ladder = bundle.ladder
    found: dict[str, dict[str, str]] = {text: {} for text in texts}
    prepared = ladder.prepare([Query(text) for text in texts])
    for r, rung in enumerate(bundle.policy.rungs):
        answers, _ = ladder.run(r, prepared)
        for text, answer in zip(texts, answers.each, strict=True):
            found[text][rung.name] = answer.value
    engine.close()
    store.close()
    return found


class Soak:
    """What is asked and what came of it.

    Parameters
    ----------
    target, http : str
        Where gRPC and HTTP are served.
    keys : sequence of str
        Keys of tenants, which the clients share out among themselves.
    truth : dict
        By text what each rung answers.
    pause : float
        Seconds a client waits between calls, on average.
    """

    def __init__(
        self, target: str, http: str, keys: Sequence[str], truth: dict[str, dict[str, str]], pause: float
    ) -> None:
        self.target, self.http, self.keys = target, http, keys
        self.truth, self.texts, self.pause = truth, list(truth), pause
        self.stop = threading.Event()
        self.seen: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.odd: list[str] = []
        self._lock = threading.Lock()
        self._disturbed = -DISTURBED

    def disturb(self) -> None:
        """Say that a worker is killed now, or the configuration reloaded."""
        self._disturbed = time.monotonic()

    def ask(self, seed: int) -> None:
        """Ask in every way, report and cancel, until told to stop."""
        rng = random.Random(seed)
        key = self.keys[seed % len(self.keys)]
        ways = {self._one: 0.6, self._batch: 0.2, self._stream: 0.1, self._chat: 0.1}
        while not self.stop.is_set():
            with Client(self.target, timeout=10.0, api_key=key) as client, httpx.Client(timeout=10.0) as http:
                http.headers["authorization"] = f"Bearer {key}"
                for _ in range(rng.randrange(20, 200)):
                    if self.stop.wait(self.pause * rng.uniform(0.5, 1.5)):
                        return
                    way = rng.choices(list(ways), list(ways.values()))[0]
                    way(client, http, rng)

    def _one(self, client: Client, _: httpx.Client, rng: random.Random) -> None:
        text = rng.choice(self.texts)
        hurried = rng.random() < 0.05
        try:
            got = client.decide(node=NODE, text=text, timeout=0.02 if hurried else None)
        except DecisionError as error:
            self._failed(error, hurried)
            return
        self._answered("", text, got.rung, got.label)
        if rng.random() < 0.2:
            try:
                client.report_outcome(decision_id=got.decision_id, right=True)
            except DecisionError as error:
                if error.code is grpc.StatusCode.NOT_FOUND and self._near():
                    self._count("reports of decisions that a kill lost")
                else:
                    self._failed(error)

    def _batch(self, client: Client, _: httpx.Client, rng: random.Random) -> None:
        texts = rng.choices(self.texts, k=8)
        try:
            found = client.batch_decide(node=NODE, texts=texts)
        except DecisionError as error:
            self._failed(error)
            return
        for text, got in zip(texts, found, strict=True):
            self._check(text, got)

    def _stream(self, client: Client, _: httpx.Client, rng: random.Random) -> None:
        texts = rng.sample(self.texts, k=8)
        left = {str(i): text for i, text in enumerate(texts)}
        run = f"{rng.getrandbits(64):x}-"
        questions = [Question(NODE, text, request_id=run + i) for i, text in left.items()]
        try:
            for got in client.stream_decide(questions):
                self._check(left.pop(got.request_id.removeprefix(run)), got)
        except DecisionError as error:
            self._failed(error)
        else:
            if left:
                self._odd(f"a stream ended without {len(left)} of its answers")

    def _chat(self, _: Client, http: httpx.Client, rng: random.Random) -> None:
        text = rng.choice(self.texts)
        body = {"model": f"cascade/{NODE}", "messages": [{"role": "user", "content": text}]}
        try:
            reply = http.post(f"http://{self.http}/v1/chat/completions", json=body)
        except httpx.ReadTimeout:  # an agent's own words are passed on for as long as it waits
            self._count(HUNG)
            return
        except httpx.HTTPError as error:
            if self._near():
                self._count("HTTP calls cut off by a kill or a reload")
            else:
                self._odd(f"HTTP: {error!r}")
            return
        if reply.status_code == 200:
            said = reply.json()["choices"][0]["message"]["content"]
            rung = reply.headers.get("x-cascade-rung") or "frontier"
            if rung == "frontier" and said in GARBLED:  # passed on as the teacher said it
                self._count("HTTP answers that the teacher garbled")
            else:
                self._answered("HTTP, ", text, rung, said)
        elif any(name in reply.text for name in TEACHERS):
            self._count("HTTP calls that the teacher failed")
        elif self._near():
            self._count("HTTP calls cut off by a kill or a reload")
        else:
            self._odd(f"HTTP {reply.status_code}: {reply.text[:200]}")

    def _check(self, text: str, got: Any) -> None:
        if isinstance(got, DecisionError):
            self._failed(got)
        else:
            self._answered("", text, got.rung, got.label)

    def _answered(self, how: str, text: str, rung: str, label: str) -> None:
        self._count(how + rung)
        if label != self.truth[text].get(rung):
            with self._lock:
                self.wrong.append(f"{how}{rung}: {text[:60]!r} -> {label!r}")

    def _failed(self, error: DecisionError, hurried: bool = False) -> None:
        """Count an error by the fault that explains it."""
        code = getattr(error.code, "name", str(error.code))
        if hurried and code in ("DEADLINE_EXCEEDED", "CANCELLED", "RESOURCE_EXHAUSTED"):
            self._count("callers in a hurry")
        elif any(name in str(error) for name in TEACHERS):
            self._count(f"{code} by the teacher")
        elif code in ("UNAVAILABLE", "CANCELLED") and self._near():
            self._count("calls cut off by a kill or a reload")
        else:
            self._odd(str(error)[:200])

    def judge(self) -> None:
        """See at the end whether more hung than the teacher lets hang."""
        asked = sum(n for what, n in self.seen.items() if what.startswith("HTTP"))
        if self.seen[HUNG] > 3 + MOST_HUNG * asked:
            self._odd(f"{self.seen[HUNG]} of {asked} HTTP calls hung")

    def _near(self) -> bool:
        return time.monotonic() - self._disturbed < DISTURBED

    def _odd(self, what: str) -> None:
        self._count("errors that no fault explains")
        with self._lock:
            self.odd.append(what)

    def _count(self, what: str) -> None:
        with self._lock:
            self.seen[what] += 1
