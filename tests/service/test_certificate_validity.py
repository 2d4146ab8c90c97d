"""Certificates outside their time: never in the place of good ones, and never without a word."""

import logging
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from typer.testing import CliRunner

from cascade.cli.app import app
from cascade.config.security import TlsConfig
from cascade.config.server import ServerConfig
from cascade.errors import ConfigError
from cascade.security.last_good import LastGood
from cascade.server import certificates as module
from cascade.server.certificates import Certificates
from cascade.server.kept import Kept
from cascade.server.serve import CascadeServer
from tests.certificates import write_certificates
from tests.conftest import NODE
from tests.service.fake_engine import FakeEngine
from tests.service.test_tls_renewal import der, renew, shown
from tests.service.worker_processes import LONG, Service
from tests.soon import comes

TLS = TlsConfig(cert="server.pem", key="server.key")
MUTUAL = TlsConfig(cert="server.pem", key="server.key", client_ca="ca.pem")
OVER, TO_COME = (-10.0, -1.0), (1.0, 10.0)


@pytest.fixture
def fresh(tmp_path: Path) -> Callable[..., Path]:
    def make(name: str, **days: tuple[float, float]) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        write_certificates(folder, **days)
        return folder

    write_certificates(tmp_path)
    return make


@pytest.mark.parametrize(("days", "why"), [(OVER, "server.pem expired on"), (TO_COME, "is not valid before")])
def test_a_renewal_outside_its_time_does_not_take_the_place_of_a_valid_certificate(
    fresh: Callable[..., Path],
    tmp_path: Path,
    days: tuple[float, float],
    why: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    certificates = Certificates(TLS, tmp_path)
    before = certificates.now
    renew(tmp_path, fresh("wrong", days=days), "server.key", "server.pem")
    for _ in range(3):
        assert certificates.look() is before
    assert caplog.text.count("the certificates that were read last stay in force: server.tls: ") == 1
    assert why in caplog.text
    assert "in force: " not in caplog.text.replace("stay in force: ", "")
    right = fresh("right", days=(-1, 90))
    renew(tmp_path, right, "server.key", "server.pem")
    assert certificates.look().parts[1] == (right / "server.pem").read_bytes()
    assert "new certificates are in force: " in caplog.text


def test_a_renewal_that_is_not_valid_yet_is_taken_once_it_is(
    fresh: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_AGAIN_SECONDS", 0.0)
    certificates = Certificates(TLS, tmp_path)
    early = fresh("early", days=(3 / 86_400, 1))
    renew(tmp_path, early, "server.key", "server.pem")
    assert certificates.look().parts[1] != (early / "server.pem").read_bytes()
    assert comes(lambda: certificates.look().parts[1] == (early / "server.pem").read_bytes())


def test_what_has_ended_gives_way_to_whatever_comes(fresh: Callable[..., Path], tmp_path: Path) -> None:
    renew(tmp_path, fresh("over", days=OVER), "server.key", "server.pem")
    certificates = Certificates(TLS, tmp_path)  # served all the same: see the log
    another = fresh("another", days=OVER)
    renew(tmp_path, another, "server.key", "server.pem")
    assert certificates.look().parts[1] == (another / "server.pem").read_bytes()


@pytest.mark.parametrize(("ended", "valid"), [("ca", "server"), ("server", "ca")])
def test_that_one_file_has_ended_lets_nothing_expired_in_the_place_of_the_other(
    fresh: Callable[..., Path], tmp_path: Path, caplog: pytest.LogCaptureFixture, ended: str, valid: str
) -> None:
    days = {"ca": "ca_days", "server": "days"}
    files = {"ca": ("ca.pem",), "server": ("server.key", "server.pem")}
    renew(tmp_path, fresh("before", **{days[ended]: OVER}), *files[ended], *files[valid])
    certificates = Certificates(MUTUAL, tmp_path)
    before = certificates.now
    assert len(before.outside(time.time())) == 1
    renew(tmp_path, fresh("over", days=OVER, ca_days=OVER), *files[valid])
    assert certificates.look() is before
    assert f"{valid}.pem expired on" in caplog.text
    right = fresh("right", days=(-1, 90), ca_days=(-1, 90))
    renew(tmp_path, right, *files[valid])  # though the other is still as it was
    assert certificates.look() is not before
    assert len(certificates.now.outside(time.time())) == 1
    renew(tmp_path, right, *files[ended])
    assert certificates.look().outside(time.time()) == {}


def test_authorities_for_clients_may_not_all_be_outside_their_time(
    fresh: Callable[..., Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    certificates = Certificates(MUTUAL, tmp_path)
    before = certificates.now
    over, right = fresh("over", ca_days=OVER), fresh("right", ca_days=(-1, 100))
    renew(tmp_path, over, "ca.pem")
    assert certificates.look() is before
    assert "ca.pem expired on" in caplog.text
    both = (over / "ca.pem").read_bytes() + (right / "ca.pem").read_bytes()
    (tmp_path / "ca.pem").write_bytes(both)
    assert certificates.look().parts[2] == both, "one of two is enough, as while an authority is replaced"
    assert certificates.now.ends["client_ca"] == pytest.approx(time.time() + 100 * 86_400, abs=600)


@pytest.mark.parametrize(
    ("days", "level", "words"),
    [
        (OVER, logging.ERROR, "server.pem expired on"),
        (TO_COME, logging.ERROR, "server.pem is not valid before"),
        ((-1, 13.9), logging.WARNING, "server.pem expires on"),
        ((-1, 14.1), None, ""),
    ],
)
def test_what_has_ended_or_ends_soon_is_said_at_the_start_and_once_a_day(
    fresh: Callable[..., Path],
    tmp_path: Path,
    days: tuple[float, float],
    level: int | None,
    words: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def said() -> list[int]:
        return [record.levelno for record in caplog.records if words in record.getMessage()]

    monkeypatch.setattr(module, "_LOOK_EVERY", 0.005)
    renew(tmp_path, fresh("new", days=days), "server.key", "server.pem")
    certificates = Certificates(TLS, tmp_path)
    certificates.watch()
    time.sleep(0.2)
    if level is None:
        assert not caplog.records
        return
    assert said() == [level], "at once, and not again at every look"
    monkeypatch.setattr(module, "_SAID_AGAIN_SECONDS", 0.0)
    assert comes(lambda: len(said()) > 1)


def test_a_renewal_is_in_force_without_a_handshake(
    fresh: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LOOK_EVERY", 0.005)
    certificates = Certificates(TLS, tmp_path)
    certificates.watch()
    new = fresh("new", days=(-1, 90))
    renew(tmp_path, new, "server.key", "server.pem")
    assert comes(lambda: certificates.now.parts[1] == (new / "server.pem").read_bytes())


def test_a_new_process_and_a_reload_keep_to_the_valid_certificate_too(
    fresh: Callable[..., Path], tmp_path: Path, configure: Callable[..., Any]
) -> None:
    config, kept = configure(server={"tls": TLS.model_dump(exclude_none=True)}), Kept()
    kept.read(config)
    good = (tmp_path / "server.pem").read_bytes()
    renew(tmp_path, fresh("over", days=OVER), "server.key", "server.pem")
    assert Certificates(TLS, tmp_path, kept.certificates(config)).now.parts[1] == good
    with pytest.raises(ConfigError, match=r"server\.pem expired on .*, and what is in force is valid"):
        kept.read(config)
    assert Certificates(TLS, tmp_path, LastGood()).now.parts[1] != good, "which is all that there is"


def test_a_service_shows_the_end_of_its_certificates_and_refuses_an_expired_one(
    fresh: Callable[..., Path], tmp_path: Path, document: dict[str, Any], serve: Callable[[int], Service]
) -> None:
    document["server"] = {"tls": MUTUAL.model_dump()}
    document["http"] = {"listen": "127.0.0.1:0"}
    context = ssl.create_default_context(cafile=tmp_path / "ca.pem")
    context.load_cert_chain(tmp_path / "client.pem", tmp_path / "client.key")
    service = serve(2)

    def end(file: str) -> float:
        text = httpx2.get(f"https://{service.facts['http']}/metrics", verify=context, timeout=LONG).text
        name = f'cascade_certificate_expiry_timestamp_seconds{{file="{file}"}} '
        found = [line.removeprefix(name) for line in text.splitlines() if line.startswith(name)]
        return float(found[0]) if found else 0.0

    assert comes(lambda: end("cert"))
    assert end("cert") == pytest.approx(time.time() + 86_400, abs=600)
    assert end("client_ca") == pytest.approx(time.time() + 86_400, abs=600)
    old = der(tmp_path / "server.pem")
    renew(tmp_path, fresh("over", days=OVER), "server.key", "server.pem")
    service.wait_for_log("the certificates that were read last stay in force", 2)
    assert "server.pem expired on" in service.log.read_text()
    assert shown(service.facts["port"]) == old
    renew(tmp_path, fresh("new", days=(-1, 50)), "server.key", "server.pem")
    service.wait_for_log("new certificates are in force", 2)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # another authority's
    assert comes(lambda: end("cert") > time.time() + 40 * 86_400), "once every worker has the new one"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_service_that_is_started_with_an_expired_certificate_says_so_once_and_serves_until_it_is_renewed(
    fresh: Callable[..., Path],
    tmp_path: Path,
    document: dict[str, Any],
    serve: Callable[[int], Service],
    workers: int,
) -> None:
    renew(tmp_path, fresh("over", days=OVER), "server.key", "server.pem")
    document["server"] = {"tls": TLS.model_dump(exclude_none=True)}
    service = serve(workers)
    assert shown(service.facts["port"]) == der(tmp_path / "server.pem")
    new = fresh("new", days=(-1, 50))
    renew(tmp_path, new, "server.key", "server.pem")
    service.wait_for_log("new certificates are in force", workers)
    assert shown(service.facts["port"]) == der(new / "server.pem")
    assert service.log.read_text().count("server.pem expired on") == 1


def test_authorities_that_are_none_are_named(fresh: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    with pytest.raises(ConfigError, match=r"ca\.pem cannot be used: .*; it must hold the certificates"):
        Certificates(MUTUAL, tmp_path)


@pytest.mark.parametrize("wrong", [{"days": OVER}, {"days": TO_COME}, {"ca_days": OVER}])
def test_the_command_line_says_that_a_time_is_over_and_not_that_the_authority_is_missing(
    tmp_path: Path, wrong: dict[str, tuple[float, float]]
) -> None:
    write_certificates(tmp_path, **wrong)
    config = ServerConfig.model_validate({"tls": TLS.model_dump()})
    server = CascadeServer(FakeEngine(), "127.0.0.1:0", config, base=tmp_path)  # type: ignore[no-untyped-call]
    try:
        target = ["--target", f"127.0.0.1:{server.start()}", "--ca", str(tmp_path / "ca.pem")]
        found = CliRunner().invoke(app, ["rollout", "status", NODE, *target])
    finally:
        server.stop(0)
    assert found.exit_code == 1
    assert "is over or has not begun: renew it (server.tls.cert of the service)" in found.output
    assert "as --ca" not in found.output
