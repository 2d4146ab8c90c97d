"""A release of grpcio that lacks what the service counts on is told of."""

import logging
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from cascade.server.grpc_options import bounds_what_waits, warn_of_release


@pytest.mark.parametrize(
    ("version", "bounds"),
    [("1.78.2", False), ("1.81.1", False), ("1.82.0rc1", True), ("1.82.3", True), ("2.0.0", True)],
)
def test_what_waits_is_bounded_from_a_release_on_and_before_it_the_log_says_so(
    version: str, bounds: bool, caplog: pytest.LogCaptureFixture
) -> None:
    assert bounds_what_waits(version) is bounds
    with caplog.at_level(logging.WARNING):
        warn_of_release(version)
    assert bool(caplog.records) is not bounds
    assert all("server.max_unseen" in record.getMessage() for record in caplog.records)


def test_releases_that_are_known_to_be_worse_are_not_allowed() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    (allowed,) = (
        found.specifier for each in project["dependencies"] if (found := Requirement(each)).name == "grpcio"
    )
    assert "1.82.3" in allowed
    assert "1.83.1" not in allowed, "an asyncio client may hang while logging is set up (grpc #43421)"
    assert "1.84.2" not in allowed, "a worker answers a fifth"
