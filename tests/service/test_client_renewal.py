"""Clients whose certificates are renewed while they live."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import grpc
import pytest

from cascade.client import AsyncClient, Client, DecisionError, Question
from cascade.client import lanes as lanes_module
from cascade.config.server import ServerConfig
from cascade.server.serve import CascadeServer
from tests.certificates import write_certificates
from tests.service.fake_engine import LIMITS, LONG, FakeEngine
from tests.service.test_tls_renewal import renew

TLS = {"cert": "server.pem", "key": "server.key", "client_ca": "ca.pem"}
OF_A_CLIENT = ("ca.pem", "client.pem", "client.key")


class Secured:
    """A server that knows the clients of an authority, and another in its place that knows a new one's."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, 0
        self.start(folder)

    def start(self, folder: Path) -> None:
        self.engine: Any = FakeEngine()  # type: ignore[no-untyped-call]
        config = ServerConfig.model_validate({"tls": TLS})
        self.server = CascadeServer(self.engine, f"127.0.0.1:{self.port}", config, LIMITS, base=folder)
        self.port = self.server.start()

    def files(self) -> dict[str, Path]:
        return {
            name: self.folder / file for name, file in zip(("ca", "cert", "key"), OF_A_CLIENT, strict=True)
        }


@pytest.fixture
def secured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(lanes_module, "_LOOK_SECONDS", 0.0)
    write_certificates(tmp_path)
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    write_certificates(fresh)
    made = Secured(tmp_path)
    yield made
    made.engine.go.set()
    made.server.stop(0)


def test_a_client_finds_its_server_with_a_renewed_certificate(secured: Secured, tmp_path: Path) -> None:
    with Client(f"127.0.0.1:{secured.port}", timeout=LONG, **secured.files()) as client:
        assert client.decide(node="intent", text="a").label == "A"
        first = client._lanes.all()
        assert client.decide(node="intent", text="a").label == "A"
        assert client._lanes.all() == first
        secured.server.stop(0)
        secured.start(tmp_path / "fresh")
        with pytest.raises(DecisionError, match="UNAVAILABLE"):
            client.decide(node="intent", text="b")
        renew(tmp_path, tmp_path / "fresh", "ca.pem", "client.pem")
        with pytest.raises(DecisionError, match="UNAVAILABLE"):  # half a renewal, which breaks nothing
            client.decide(node="intent", text="b")
        assert client._lanes.all() == first
        renew(tmp_path, tmp_path / "fresh", "client.key")
        assert client.decide(node="intent", text="b").label == "B"
        assert [each.label for each in client.stream_decide([Question("intent", "c")])] == ["C"]
        assert len(client._lanes.all()) == 1


def test_the_asyncio_client_does_the_same(secured: Secured, tmp_path: Path) -> None:
    async def talk() -> None:
        async with AsyncClient(f"127.0.0.1:{secured.port}", timeout=LONG, **secured.files()) as client:
            assert (await client.decide(node="intent", text="a")).label == "A"
            await asyncio.to_thread(secured.server.stop, 0)
            await asyncio.to_thread(secured.start, tmp_path / "fresh")
            renew(tmp_path, tmp_path / "fresh", *OF_A_CLIENT)
            assert (await client.decide(node="intent", text="b")).label == "B"
            found = [each async for each in client.stream_decide([Question("intent", "c")])]
            assert [each.label for each in found] == ["C"]
            assert len(client._lanes.all()) == 1

    asyncio.run(talk())


def test_a_call_that_runs_during_a_renewal_ends_on_the_connection_it_began_on(
    secured: Secured, tmp_path: Path
) -> None:
    with Client(f"127.0.0.1:{secured.port}", timeout=LONG, **secured.files()) as client:
        answers: list[str] = []
        asking = threading.Thread(
            target=lambda: answers.append(client.decide(node="intent", text="wait").label)
        )
        asking.start()
        assert secured.engine.entered.acquire(timeout=LONG)
        renew(tmp_path, tmp_path / "fresh", "client.key", "client.pem", "ca.pem", "server.pem", "server.key")
        assert client.decide(node="intent", text="b").label == "B"
        assert len(client._lanes.all()) == 2
        secured.engine.go.set()
        asking.join(LONG)
        assert answers == ["WAIT"]
        assert len(client._lanes.all()) == 1


def test_files_are_looked_at_once_a_second_and_only_where_there_are_any(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, now, made = tmp_path / "file", [100.0], []
    file.write_text("a")
    monkeypatch.setattr(lanes_module.time, "monotonic", lambda: now[0])

    def channel() -> grpc.Channel:
        made.append(file.read_text())
        return grpc.insecure_channel("127.0.0.1:1")

    def ask(lanes: lanes_module.Lanes[grpc.Channel]) -> None:
        for closed in lanes.leave(lanes.enter()):
            closed.close()

    lanes, without = lanes_module.Lanes([file], channel), lanes_module.Lanes([], channel)
    file.write_text("ab")
    ask(lanes)
    now[0] += 1
    ask(without)
    assert made == ["a", "a"]
    ask(lanes)
    ask(lanes)
    assert made == ["a", "a", "ab"]
    file.write_text("abc")
    now[0] += 1
    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_text", lambda _: (_ for _ in ()).throw(FileNotFoundError()))
        ask(lanes)  # it went between the look and the reading
    assert len(lanes.all()) == 1
    file.unlink()
    now[0] += 1
    ask(lanes)
    assert made == ["a", "a", "ab"], "where they are gone for a moment, what there is stays"
    for open_ in (*lanes.end(), *without.end()):
        open_.close()
    file.write_text("abcd")
    now[0] += 1
    ask(lanes)
    assert made == ["a", "a", "ab"], "who was closed opens nothing that nobody would close"
