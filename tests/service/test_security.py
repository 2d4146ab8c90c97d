"""Keys, tenants, TLS and signed bundles, over real gRPC with the real engine."""

import asyncio
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import struct_pb2
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from cascade.client import AsyncClient, Client, DecisionError, Question
from cascade.config import Config
from cascade.config.security import TlsConfig
from cascade.config.server import ServerConfig
from cascade.security.keys import create_key, revoke_key
from cascade.security.signing import create_signing_key, read_private_key, sign_bundle
from cascade.server.engine import Engine
from cascade.server.entrance import Entrance
from cascade.server.gate import open_gate
from cascade.server.serve import CascadeServer
from cascade.traffic import TrafficStore, open_store
from cascade.v1 import decision_pb2 as pb
from cascade.v1 import decision_pb2_grpc
from tests.certificates import write_certificates
from tests.conftest import NODE
from tests.soon import comes

LONG = 30.0


class Running:
    def __init__(self, config: Config, store: TrafficStore) -> None:
        gate = open_gate(config)
        self.store = store
        self.engine = Engine(config, store, refresh_seconds=0, quotas=gate.quotas)
        self.server = CascadeServer(
            self.engine, "127.0.0.1:0", config.server, config.limits, gate=gate, base=config.base
        )
        self.port = self.server.start()
        self.target = f"127.0.0.1:{self.port}"

    def client(self, key: str | None = None) -> Client:
        return Client(self.target, timeout=LONG, api_key=key)


@pytest.fixture
def start(models: Path, configure: Callable[..., Config], tmp_path: Path) -> Iterator[Callable[..., Running]]:
    running: list[Running] = []

    def make(**top: Any) -> Running:
        store = open_store(f"sqlite:///{tmp_path}/traffic.db")
        running.append(Running(configure(**top), store))
        return running[-1]

    yield make
    for each in running:
        each.server.stop(0)
        each.engine.close()
        each.store.close()


def refused(call: Callable[[], Any]) -> Any:
    with pytest.raises(DecisionError) as caught:
        call()
    return caught.value


def test_a_key_is_needed_and_allows_only_its_nodes_and_verbs(
    start: Callable[..., Running],
    tmp_path: Path,
    unseen: list[dict[str, Any]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    keys = tmp_path / "keys.json"
    _, everything = create_key(keys, "acme")
    _, elsewhere = create_key(keys, "acme", nodes=["another"])
    _, reports = create_key(keys, "acme", verbs=["report"])
    service = start(auth={"keys": "keys.json"})
    text = unseen[0]["text"]

    def ask(key: str | None) -> Any:
        with service.client(key) as client:
            return client.decide(node=NODE, text=text)

    decided = ask(everything)
    assert refused(lambda: ask(None)).code == grpc.StatusCode.UNAUTHENTICATED
    assert refused(lambda: ask("ck_guessed")).code == grpc.StatusCode.UNAUTHENTICATED
    assert refused(lambda: ask(elsewhere)).code == grpc.StatusCode.PERMISSION_DENIED
    error = refused(lambda: ask(reports))
    assert error.code == grpc.StatusCode.PERMISSION_DENIED
    assert reports not in str(error)
    with service.client(elsewhere) as client:
        items = client.batch_decide(node=NODE, texts=[text])
        assert isinstance(items[0], DecisionError)
        assert refused(lambda: client.report_outcome(decision_id=decided.decision_id, right=True)).code == (
            grpc.StatusCode.NOT_FOUND
        )
    with service.client(reports) as client:
        assert client.report_outcome(decision_id=decided.decision_id, right=True)
    for key in (everything, elsewhere, reports, "ck_guessed"):
        assert key not in caplog.text


def test_keys_are_rotated_without_a_restart(
    start: Callable[..., Running], tmp_path: Path, unseen: list[dict[str, Any]]
) -> None:
    keys = tmp_path / "keys.json"
    old, old_token = create_key(keys, "acme")
    service = start(auth={"keys": "keys.json"})
    _, new_token = create_key(keys, "acme")
    revoke_key(keys, old.id)

    def error_with(token: str) -> Any:
        with service.client(token) as client:
            try:
                client.decide(node=NODE, text=unseen[0]["text"])
            except DecisionError as error:
                return error.code
        return None

    assert comes(lambda: error_with(old_token) is not None)
    assert error_with(old_token) == grpc.StatusCode.UNAUTHENTICATED
    assert error_with(new_token) is None


def test_no_tenant_sees_or_reports_on_what_another_asked(
    start: Callable[..., Running], tmp_path: Path, unseen: list[dict[str, Any]]
) -> None:
    keys = tmp_path / "keys.json"
    _, acme = create_key(keys, "acme")
    _, rival = create_key(keys, "rival")
    service = start(auth={"keys": "keys.json"})
    with service.client(acme) as client:
        mine = client.decide(node=NODE, text=unseen[0]["text"], request_id="r-1", context={"tenant": "rival"})
        assert (
            client.decide(node=NODE, text=unseen[0]["text"], request_id="r-1").decision_id == mine.decision_id
        )
    assert service.store.flush(LONG)
    found = service.store.get(mine.decision_id)
    assert found is not None
    assert found.context["tenant"] == "acme"  # whatever the request says
    with service.client(rival) as client:
        theirs = client.decide(node=NODE, text=unseen[0]["text"], request_id="r-1")
        assert theirs.decision_id != mine.decision_id
        assert theirs.request_id == "r-1"
        error = refused(lambda: client.report_outcome(decision_id=mine.decision_id, right=True))
        assert error.code == grpc.StatusCode.NOT_FOUND


def test_a_tenant_over_its_rate_is_told_when_to_come_back(
    start: Callable[..., Running], unseen: list[dict[str, Any]]
) -> None:
    service = start(tenants={"acme": {"requests_per_second": 0.01, "burst": 2}})
    channel = grpc.insecure_channel(service.target)
    stub = decision_pb2_grpc.DecisionServiceStub(channel)
    request = pb.DecideRequest(node=NODE, text=unseen[0]["text"], context={"tenant": "acme"})
    for _ in range(2):
        stub.Decide(request, timeout=LONG)
    with pytest.raises(grpc.RpcError) as caught:
        stub.Decide(request, timeout=LONG)
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    details = rpc_status.from_call(caught.value).details
    retry = error_details_pb2.RetryInfo()
    assert any(detail.Unpack(retry) for detail in details)
    assert retry.retry_delay.seconds > 50
    stub.Decide(pb.DecideRequest(node=NODE, text=unseen[0]["text"]), timeout=LONG)  # another's
    channel.close()


def test_a_worker_that_hangs_with_the_tenants_file_locked_holds_no_other_worker_up(
    start: Callable[..., Running], tmp_path: Path, unseen: list[dict[str, Any]]
) -> None:
    service = start(tenants={"acme": {"requests_per_second": 0.01, "burst": 3, "usd_per_day": 10.0}})
    code = (
        "import fcntl, sys, time; file = open(sys.argv[1], 'r+b'); fcntl.lockf(file, fcntl.LOCK_EX)\n"
        "print('held', flush=True); time.sleep(600)\n"
    )
    (path,) = tmp_path.rglob("tenants.state")
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as hung, service.client() as client:
        try:
            assert hung.stdout is not None
            assert hung.stdout.readline() == "held\n"
            text, acme = unseen[0]["text"], {"tenant": "acme"}
            assert client.decide(node=NODE, text=text, context=acme, timeout=5.0).label
            (answer,) = client.stream_decide([Question(NODE, text, context=acme)], timeout=5.0)
            assert answer.label
            (answer,) = client.batch_decide(node=NODE, texts=[text], context=acme, timeout=5.0)
            assert answer.label
            error = refused(lambda: client.decide(node=NODE, text=text, context=acme, timeout=5.0))
            assert error.code == grpc.StatusCode.RESOURCE_EXHAUSTED, "the limit holds for this worker"
            assert client.decide(node=NODE, text=text, timeout=5.0).label, "and no other tenant waits"
        finally:
            hung.kill()


def test_a_stream_over_its_tenants_rate_is_told_so_item_by_item(
    start: Callable[..., Running], unseen: list[dict[str, Any]]
) -> None:
    service = start(tenants={"default": {"requests_per_second": 0.01, "burst": 3}})
    with service.client() as client:
        found = list(client.stream_decide([Question(NODE, unseen[0]["text"])] * 5))
    errors = [each.code for each in found if isinstance(each, DecisionError)]
    assert errors == [grpc.StatusCode.RESOURCE_EXHAUSTED] * 2
    assert len(found) == 5


def test_a_tenant_that_has_spent_its_money_still_gets_local_answers(
    start: Callable[..., Running], unseen: list[dict[str, Any]]
) -> None:
    service = start(tenants={"default": {"usd_per_day": 1e-9}})
    seen, errors = [], []
    with service.client() as client:
        for record in unseen[:60]:
            try:
                seen.append(client.decide(node=NODE, text=record["text"]))
            except DecisionError as error:
                errors.append(error)
    assert sum(d.rung == "frontier" for d in seen) == 1  # the limit is looked at before the money is spent
    assert len(seen) > 20
    assert {error.code for error in errors} == {grpc.StatusCode.RESOURCE_EXHAUSTED}


def test_reflection_can_be_off_or_elsewhere(start: Callable[..., Running]) -> None:
    def services(port: int) -> set[str]:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = reflection_pb2_grpc.ServerReflectionStub(channel)
            request = reflection_pb2.ServerReflectionRequest(list_services="")
            (answer,) = stub.ServerReflectionInfo(iter([request]), timeout=LONG)
            return {service.name for service in answer.list_services_response.service}

    off = start(server={"reflection": False})
    with pytest.raises(grpc.RpcError) as caught:
        services(off.port)
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
    aside = start(server={"admin_listen": "127.0.0.1:0"})
    with pytest.raises(grpc.RpcError) as caught:
        services(aside.port)
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert "cascade.v1.DecisionService" in services(aside.server.admin_port)


def test_services_other_than_decisions_need_the_verb_admin(
    start: Callable[..., Running], tmp_path: Path
) -> None:
    _, plain = create_key(tmp_path / "keys.json", "acme")
    _, admin = create_key(tmp_path / "keys.json", "ops", verbs=["admin"])
    service = start(auth={"keys": "keys.json"})
    with grpc.insecure_channel(service.target) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        assert health.Check(health_pb2.HealthCheckRequest(), timeout=LONG).status == 1
    config = ServerConfig()
    gate = open_gate(Config.model_validate(
        {"auth": {"keys": "keys.json"}, "rungs": {}, "nodes": {}} | _minimal(), context={"base": tmp_path}
    ))  # fmt: skip

    def add(server: grpc.aio.Server, entrance: Entrance) -> None:
        handler = entrance.unary("Do", lambda raw, call: raw)
        generic = grpc.method_handlers_generic_handler("cascade.v1.Other", {"Do": handler})
        server.add_generic_rpc_handlers((generic,))

    server = CascadeServer(service.engine, "127.0.0.1:0", config, gate=gate, admin=[add])
    with grpc.insecure_channel(f"127.0.0.1:{server.start()}") as channel:
        do = channel.unary_unary("/cascade.v1.Other/Do")
        assert do(b"x", timeout=LONG, metadata=[("authorization", f"Bearer {admin}")]) == b"x"
        for metadata, code in (
            ((), grpc.StatusCode.UNAUTHENTICATED),
            ([("authorization", f"Bearer {plain}")], grpc.StatusCode.PERMISSION_DENIED),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                do(b"x", timeout=LONG, metadata=metadata)
            assert caught.value.code() == code
    server.stop(0)


def _minimal() -> dict[str, Any]:
    chat = {
        "kind": "chat",
        "base_url": "http://127.0.0.1:1/v1",
        "model": "m",
        "price": {"input": 1, "output": 1},
    }
    return {
        "rungs": {"top": chat | {"price": {"input": 1.0, "output": 1.0}}},
        "nodes": {"n": {"prompt": "{{ text }}", "ladder": ["top"]}},
    }


def test_hostile_sizes_and_depths_are_refused_and_the_service_goes_on(
    start: Callable[..., Running], unseen: list[dict[str, Any]]
) -> None:
    service = start(server={"max_message_bytes": 100_000, "max_metadata_bytes": 40_000})
    value = struct_pb2.Value(string_value="x")
    for _ in range(5_000):
        # By hand, since building it with the library would run out of stack here: Value.list_value.values[0]
        inner = value if isinstance(value, bytes) else value.SerializeToString()
        listed = b"\x0a" + _varint(len(inner)) + inner
        value = b"\x32" + _varint(len(listed)) + listed
    assert isinstance(value, bytes)
    with grpc.insecure_channel(service.target) as channel:
        report = channel.unary_unary("/cascade.v1.DecisionService/ReportOutcome")
        decide = channel.unary_unary("/cascade.v1.DecisionService/Decide")
        with pytest.raises(grpc.RpcError) as caught:
            report(b"\x0a\x01d\x1a" + _varint(len(value)) + value, timeout=LONG)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        with pytest.raises(grpc.RpcError) as caught:
            decide(b"\x12" + _varint(200_000) + b"x" * 200_000, timeout=LONG)
        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        for size, code in (
            (30_000, grpc.StatusCode.INVALID_ARGUMENT),  # it comes through, and asks nothing
            (41_000, grpc.StatusCode.RESOURCE_EXHAUSTED),
        ):
            for _ in range(5):
                with pytest.raises(grpc.RpcError) as caught:
                    decide(b"", timeout=LONG, metadata=[("filler", "x" * size)])
                assert caught.value.code() == code
    with service.client() as client:
        assert client.decide(node=NODE, text=unseen[0]["text"]).label


def _varint(n: int) -> bytes:
    out = bytearray()
    while True:
        out.append((n & 0x7F) | (0x80 if n > 0x7F else 0))
        n >>= 7
        if not n:
            return bytes(out)


def test_with_trusted_keys_only_signed_bundles_are_served(
    start: Callable[..., Running], models: Path, shipped: Path, tmp_path: Path, unseen: list[dict[str, Any]]
) -> None:
    create_signing_key(tmp_path / "release.key", tmp_path / "release.pub")
    service = start(bundles={"trusted_keys": ["release.pub"]})
    assert service.engine.nodes[NODE].bundle is None
    assert "not signed" in service.engine.nodes[NODE].problem
    with service.client() as client:
        assert client.decide(node=NODE, text=unseen[0]["text"]).rung == "frontier"
    sign_bundle(models / NODE / shipped.name, read_private_key(tmp_path / "release.key"))
    service.engine.refresh()
    assert service.engine.nodes[NODE].bundle is not None


def test_with_mutual_tls_only_certified_clients_get_in(
    start: Callable[..., Running], tmp_path: Path, unseen: list[dict[str, Any]]
) -> None:
    write_certificates(tmp_path)
    tls = TlsConfig(cert="server.pem", key="server.key", client_ca="ca.pem").model_dump()
    _, key = create_key(tmp_path / "keys.json", "acme")
    service = start(server={"tls": tls}, auth={"keys": "keys.json"})
    pair = {"cert": tmp_path / "client.pem", "key": tmp_path / "client.key"}
    text = unseen[0]["text"]
    with Client(service.target, timeout=3, api_key=key, ca=tmp_path / "ca.pem", **pair) as client:
        assert client.decide(node=NODE, text=text).label

    async def ask() -> str:
        async with AsyncClient(
            service.target, timeout=3, api_key=key, ca=str(tmp_path / "ca.pem"), **pair
        ) as client:
            return (await client.decide(node=NODE, text=text)).label

    assert asyncio.run(ask())
    for stranger in (
        Client(service.target, timeout=3, api_key=key, ca=tmp_path / "ca.pem"),
        Client(service.target, timeout=3, api_key=key, tls=True, **pair),  # trusts public authorities only
        Client(service.target, timeout=3, api_key=key),
    ):
        with stranger:
            error = refused(lambda stranger=stranger: stranger.decide(node=NODE, text=text))
            assert error.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
    with Client(service.target, timeout=3, ca=tmp_path / "ca.pem", **pair) as client:
        error = refused(lambda: client.decide(node=NODE, text=text))
        assert error.code is grpc.StatusCode.UNAUTHENTICATED
