"""Bundles signed with Ed25519: the manifest is signed, and it holds the SHA-256 of every other file.

A signature lies beside the manifest as `signature.json`, which holds one entry for each key that signed.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cascade.errors import BundleError, ConfigError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

SIGNATURE = "signature.json"
MANIFEST = "manifest.json"
_DOMAIN = b"cascade bundle manifest, version 1\n"
_MAX_BYTES = 65_536


def create_signing_key(private: Path, public: Path) -> str:
    """Write a new key pair as PEM, and give the public key's id.

    Raises
    ------
    ConfigError
        One of the files is there already.
    """
    _need_cryptography()
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    for path in (private, public):
        if path.exists():
            raise ConfigError(f"{path} is there already; it is not overwritten")
    key = Ed25519PrivateKey.generate()
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    descriptor = os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(secret)
    public.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return key_id(key.public_key())


def key_id(key: Ed25519PublicKey) -> str:
    """Name a public key: the first 16 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]


def read_public_key(path: Path) -> Ed25519PublicKey:
    """Read a public key in PEM.

    Raises
    ------
    ConfigError
        The file is not there, or not an Ed25519 public key.
    """
    _need_cryptography()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"cannot read the public key {path}: {error.strerror}") from None
    except Exception as error:  # cryptography raises several kinds
        raise ConfigError(f"{path} is not a public key in PEM: {type(error).__name__}") from None
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError(f"{path} is not an Ed25519 public key")
    return key


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """Read a private key in PEM. Raises ConfigError, which never shows what the file holds."""
    _need_cryptography()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise ConfigError(f"cannot read the private key {path}: {error.strerror}") from None
    except Exception as error:
        raise ConfigError(f"{path} is not a private key in PEM: {type(error).__name__}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{path} is not an Ed25519 private key")
    return key


def sign_bundle(folder: Path, key: Ed25519PrivateKey) -> str:
    """Sign a bundle, beside the signatures that are there, and give the signing key's id.

    Raises
    ------
    BundleError
        There is no manifest, or what lies there as a signature is none.
    """
    signatures = read_signatures(folder) if (folder / SIGNATURE).exists() else {}
    signer = key_id(key.public_key())
    signatures[signer] = key.sign(_signed_bytes(folder))
    entries = [
        {"key": name, "algorithm": "ed25519", "signature": base64.b64encode(raw).decode()}
        for name, raw in sorted(signatures.items())
    ]
    scratch = folder.parent / f".{folder.name}.{SIGNATURE}"
    scratch.write_text(json.dumps({"signatures": entries}, indent=1) + "\n", "utf-8")
    scratch.replace(folder / SIGNATURE)
    return signer


def read_signatures(folder: Path) -> dict[str, bytes]:
    """Read the signatures of a bundle: each key's id and what it signed with.

    Raises
    ------
    BundleError
        There is no signature, or it is malformed.
    """
    path = folder / SIGNATURE
    try:
        raw = path.read_bytes()
        if len(raw) > _MAX_BYTES:
            raise ValueError("larger than any signature")
        data: Any = json.loads(raw)
        return {
            str(entry["key"]): base64.b64decode(entry["signature"], validate=True)
            for entry in data["signatures"]
            if entry["algorithm"] == "ed25519"
        }
    except FileNotFoundError:
        raise BundleError(SIGNATURE, "the bundle is not signed; `cascade bundle sign` does it") from None
    except OSError as error:
        raise BundleError(SIGNATURE, f"it cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BundleError(SIGNATURE, f"it is malformed: {type(error).__name__}") from None


def verify_signature(folder: Path, trusted: Sequence[Ed25519PublicKey]) -> str:
    """Check that one of the trusted keys signed a bundle's manifest, and give that key's id.

    Raises
    ------
    BundleError
        None of them did.
    """
    from cryptography.exceptions import InvalidSignature

    signatures = read_signatures(folder)
    signed = _signed_bytes(folder)
    for key in trusted:
        name = key_id(key)
        if name not in signatures:
            continue
        try:
            key.verify(signatures[name], signed)
        except InvalidSignature:
            raise BundleError(SIGNATURE, f"the signature of key {name} is wrong; it was altered") from None
        return name
    signers = ", ".join(sorted(signatures)) or "nobody"
    raise BundleError(SIGNATURE, f"no trusted key signed the bundle; signed by {signers[:200]}")


def _signed_bytes(folder: Path) -> bytes:
    try:
        return _DOMAIN + (folder / MANIFEST).read_bytes()
    except OSError as error:
        raise BundleError(MANIFEST, f"it cannot be read: {error.strerror}") from None


def _need_cryptography() -> None:
    try:
        import cryptography  # noqa: F401
    except ImportError:
        raise ConfigError(
            "signatures need the package cryptography: pip install 'cascade-ladder[encryption]'"
        ) from None
