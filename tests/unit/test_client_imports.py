"""The client is light: a caller needs grpcio and protobuf only."""

from __future__ import annotations

import subprocess
import sys

HEAVY = (
    "numpy",
    "onnxruntime",
    "openai",
    "tokenizers",
    "pydantic",
    "yaml",
    "jsonschema_rs",
    "jinja2",
    "typer",
)


def test_importing_the_client_imports_nothing_heavy():
    code = f"import cascade.client, sys; print([name for name in {HEAVY!r} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_importing_the_client_imports_no_server():
    code = "import cascade.client, sys; print([n for n in sys.modules if n.startswith('cascade.server')])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
