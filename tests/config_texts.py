"""Configurations as texts, and the loading of them, for tests of `cascade.config`."""

from __future__ import annotations

from pathlib import Path

import pytest

from cascade.config import Config, load_config
from cascade.errors import ConfigError

DESIGN = """\
store: sqlite:///var/traffic.db
models: models
flags: flags.json
listen: 127.0.0.1:50051
rungs:
  linear:   {kind: linear}
  encoder:  {kind: encoder, model: sentence-transformers/all-MiniLM-L6-v2}      # a name or a folder
  frontier: {kind: chat, base_url: "https://api.example.com/v1", model: big-1,
             api_key_env: FRONTIER_API_KEY, price: {input: 2.5, output: 10.0}}  # $ per million tokens
nodes:
  support-intent:
    prompt: "Name the intent of this message: {{ text }}"
    contract: {labels: from-traffic}       # or a list, or {schema: file.json}
    bar: {agreement: 0.98, confidence: 0.95}
    ladder: [linear, encoder, frontier]
"""


# Keys of the teacher's rung start on line 3, those of the node on line 7.
MINIMAL = """\
rungs:
  big: {kind: chat, base_url: "http://localhost:1/v1", model: m, price: {input: 0, output: 0}}
nodes:
  intent:
    prompt: "Intent of {{ text }}"
    ladder: [linear, big]
"""


def load(tmp_path: Path, text: str | bytes) -> Config:
    path = tmp_path / "cascade.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_config(path)


def problems(tmp_path: Path, text: str | bytes) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    return caught.value.message.split("\n")
