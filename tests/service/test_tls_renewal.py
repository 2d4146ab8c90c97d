"""Renewed certificates are served without a restart, by gRPC and by the HTTP side; broken ones are not."""

import logging
import os
import resource
import shutil
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from cascade.config import Config
from cascade.config.security import TlsConfig
from cascade.config.server import ServerConfig
from cascade.errors import ConfigError
from cascade.server import certificates as module
from cascade.server.certificates import Certificates
from cascade.server.http import HttpSide
from cascade.server.pool import ElasticPool
from cascade.server.serve import CascadeServer
from cascade.traffic import TrafficStore
from tests.certificates import write_certificates
from tests.service.fake_engine import FakeEngine

LONG = 30.0
TLS = {"cert": "server.pem", "key": "server.key"}


def shown(port: int, ca: Path | None = None, client: Path | None = None) -> bytes:
    """Make a handshake, ask for /healthz, and give the certificate that the server showed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE if ca is None else ssl.CERT_REQUIRED
    context.set_alpn_protocols(["h2" if ca is None else "http/1.1"])
    if ca is not None:
        context.load_verify_locations(ca)
    if client is not None:
        context.load_cert_chain(client / "client.pem", client / "client.key")
    with (
        socket.create_connection(("127.0.0.1", port), LONG) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
    ):
        if ca is not None:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            answer = connection.recv(1000)
            if not answer.startswith(b"HTTP/1.1 200"):
                raise ConnectionError(repr(answer))
        found = connection.getpeercert(binary_form=True)
        assert found is not None
        return found


def der(path: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(path.read_text())


def renew(folder: Path, fresh: Path, *names: str) -> None:
    """Put new files in the place of old ones, as certbot does."""
    for name in names:
        shutil.copy(fresh / name, folder / f"{name}.new")
        os.replace(folder / f"{name}.new", folder / name)


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    write_certificates(tmp_path)
    folder = tmp_path / "fresh"
    folder.mkdir()
    write_certificates(folder)
    return folder


@pytest.fixture
def https(
    models: Path, configure: Callable[..., Config], store: TrafficStore, request: pytest.FixtureRequest
) -> Callable[..., int]:
    def start(**tls: str) -> int:
        config = configure(http={"listen": "127.0.0.1:0"}, server={"tls": TLS | tls})
        pool = ElasticPool(2, 8)
        side = HttpSide(config, FakeEngine(), store, pool, "127.0.0.1:0")  # type: ignore[no-untyped-call]
        port = side.start()
        request.addfinalizer(pool.shutdown)
        request.addfinalizer(side.stop)
        return port

    return start


def test_the_http_side_serves_a_renewed_certificate(
    https: Callable[..., int], fresh: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old, port = der(tmp_path / "server.pem"), https()
    assert shown(port, tmp_path / "ca.pem") == old
    renew(tmp_path, fresh, "server.pem")  # without its key yet
    assert shown(port, tmp_path / "ca.pem") == old, "half a renewal changes nothing"
    assert "the certificates that were read last stay in force" in caplog.text
    assert shown(port, tmp_path / "ca.pem") == old
    assert caplog.text.count("stay in force") == 1
    renew(tmp_path, fresh, "server.key")
    assert shown(port, fresh / "ca.pem") == der(fresh / "server.pem")
    (tmp_path / "server.pem").unlink()
    assert shown(port, fresh / "ca.pem") == der(fresh / "server.pem")


def test_a_renewal_that_could_not_be_opened_is_in_force_once_it_can(
    fresh: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_AGAIN_SECONDS", 0.0)
    files = Certificates(TlsConfig(**TLS, client_ca="ca.pem"), tmp_path)
    before = files.now
    renew(tmp_path, fresh, "ca.pem", "server.key", "server.pem")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))  # no file descriptor is left
        assert files.look() is before
        assert files.look() is before
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert caplog.text.count("Too many open files") == 1, "complained of once"
    names = ("server.key", "server.pem", "ca.pem")
    assert files.look().parts == tuple((fresh / name).read_bytes() for name in names)
    assert files.look() is files.now


def test_no_address_is_listened_on_without_tls_however_often_it_is_tried(fresh: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        config = ServerConfig.model_validate({"tls": TLS}, context={"base": tmp_path})
        server = CascadeServer(FakeEngine(), address, config, base=tmp_path)  # type: ignore[no-untyped-call]
        for _ in range(3):
            with pytest.raises(ConfigError, match="listen: cannot listen"):
                server.start()
    try:
        assert shown(server.start()) == der(tmp_path / "server.pem")
    finally:
        server.stop(0)


def test_the_http_side_lets_go_of_an_authority_that_clients_are_certified_by_no_more(
    https: Callable[..., int], fresh: Path, tmp_path: Path
) -> None:
    port, ca = https(client_ca="ca.pem"), tmp_path / "ca.pem"
    shutil.copy(ca, tmp_path / "old-ca.pem")
    assert shown(port, ca, client=tmp_path)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        shown(port, ca)
    renew(tmp_path, fresh, "ca.pem")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        shown(port, tmp_path / "old-ca.pem", client=tmp_path)
    assert shown(port, tmp_path / "old-ca.pem", client=fresh)


def test_grpc_serves_a_renewed_certificate(
    fresh: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    config = ServerConfig.model_validate({"tls": TLS})
    server = CascadeServer(FakeEngine(), "127.0.0.1:0", config, base=tmp_path)  # type: ignore[no-untyped-call]
    port = server.start()
    try:
        old = der(tmp_path / "server.pem")
        assert shown(port) == old
        renew(tmp_path, fresh, "server.pem")
        assert shown(port) == old
        renew(tmp_path, fresh, "server.key")
        assert shown(port) == der(fresh / "server.pem")
        assert "new certificates are in force" in caplog.text
    finally:
        server.stop(0)


def test_a_key_of_another_certificate_is_refused_at_the_start(
    https: Callable[..., int], fresh: Path, tmp_path: Path
) -> None:
    renew(tmp_path, fresh, "server.key")
    with pytest.raises(ConfigError, match=r"server\.pem and its key .*server\.key cannot be used"):
        https()
    config = ServerConfig.model_validate({"tls": TLS})
    with pytest.raises(ConfigError, match="the key must be the certificate's"):
        CascadeServer(FakeEngine(), "127.0.0.1:0", config, base=tmp_path)  # type: ignore[no-untyped-call]


def test_the_address_for_administration_has_the_certificate_and_its_renewal_too(
    fresh: Path, tmp_path: Path
) -> None:
    config = ServerConfig.model_validate({"tls": TLS, "admin_listen": "127.0.0.1:0"})
    server = CascadeServer(FakeEngine(), "127.0.0.1:0", config, base=tmp_path)  # type: ignore[no-untyped-call]
    ports = [server.start(), server.admin_port]
    try:
        assert [shown(port) for port in ports] == [der(tmp_path / "server.pem")] * 2
        renew(tmp_path, fresh, "server.pem", "server.key")
        assert [shown(port) for port in ports] == [der(fresh / "server.pem")] * 2
    finally:
        server.stop(0)


def test_a_renewal_that_may_be_read_only_later_is_served_then(
    https: Callable[..., int], fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, port = der(tmp_path / "server.pem"), https()
    renew(tmp_path, fresh, "server.pem", "server.key")
    with monkeypatch.context() as patched:
        patched.setattr(module, "_contents", _refuse)
        assert shown(port, tmp_path / "ca.pem") == old
    (tmp_path / "server.key").chmod(0o640)
    assert shown(port, fresh / "ca.pem") == der(fresh / "server.pem")


def _refuse(_: dict[str, Path]) -> tuple[bytes, ...]:
    raise ConfigError("server.tls: cannot read server.key: Permission denied")


def test_files_that_nobody_may_look_at_any_more_are_complained_of_once_not_at_every_handshake(
    fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def denied(_: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    files = Certificates(TlsConfig(**TLS), tmp_path)
    before = files.now
    monkeypatch.setattr(Path, "exists", denied)
    for _ in range(3):
        assert files.look() is before
    assert caplog.text.count("stay in force") == 1
    monkeypatch.undo()
    assert files.look() is before
    renew(tmp_path, fresh, "server.pem", "server.key")
    assert files.look().parts[1] == (fresh / "server.pem").read_bytes()
