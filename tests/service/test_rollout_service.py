"""The verbs of rollouts over real gRPC and on the command line, on a service that follows by itself."""

import json
import re
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from typer.testing import CliRunner

from cascade.cli.app import app
from cascade.client import Client
from cascade.config import Config
from cascade.config.security import TlsConfig
from cascade.demo.bundle_copies import copy_bundle
from cascade.rollout.calls import RolloutCalls
from cascade.rollout.verbs import Verbs
from cascade.security.keys import create_key
from tests.certificates import write_certificates
from tests.conftest import NODE
from tests.service.following_service import FollowingService
from tests.soon import comes


@pytest.fixture
def new(shipped: Path, models: Path) -> str:
    return copy_bundle(models / NODE / shipped.name, 2)


def test_a_rollout_is_started_held_approved_and_pulled_back_over_grpc(
    following: Callable[..., FollowingService], new: str, unseen: list[dict[str, Any]], shipped: Path
) -> None:
    service, other = following(), following()
    with RolloutCalls(service.target) as calls, Client(other.target) as client:
        assert calls.status(NODE)["status"] == "none"
        said = calls.start(node=NODE, percent=100, who="ada", why="a try")
        assert (said["candidate"], said["bundle"], said["percent"]) == ("", new, 100)
        assert said["stable"] == new
        served = lambda: client.decide(node=NODE, text=unseen[0]["text"]).bundle_version  # noqa: E731
        assert comes(lambda: served() == new)
        assert calls.hold(node=NODE, who="bob", why="lunch")["status"] == "held"
        assert calls.approve(node=NODE, who="bob")["status"] == "running"
        began = time.monotonic()
        said = calls.rollback(node=NODE, who="ada", why="wrong refunds")
        assert said["rolled_back"] == {new: "wrong refunds"}
        assert comes(lambda: served() == shipped.name)
        assert time.monotonic() - began < 20
        history = calls.history(NODE)
    assert [(e["what"], e["who"]) for e in history] == [
        ("start", "ada"), ("hold", "bob"), ("approve", "bob"), ("rollback", "ada"),
    ]  # fmt: skip
    assert [e["seq"] for e in history] == [1, 2, 3, 4]
    assert history[0]["why"] == "a try"


def test_a_status_names_the_flags_that_say_otherwise_and_what_is_wrong_with_the_file(
    following: Callable[..., FollowingService],
    configure: Callable[..., Config],
    tmp_path: Path,
    unseen: list[dict[str, Any]],
) -> None:
    service = following()
    off = {"state": "ENABLED", "variants": {"off": "passthrough"}, "defaultVariant": "off"}
    mode, bundle = f"cascade.{NODE}.mode", f"cascade.{NODE}.bundle"
    file = tmp_path / "flags.json"

    def shown() -> str:
        command = ["rollout", "status", NODE, "--target", service.target]
        return CliRunner().invoke(app, command, env={"COLUMNS": "200"}).stdout

    with RolloutCalls(service.target) as calls, Client(service.target) as client:
        assert calls.status(NODE)["flags"] == []
        assert "flag" not in shown()
        file.write_text(json.dumps({"flags": {mode: off, bundle: off | {"state": "DISABLED"}}}))
        assert comes(lambda: client.decide(node=NODE, text=unseen[0]["text"]).mode == "passthrough")
        said = calls.status(NODE)
        assert said["stable"], "the rollout alone would say that a bundle answers"
        assert said["flags"] == [mode]
        assert f"flags in the flag file, which win for whom they speak: {mode}\n" in shown()
        for garbled, why in (
            ("{", "Expecting property name"),
            ("[]", "expected an object with `flags`"),
            (json.dumps({"flags": {mode: off | {"variants": {"off": "of"}}}}), "'of'; expected one of"),
        ):
            file.write_text(garbled)
            assert comes(lambda why=why: why in calls.status(NODE)["flags_problem"])  # type: ignore[misc]
            said = calls.status(NODE)
            assert said["flags"] == [mode], "what was read last is in force"
            assert re.search(rf"noticed at 20.*Z; in force: {mode} as read last$", said["flags_problem"])
            assert re.search(
                rf"\n  flag file {file}: it is not a valid flag file: .*{re.escape(why)}", shown()
            )
        beside = Verbs(configure(), service.engine.rollouts.store).describe(NODE)
        assert re.search(
            r"'of'; expected one of .*, changed at 20.*Z; who serves keeps the flags", beside["flags_problem"]
        )
        file.unlink()
        assert comes(lambda: "the file is gone" in calls.status(NODE)["flags_problem"])
        file.write_text(json.dumps({"flags": {}}))
        assert comes(lambda: not calls.status(NODE)["flags_problem"])
        assert "flag" not in shown()


def test_whoever_watches_is_told_of_each_change_and_of_what_the_guard_says(
    following: Callable[..., FollowingService], new: str
) -> None:
    service = following()
    seen: list[tuple[dict[str, Any], list[dict[str, Any]]]] = []
    with RolloutCalls(service.target) as calls:

        def watch() -> None:
            for said, events in calls.watch(NODE):
                seen.append((said, events))
                if said["status"] == "rolled-back":
                    return

        thread = threading.Thread(target=watch)
        thread.start()
        assert comes(lambda: len(seen) == 1)
        calls.start(node=NODE, who="ada")
        assert comes(lambda: len(seen) == 2)
        calls.rollback(node=NODE, who="ada")
        thread.join(20)
        assert comes(lambda: "judgement" in calls.status(NODE))
        judged = calls.status(NODE)["judgement"]
    assert [[e["what"] for e in events] for _, events in seen] == [[], ["start"], ["rollback"]]
    assert seen[1][0]["candidate"] == new
    assert judged["action"] == "hold"
    assert judged["agreement"] is None
    assert judged["audits"] == 0


def status_of(call: Callable[[], Any]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code(), caught.value.details()


def test_what_cannot_be_done_says_why_with_the_right_status(
    following: Callable[..., FollowingService], new: str
) -> None:
    service = following()
    with RolloutCalls(service.target) as calls:
        for call, code, why in (
            (lambda: calls.status("elsewhere"), "NOT_FOUND", "no node is named"),
            (lambda: calls.status(""), "INVALID_ARGUMENT", "node: must name"),
            (lambda: calls.hold(node=NODE, who="ada"), "FAILED_PRECONDITION", "no rollout was started"),
            (lambda: calls.start(node=NODE), "INVALID_ARGUMENT", "who: must say"),
            (
                lambda: calls.start(node=NODE, who="ada", percent=3),
                "FAILED_PRECONDITION",
                "none of the steps",
            ),
            (lambda: calls.start(node=NODE, who="ada", bundle="x"), "FAILED_PRECONDITION", "missing"),
            (lambda: calls.hold(node=NODE, who="a" * 2000), "INVALID_ARGUMENT", "the limit is"),
        ):
            found, details = status_of(call)
            assert (found.name, why in details) == (code, True), details


def test_where_calls_need_keys_rollouts_need_the_verb_admin_and_the_key_is_who_did_it(
    following: Callable[..., FollowingService], new: str, tmp_path: Path
) -> None:
    keys = tmp_path / "keys.json"
    key, admin = create_key(keys, "acme", verbs=["admin"])
    _, plain = create_key(keys, "acme")
    _, reader = create_key(keys, "acme", verbs=["read"])
    service = following(auth={"keys": "keys.json"})
    with RolloutCalls(service.target) as calls:
        assert status_of(lambda: calls.status(NODE))[0] is grpc.StatusCode.UNAUTHENTICATED
    bare = CliRunner().invoke(app, ["rollout", "status", NODE, "--target", service.target])
    assert bare.exit_code == 1
    assert "put an admin key into the environment variable CASCADE_KEY" in " ".join(bare.output.split())
    with RolloutCalls(service.target, plain) as calls:
        assert status_of(lambda: calls.start(node=NODE, who="x"))[0] is grpc.StatusCode.PERMISSION_DENIED
        assert status_of(lambda: next(calls.watch(NODE)))[0] is grpc.StatusCode.PERMISSION_DENIED
    with RolloutCalls(service.target, reader) as calls:
        assert calls.status(NODE)["node"] == NODE
        code, said = status_of(lambda: calls.start(node=NODE, who="x"))
        assert (code, "allows to read; this needs one that allows `admin`" in said) == (
            grpc.StatusCode.PERMISSION_DENIED,
            True,
        )
    with RolloutCalls(service.target, admin) as calls:
        assert calls.start(node=NODE, who="somebody else")["who"] == f"key {key.id}"
    with RolloutCalls(service.target, reader) as calls:
        assert [event["what"] for event in calls.history(NODE)] == ["start"]
        assert next(calls.watch(NODE))[0]["candidate"] == new


def test_a_command_shows_a_certificate_and_a_key_and_knows_the_service_by_another_name(
    following: Callable[..., FollowingService], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_certificates(tmp_path, "cascade.example")
    (other := tmp_path / "other").mkdir()
    write_certificates(other, "cascade.example")
    _, admin = create_key(tmp_path / "keys.json", "acme", verbs=["admin"])
    tls = TlsConfig(cert="server.pem", key="server.key", client_ca="ca.pem").model_dump()
    service = following(server={"tls": tls}, auth={"keys": "keys.json"})
    monkeypatch.setenv("CASCADE_KEY", admin)
    files = {"--ca": "ca.pem", "--cert": "client.pem", "--key": "client.key"}
    options = {name: str(tmp_path / file) for name, file in files.items()} | {"--name": "cascade.example"}

    def run(options: dict[str, str], *more: str, target: str = service.target) -> Any:
        given = [word for option in options.items() for word in option]
        command = ["rollout", "status", NODE, "--target", target, *given, *more]
        return CliRunner().invoke(app, command, env={"COLUMNS": "200"})

    assert f"{NODE}: " in run(options).stdout
    hints = {
        "--ca": "signed the service's certificate as --ca",
        "--cert": "give --cert and --key",
        "--name": "give that as --name",
    }
    for missing, hint in hints.items():
        fewer = {name: value for name, value in options.items() if name != missing}
        if missing == "--cert":
            del fewer["--key"]
        answer = run(fewer)
        assert (answer.exit_code, "UNAVAILABLE" in answer.output) == (1, True), answer.output
        assert hint in answer.output
    plain = run({})
    assert (plain.exit_code, "Where the service has TLS, give --ca FILE" in plain.output) == (1, True)
    wrong = run({**options, "--ca": str(other / "ca.pem")})
    assert (wrong.exit_code, "signed the service's certificate as --ca" in wrong.output) == (1, True)
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        nobody = run({}, target=f"127.0.0.1:{taken.getsockname()[1]}").output
    assert "Nothing listens there" in nobody
    assert "--tls" not in nobody
    half = run({name: value for name, value in options.items() if name != "--cert"})
    assert (half.exit_code, "belong together" in half.output) == (1, True)
    for name, value in options.items():
        monkeypatch.setenv(f"CASCADE_TLS_{name.strip('-').upper()}", value)
    assert run({}).exit_code == 0
    assert "UNAVAILABLE" in run({}, "--no-tls").output


def test_a_command_that_asks_the_callers_address_is_told_of_the_admins(following: Callable[..., Any]) -> None:
    target = following(server={"admin_listen": "127.0.0.1:0"}).target
    answer = CliRunner().invoke(app, ["rollout", "status", NODE, "--target", target])
    assert (answer.exit_code, "server.admin_listen, give that as --target" in answer.output) == (1, True)


def test_a_command_does_not_send_its_key_to_another_machine_in_plain_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CASCADE_KEY", "secret")
    command = ["rollout", "status", NODE, "--target", "cascade.invalid:50051"]
    answer = CliRunner().invoke(app, command)
    assert answer.exit_code == 1
    assert "CASCADE_KEY would be sent to cascade.invalid:50051 in plain text" in answer.output
    assert "secret" not in answer.output
    assert "UNAVAILABLE" in CliRunner().invoke(app, [*command, "--no-tls"]).output  # it was sent, to nobody


def test_the_commands_do_the_same_on_the_store_and_on_a_service(
    following: Callable[..., FollowingService], new: str, tmp_path: Path, configure: Callable[..., Config]
) -> None:
    service = following()
    (tmp_path / "cascade.yaml").write_text(
        json.dumps(
            {
                "store": f"sqlite:///{tmp_path}/traffic.db",
                "rungs": {"frontier": {"kind": "chat", "base_url": "http://127.0.0.1:1/v1", "model": "m",
                                       "price": {"input": 1, "output": 1}}},
                "nodes": {NODE: {"prompt": "{{ text }}", "bar": {"agreement": 0.95, "confidence": 0.95},
                                 "ladder": ["linear", "encoder", "frontier"]}},
            }
        )
    )  # fmt: skip

    def run(*command: str, where: str = "store") -> Any:
        place = ["--target", service.target] if where == "service" else ["-c", str(tmp_path / "cascade.yaml")]
        return CliRunner().invoke(app, ["rollout", *command, *place])

    started = run("start", NODE, "--why", "new data", "--who", "ada", "--json")
    assert started.exit_code == 0, started.output
    assert json.loads(started.output)["candidate"] == new
    assert comes(lambda: service.engine.nodes[NODE].serving.plan.candidate == new)
    assert "in shadow" in run("status", NODE).output
    there = run("status", NODE, where="service").output
    assert f"candidate {new}: in shadow, running (shadow -> 1 % -> 5 % -> 25 % -> 100 %" in there
    assert comes(lambda: f"guard on {new}: hold: 0 audits" in run("status", NODE, where="service").output)
    refused = run("approve", NODE, "--who", "bob")
    assert refused.exit_code == 1
    refused = run("approve", NODE, "--who", "bob", where="service")
    assert refused.exit_code == 1
    assert run("approve", NODE, "--force", "--who", "bob", where="service").exit_code == 0
    assert run("hold", NODE, "--who", "bob").exit_code == 0
    assert run("rollback", NODE, "--who", "bob", "--why", "no", where="service").exit_code == 0
    for where in ("store", "service"):
        shown = run("history", NODE, where=where).output.splitlines()
        assert [line.split()[3] for line in shown] == ["start", "approve", "hold", "rollback"]
        events = json.loads(run("history", NODE, "--json", where=where).output)["events"]
        assert [e["who"] for e in events] == ["ada", "bob", "bob", "bob"]
        status = json.loads(run("status", NODE, "--json", where=where).output)
        assert (status["status"], status["candidate"]) == ("rolled-back", "")
