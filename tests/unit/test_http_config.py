"""The `http` section, and sections' own keys in suggestions."""

from pathlib import Path

import pytest

from cascade.config import load_config
from cascade.errors import ConfigError

FRONTIER = """
rungs:
  big: {kind: chat, base_url: "http://127.0.0.1:1/v1", model: m, price: {input: 1, output: 1}}
"""


def load(tmp_path: Path, text: str) -> object:
    path = tmp_path / "cascade.yaml"
    path.write_text(text)
    return load_config(path)


def test_the_http_side_is_off_unless_configured_and_needs_no_node_to_capture(tmp_path: Path) -> None:
    config = load_config(_written(tmp_path, "http: {listen: 127.0.0.1:0}\n" + FRONTIER))
    assert config.http is not None
    assert config.nodes == {}
    nodes = 'nodes: {n: {prompt: "{{ text }}", ladder: [big]}}\n'
    assert load_config(_written(tmp_path, nodes + FRONTIER)).http is None


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("http: {lissten: a}\n" + FRONTIER, "http.lissten: unknown key; did you mean 'listen'?"),
        ("http: {listen: nowhere}\n" + FRONTIER, "http.listen: expected host:port"),
        ("http: {upstream: bog}\n" + FRONTIER, "http.upstream: 'bog' is no chat rung; they are: big"),
        ("http: {}\nrungs: {}\n", "http.upstream: name the chat rung"),
        (
            'nodes: {n: {prompt: "{{ text }}", ladder: [big], recognise: [x]}}\n' + FRONTIER,
            "expected a fingerprint of 16 hexadecimal characters",
        ),
        (
            'nodes: {n: {prompt: "{{ text }}", ladder: [big], bar: {agrement: 0.9}}}\n' + FRONTIER,
            "nodes.n.bar.agrement: unknown key; did you mean 'agreement'?",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_key(tmp_path: Path, text: str, fragment: str) -> None:
    with pytest.raises(ConfigError, match=r"cascade\.yaml") as caught:
        load(tmp_path, text)
    assert fragment in str(caught.value)


def _written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "cascade.yaml"
    path.write_text(text)
    return path


def test_connections_do_not_wait_for_delayed_acknowledgements() -> None:
    import socket

    from cascade.server.http import listening

    with listening("127.0.0.1:0", reuse_port=False) as found:
        assert found.proto == socket.IPPROTO_TCP  # what asyncio goes by when it sets TCP_NODELAY
