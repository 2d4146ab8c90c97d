"""A bundle's manifest: it lists every file with its SHA-256, and the version is the hash of what it says."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from cascade.errors import BundleError
from cascade.security.signing import SIGNATURE

SCHEMA = 2
"""1 had a row a rung in the first pass's graph, and no trees beside it; it is still read."""
MANIFEST = "manifest.json"
SUFFIXES = frozenset({".json", ".onnx", ".npy", ".md", ".png"})


def sha256(path: Path) -> str:
    """Give a file's SHA-256 in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read a bundle's manifest, its schema version checked first.

    Raises
    ------
    BundleError
        It is missing, not JSON, or of a newer schema.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
        schema = manifest["schema"]
    except FileNotFoundError as error:
        raise BundleError(MANIFEST, f"the file is missing in {folder}") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(MANIFEST, f"it cannot be read: {error}") from error
    if not isinstance(schema, int) or schema > SCHEMA:
        raise BundleError(
            MANIFEST, f"schema {schema} is newer than this Cascade reads ({SCHEMA}); upgrade Cascade"
        )
    assert isinstance(manifest, dict)
    return manifest


def settled_share(manifest: dict[str, Any]) -> float:
    """Give the share of requests that a bundle is expected to settle.

    Of all held-out records, where the manifest says so; the certificate counts one a group of near copies.
    """
    measured = (manifest.get("metrics") or {}).get("settled")
    if measured is not None:
        return float(measured)
    certificate = manifest["certificate"]
    return float(certificate["n_settled"] / max(certificate["n_held_out"], 1))


def verify_files(folder: Path, manifest: dict[str, Any]) -> None:
    """Compare a bundle's directory with its manifest.

    Raises
    ------
    BundleError
        A file is missing, altered, not listed, or of a kind that bundles do not hold.
    """
    listed: dict[str, str] = manifest.get("files", {})
    for path in sorted(folder.iterdir()):
        if path.suffix not in SUFFIXES or not path.is_file() or path.is_symlink():
            raise BundleError(
                path.name, f"bundles hold only plain {', '.join(sorted(SUFFIXES))} files, never pickles"
            )
        if path.name not in (MANIFEST, SIGNATURE) and path.name not in listed:
            raise BundleError(path.name, f"the file is not listed in {MANIFEST}")
    for name, digest in listed.items():
        path = folder / name
        if Path(name).name != name:
            raise BundleError(name, "a bundle's files lie in its own directory")
        if not path.is_file():
            raise BundleError(name, "the file is missing")
        if sha256(path) != digest:
            raise BundleError(name, f"its SHA-256 is not the one {MANIFEST} states; the file was altered")
    stated = manifest.get("version", "")
    if not str(stated).endswith(content_hash(manifest)[:8]):
        raise BundleError(MANIFEST, "its content is not what the version's hash says; it was altered")


NOT_HASHED = ("version", "economy")
"""What a version's hash leaves out: itself, and what was measured with a clock. The same traffic gives the
same version although no two measurements are equal; they decide what is cheaper, never what is right. Nor
does it cover files that the manifest lists as `measured`, reports that state such figures; their SHA-256 is
checked as any other's."""


def content_hash(manifest: dict[str, Any]) -> str:
    """Give the hash of all that a manifest proves and describes: the bundle's identity."""
    rest = {key: value for key, value in manifest.items() if key not in NOT_HASHED}
    measured = manifest.get("measured")
    if measured:
        rest["files"] = {name: digest for name, digest in rest["files"].items() if name not in measured}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
