"""Signed bundles."""

import shutil
from pathlib import Path

import pytest

from cascade.errors import BundleError, ConfigError
from cascade.manifest import read_manifest, verify_files
from cascade.security.signing import (
    SIGNATURE,
    create_signing_key,
    read_private_key,
    read_public_key,
    sign_bundle,
    verify_signature,
)


@pytest.fixture
def bundle(tmp_path: Path, shipped: Path) -> Path:
    return Path(shutil.copytree(shipped, tmp_path / "models" / shipped.name))


@pytest.fixture
def release(tmp_path: Path) -> tuple[Path, Path]:
    create_signing_key(tmp_path / "release.key", tmp_path / "release.pub")
    return tmp_path / "release.key", tmp_path / "release.pub"


def test_a_signed_bundle_is_verified_and_its_files_still_pass(
    bundle: Path, release: tuple[Path, Path]
) -> None:
    name = sign_bundle(bundle, read_private_key(release[0]))
    assert verify_signature(bundle, [read_public_key(release[1])]) == name
    verify_files(bundle, read_manifest(bundle))
    assert release[0].stat().st_mode & 0o077 == 0


def test_an_unsigned_bundle_a_strangers_signature_and_an_altered_manifest_are_refused(
    bundle: Path, release: tuple[Path, Path], tmp_path: Path
) -> None:
    trusted = [read_public_key(release[1])]
    with pytest.raises(BundleError, match="not signed"):
        verify_signature(bundle, trusted)
    create_signing_key(tmp_path / "other.key", tmp_path / "other.pub")
    sign_bundle(bundle, read_private_key(tmp_path / "other.key"))
    with pytest.raises(BundleError, match="no trusted key signed"):
        verify_signature(bundle, trusted)
    sign_bundle(bundle, read_private_key(release[0]))  # beside the other's
    verify_signature(bundle, trusted)
    manifest = bundle / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"threshold"', '"threshold" '))
    with pytest.raises(BundleError, match="is wrong"):
        verify_signature(bundle, trusted)


@pytest.mark.parametrize(
    "text", ["", "{}", "[1]", '{"signatures": [{"key": 1}]}', "[" * 50_000, "x" * 70_000]
)
def test_a_malformed_signature_is_refused(bundle: Path, release: tuple[Path, Path], text: str) -> None:
    (bundle / SIGNATURE).write_text(text)
    with pytest.raises(BundleError, match="malformed"):
        verify_signature(bundle, [read_public_key(release[1])])


def test_keys_are_not_overwritten_and_a_private_key_is_no_public_one(release: tuple[Path, Path]) -> None:
    with pytest.raises(ConfigError, match="is there already"):
        create_signing_key(*release)
    with pytest.raises(ConfigError, match="not a public key"):
        read_public_key(release[0])
