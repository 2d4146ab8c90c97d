"""Workers that die while a renewal is half done or the keys file is broken: their successors serve."""

import os
import signal
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from cascade.client import Client, DecisionError
from cascade.security.keys import create_key, revoke_key
from tests.certificates import write_certificates
from tests.conftest import NODE
from tests.service.test_tls_renewal import der, renew, shown
from tests.service.worker_processes import LONG, Service
from tests.soon import SECONDS, comes

TLS = {"cert": "server.pem", "key": "server.key"}


def kill_all(service: Service) -> None:
    """Kill every worker, and wait until others serve in their places."""
    before = service.workers()
    assert len(before) == 2
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    assert comes(lambda: len(service.workers() - before) == 2), service.log.read_text()
    assert "cannot serve" not in service.log.read_text()


def answers(service: Service, key: str | None = None, ca: Path | None = None) -> bool:
    """Say whether a question is answered, or refused for its key; where nobody listens yet, wait."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        with Client(service.target, timeout=LONG, api_key=key, ca=ca) as client:
            try:
                client.decide(node=NODE, text="hello")
                return True
            except DecisionError as error:
                if error.code is grpc.StatusCode.UNAUTHENTICATED:
                    return False
                if "teacher" in error.reason.lower():  # let in, and nobody is there to answer it
                    return True
        time.sleep(0.1)
    raise AssertionError(service.log.read_text())


@pytest.mark.parametrize("how", ["garbled", "gone"])
def test_workers_that_are_replaced_while_the_keys_file_is_broken_have_the_keys_that_were_read_last(
    serve: Callable[[int], Service], document: dict[str, Any], tmp_path: Path, how: str
) -> None:
    path = tmp_path / "keys.json"
    revoked, old = create_key(path, "acme")
    document["auth"] = {"keys": "keys.json"}
    service = serve(2)
    assert answers(service, old)
    _, key = create_key(path, "acme")
    assert comes(lambda: answers(service, key))
    revoke_key(path, revoked.id)
    assert comes(lambda: not any(answers(service, old) for _ in range(8)))
    if how == "garbled":
        path.write_text("{half a fi")
    else:
        path.unlink()
    service.wait_for_log("the keys that were read last stay in force", 2)
    for round_ in (2, 3):  # those of the replaced, too
        kill_all(service)
        service.wait_for_log("the keys that were read last stay in force", 2 * round_)
        assert all(answers(service, key) for _ in range(8))
        assert not any(answers(service, old) for _ in range(8)), "what was revoked does not come back"
    path.unlink(missing_ok=True)
    _, newest = create_key(path, "acme")
    assert comes(lambda: answers(service, newest))
    assert comes(lambda: not any(answers(service, key) for _ in range(8)))


def test_workers_that_are_replaced_in_the_middle_of_a_renewal_have_the_certificate_that_was_read_last(
    serve: Callable[[int], Service], document: dict[str, Any], tmp_path: Path
) -> None:
    first, second, third = tmp_path, tmp_path / "second", tmp_path / "third"
    for folder in (first, second, third):
        folder.mkdir(exist_ok=True)
        write_certificates(folder)
    document["server"] = {"tls": TLS}
    document["http"] = {"listen": "127.0.0.1:0"}
    service = serve(2)
    https = int(service.facts["http"].rpartition(":")[2])
    renew(tmp_path, second, "server.key", "server.pem")
    service.wait_for_log("new certificates are in force", 2)
    renew(tmp_path, third, "server.pem")  # and not its key
    service.wait_for_log("the certificates that were read last stay in force", 2)
    good = der(second / "server.pem")
    for round_ in (2, 3):
        kill_all(service)
        service.wait_for_log("the certificates that were read last stay in force", 2 * round_)
        assert comes(lambda: served(service.facts["port"], good))
        assert comes(lambda: served(https, good))
    renew(tmp_path, third, "server.key")
    service.wait_for_log("new certificates are in force", 4)
    assert shown(service.facts["port"]) == shown(https) == der(third / "server.pem")
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith("cascade-")], (
        "nothing on the disk"
    )


def served(port: int, certificate: bytes) -> bool:
    try:
        found = shown(port)
    except (OSError, ssl.SSLError):  # none of the new workers listens yet
        return False
    assert found == certificate
    return True


@pytest.mark.parametrize("broken", ["keys.json", "server.key"])
def test_a_reload_while_a_file_is_broken_is_refused_and_workers_serve_on(
    serve: Callable[[int], Service], document: dict[str, Any], tmp_path: Path, broken: str
) -> None:
    write_certificates(tmp_path)
    _, key = create_key(tmp_path / "keys.json", "acme")
    document |= {"auth": {"keys": "keys.json"}, "server": {"tls": TLS}}
    service = serve(2)
    (tmp_path / broken).write_text("{half a fi")
    service.process.send_signal(signal.SIGHUP)
    service.wait_for_log("the new configuration is refused, the old one keeps serving")
    kill_all(service)
    assert comes(lambda: answers(service, key, tmp_path / "ca.pem"))


def test_a_service_that_is_started_with_a_broken_file_says_so_and_ends(
    document: dict[str, Any], serve: Callable[[int], Service], tmp_path: Path
) -> None:
    write_certificates(tmp_path)
    document["server"] = {"tls": TLS}
    (tmp_path / "server.key").write_text("{half a fi")
    with pytest.raises(AssertionError, match=r"server\.key holds no PRIVATE KEY in PEM"):
        serve(2)
