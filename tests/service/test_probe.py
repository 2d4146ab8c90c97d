"""The health probe of containers."""

from cascade.client.probe import probe
from tests.service.fake_engine import Running


def test_a_service_that_serves_is_told_from_one_that_does_not() -> None:
    running = Running()
    try:
        assert probe(running.target, 10.0) == "SERVING"
    finally:
        running.close()
    assert probe(running.target, 10.0) == "UNAVAILABLE"
