"""Names the code that cached figures of a benchmark came from: none of an earlier model is taken."""

from __future__ import annotations

import hashlib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

PARTS = ("training/*.py", "cascade/*.py", "cascade/rungs/*.py", "cascade/policy/*.py")
"""What scores of a ladder may depend on; server, store and commands do not change them."""


def code_version() -> str:
    """Give a short hash of all code that a ladder's scores may depend on."""
    digest = hashlib.sha256()
    for pattern in PARTS:
        for path in sorted(ROOT.glob(pattern)):
            digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]
