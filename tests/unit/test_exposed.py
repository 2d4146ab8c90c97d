"""Which addresses a service warns of."""

from collections.abc import Callable
from typing import Any

import pytest

from cascade.config import Config
from cascade.server.exposed import warn_of_exposure

KEYS = {"auth": {"keys": "keys.json"}}
TLS = {"cert": "server.pem", "key": "server.key"}
CERTIFIED = {"server": {"tls": TLS | {"client_ca": "clients.pem"}}}


@pytest.mark.parametrize(
    ("more", "listen", "http", "said"),
    [
        ({}, "127.0.0.1:1", "[::1]:2", []),
        ({}, "unix:/run/c.sock", "localhost:2", []),
        ({}, "0.0.0.0:1", None, [("listen", "no key", "plain text")]),
        ({}, "127.0.0.1:1", "0.0.0.0:2", [("http.listen", "no key", "frontier's whole API", "plain text")]),
        (KEYS, "[::]:1", "10.0.0.1:2", [("listen", "plain text"), ("http.listen", "plain text")]),
        (KEYS | {"server": {"tls": TLS}}, "0.0.0.0:1", "0.0.0.0:2", []),
        ({"server": {"tls": TLS}}, "0.0.0.0:1", None, [("listen", "no key")]),
        (CERTIFIED, "0.0.0.0:1", "0.0.0.0:2", []),
        (
            {"server": {"admin_listen": "0.0.0.0:3"}},
            "127.0.0.1:1",
            None,
            [("server.admin_listen", "no key", "plain text")],
        ),
    ],
)
def test_it_warns_of_what_others_can_reach_without_a_key_or_in_plain_text(
    configure: Callable[..., Config],
    caplog: pytest.LogCaptureFixture,
    more: dict[str, Any],
    listen: str,
    http: str | None,
    said: list[tuple[str, ...]],
) -> None:
    warn_of_exposure(configure(**more), listen, http)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == len(said)
    for line, (name, *parts) in zip(lines, said, strict=True):
        assert line.startswith(f"{name}: ")
        for part in ("no key", "frontier's whole API", "plain text"):
            assert (part in line) == (part in parts), line
