"""Hostile files: configurations, traffic, bundles, keys and signatures. A part of `benchmarks.fuzz`."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

from benchmarks.fuzz_input import NODE, ROOT, Case, mangle, some_text
from cascade.bundle import load_bundle
from cascade.config import load_config
from cascade.errors import BundleError, ConfigError
from cascade.security.keys import read_keys
from cascade.security.signing import read_signatures
from cascade.traffic.jsonl import read_jsonl


def config_case(folder: Path) -> Case:
    """A mangled `cascade.yaml` is read, or refused by ConfigError."""
    good = (ROOT / "cascade.yaml").read_bytes()
    path = folder / "cascade.yaml"

    def run(rng: random.Random) -> str:
        path.write_bytes(mangle(good, rng) if rng.random() < 0.9 else rng.randbytes(rng.randrange(200)))
        try:
            load_config(path)
        except ConfigError:
            return "refused"
        return "accepted"

    return run


def traffic_case(rng: random.Random) -> str:
    """Mangled lines of traffic are good or bad lines, never an exception."""
    lines = []
    for _ in range(rng.randrange(1, 4)):
        record = {"id": some_text(rng), "text": some_text(rng), "label": some_text(rng)}
        if rng.random() < 0.3:
            record["time"] = rng.choice((1e300, -1, "2026-01-01", "x", None, []))  # type: ignore[assignment]
        raw = json.dumps(record).encode("utf-8", "surrogatepass")
        lines.append(mangle(raw, rng) if rng.random() < 0.7 else raw)
    good, bad = read_jsonl(lines, NODE)
    return "refused" if bad and not good else "accepted"


def bundle_case(folder: Path) -> Case:
    """A bundle with altered files is refused by BundleError before anything of it is run."""
    version = (ROOT / "models" / NODE / "serving").read_text().strip()
    source = ROOT / "models" / NODE / version
    names = sorted(path.name for path in source.iterdir())
    target = folder / "bundle"
    shutil.copytree(source, target)

    def open_encoder(_: str) -> Any:
        raise BundleError("manifest.json", "no encoder is opened in this test")

    def run(rng: random.Random) -> str:
        name = rng.choice(names) if rng.random() < 0.5 else "manifest.json"
        path = target / name
        raw = path.read_bytes()
        try:
            if rng.random() < 0.1:
                path.unlink()
            else:
                at = rng.randrange(len(raw))
                cut = raw[max(0, at - 300) : at + 300]
                path.write_bytes(raw[: max(0, at - 300)] + mangle(cut, rng) + raw[at + 300 :])
            if path.exists() and path.read_bytes() == raw:
                return "unchanged"
            load_bundle(target, open_encoder, NODE)
        except BundleError:
            return "refused"
        finally:
            path.write_bytes(raw)
        raise AssertionError(f"an altered {name} was accepted")

    return run


def secrets_case(folder: Path) -> Case:
    """Mangled keys and signature files are read or refused by our own errors."""
    keys, bundle = folder / "keys.json", folder / "signed"
    bundle.mkdir()
    good_keys = (
        b'{"format": 1, "keys": [{"id": "k", "tenant": "t", "hash": "h", "nodes": [], '
        b'"verbs": ["decide"], "created": 0}]}'
    )
    good_signature = b'{"signatures": [{"key": "k", "algorithm": "ed25519", "signature": "QUJD"}]}'

    def run(rng: random.Random) -> str:
        try:
            if rng.random() < 0.5:
                keys.write_bytes(mangle(good_keys, rng))
                read_keys(keys)
            else:
                (bundle / "signature.json").write_bytes(mangle(good_signature, rng))
                read_signatures(bundle)
        except (ConfigError, BundleError):
            return "refused"
        return "accepted"

    return run
