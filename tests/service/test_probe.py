"""The health probe of containers."""

from pathlib import Path

from cascade.client.probe import probe
from cascade.config.server import ServerConfig
from tests.certificates import write_certificates
from tests.service.fake_engine import Running


def test_a_service_that_serves_is_told_from_one_that_does_not() -> None:
    running = Running()
    try:
        assert probe(running.target, 10.0) == "SERVING"
    finally:
        running.close()
    assert probe(running.target, 10.0) == "UNAVAILABLE"


def test_a_service_with_tls_that_is_asked_from_inside_has_a_certificate_for_another_name(
    tmp_path: Path,
) -> None:
    write_certificates(tmp_path, "cascade.example")
    tls = {name: str(tmp_path / file) for name, file in {"cert": "server.pem", "key": "server.key"}.items()}
    running = Running(**ServerConfig.model_validate({"tls": tls}).model_dump())
    ca = tmp_path / "ca.pem"
    try:
        assert probe(running.target, 10.0, ca=ca, name="cascade.example") == "SERVING"
        assert probe(running.target, 10.0, ca=ca) == "UNAVAILABLE"
        assert probe(running.target, 10.0) == "UNAVAILABLE"
    finally:
        running.close()
