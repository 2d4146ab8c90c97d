"""cascade.yaml: what loads, and what the loaded configuration says."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

from cascade.config import EncoderRungConfig
from tests.config_texts import DESIGN, MINIMAL, load


def test_the_design_example_loads(tmp_path: Path) -> None:
    config = load(tmp_path, DESIGN)
    node = config.nodes["support-intent"]
    assert node.ladder == ("linear", "encoder", "frontier")
    assert node.contract.from_traffic
    assert node.contract.load(config.base) is None
    frontier = config.rungs["frontier"]
    assert frontier.kind == "chat"
    assert (frontier.price.input, frontier.price.output) == (2.5, 10.0)
    assert frontier.api_key_env == "FRONTIER_API_KEY"


def test_defaults_and_paths(tmp_path: Path) -> None:
    config = load(tmp_path, MINIMAL)
    assert config.base == tmp_path
    assert config.models_path == tmp_path / "models"
    assert config.flags_path == tmp_path / "flags.json"
    assert config.store_url == f"sqlite:///{tmp_path}/var/traffic.db"
    assert config.listen == "127.0.0.1:50051"
    assert config.server.model_dump() == {
        "workers": None,
        "pin_workers": None,
        "threads": 8,
        "max_waiting": 4096,
        "max_waiting_seconds": 2.0,
        "max_unseen": 4096,
        "max_unseen_seconds": 5,
        "max_streams_per_connection": 1000,
        "drain_seconds": 10.0,
        "hang_seconds": 30.0,
        "max_message_bytes": 4194304,
        "max_metadata_bytes": 8192,
        "reflection": True,
        "admin_listen": None,
        "tls": None,
    }
    assert config.limits.max_text_bytes == 16384
    assert list(config.rungs) == ["linear", "encoder", "big"]
    encoder = config.rungs["encoder"]
    assert isinstance(encoder, EncoderRungConfig)
    assert (encoder.providers, encoder.precision, encoder.max_tokens) == ((), "int8", 128)
    assert config.nodes["intent"].bar.model_dump() == {"agreement": 0.98, "confidence": 0.95}
    assert config.nodes["intent"].validators == ()


def test_absolute_paths_and_other_stores_stay(tmp_path: Path) -> None:
    config = load(tmp_path, "store: sqlite:////data/t.db\nmodels: /m\n" + MINIMAL)
    assert (config.store_url, config.models_path) == ("sqlite:////data/t.db", Path("/m"))
    config = load(tmp_path, "store: postgresql://me@db/traffic\n" + MINIMAL)
    assert config.store_url == "postgresql://me@db/traffic"


def test_what_a_machine_keeps_lies_beside_the_file_or_where_systemd_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/cascade:/var/lib/more")
    assert load(tmp_path, "store: sqlite:////data/t.db\n" + MINIMAL).state_path == Path("/data")
    replica = load(tmp_path, "store: postgresql://me@db/traffic\n" + MINIMAL)
    assert replica.state_path == Path("/var/lib/cascade")
    monkeypatch.delenv("STATE_DIRECTORY")
    assert replica.state_path == tmp_path / "var"


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "'[::1]:50051'", "unix:/run/c.sock", "localhost:65535"])
def test_listen_addresses(tmp_path: Path, listen: str) -> None:
    assert load(tmp_path, f"listen: {listen}\n{MINIMAL}").listen == listen.strip("'")


def test_contracts(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text(json.dumps({"type": "object"}))
    config = load(tmp_path, MINIMAL + "    contract: {schema: s.json}\n")
    contract = config.nodes["intent"].contract.load(config.base)
    assert contract is not None
    assert contract.check([]) is not None
    config = load(tmp_path, MINIMAL + "    contract: {labels: [a, 2024-01-01, 'no']}\n")
    contract = config.nodes["intent"].contract.load(config.base)
    assert contract is not None
    assert contract.labels == ("a", "2024-01-01", "no")


def test_the_configuration_can_be_sent_to_worker_processes(tmp_path: Path) -> None:
    config = load(tmp_path, DESIGN)
    copy = pickle.loads(pickle.dumps(config))
    assert copy == config
    assert copy.base == tmp_path


def test_a_byte_order_mark_is_no_problem(tmp_path: Path) -> None:
    assert load(tmp_path, b"\xef\xbb\xbf" + MINIMAL.encode())
