"""Encryption of traffic at rest: AES-256-GCM, by keys from the environment (extra `encryption`).

What is encrypted: texts, chats, outputs, contexts, reasons. What stays readable, so that traffic can be
counted without a key: ids, nodes, tenants, times, rungs, versions, prices, latencies, choices, tools.
"""

from __future__ import annotations

import base64
import os
import secrets
from collections.abc import Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from cascade.errors import ConfigError, StoreError

_NONCE = 12


class AesCipher:
    """A `Cipher` of several keys; the first one encrypts.

    Parameters
    ----------
    keys : mapping of str to bytes
        32 bytes each, by id.
    """

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        self._keys = {id_: AESGCM(key) for id_, key in keys.items()}

    @property
    def current(self) -> str:
        """See `Cipher.current`."""
        return next(iter(self._keys))

    def seal(self, text: str, place: str) -> str:
        """See `Cipher.seal`."""
        nonce = os.urandom(_NONCE)
        hidden = self._keys[self.current].encrypt(nonce, text.encode("utf-8"), place.encode("utf-8"))
        return f"{self.current}:{base64.b64encode(nonce + hidden).decode('ascii')}"

    def open(self, sealed: str, place: str) -> str:
        """See `Cipher.open`."""
        id_, _, rest = sealed.partition(":")
        key = self._keys.get(id_)
        if key is None:
            raise StoreError(
                f"traffic is encrypted by the key {id_!r}, which is not among the configured ones"
            )
        try:
            raw = base64.b64decode(rest, validate=True)
            return key.decrypt(raw[:_NONCE], raw[_NONCE:], place.encode("utf-8")).decode("utf-8")
        except (InvalidTag, ValueError):
            raise StoreError(
                f"a stored value ({place.partition(':')[0]}) cannot be decrypted: it was altered or moved, "
                f"or the key {id_!r} is another one"
            ) from None


def new_key(id_: str) -> str:
    """Give a new random key in the form that the environment holds."""
    return f"{id_}:{base64.urlsafe_b64encode(secrets.token_bytes(32)).decode('ascii')}"


def cipher_from_environment(name: str) -> AesCipher:
    """Read the keys in an environment variable.

    Raises
    ------
    ConfigError
        It is not set, or holds something else. The message never shows a key.
    """
    given = os.environ.get(name, "")
    if not given.strip():
        raise ConfigError(
            f"encryption: the environment variable {name} is not set; `cascade traffic key` makes a key"
        )
    keys: dict[str, bytes] = {}
    for number, each in enumerate(given.split(","), start=1):
        id_, _, text = each.strip().partition(":")
        try:
            key = base64.urlsafe_b64decode(text.encode("ascii"))
        except (ValueError, UnicodeEncodeError):
            key = b""
        if not id_ or not id_.isalnum() or len(key) != 32 or id_ in keys:
            raise ConfigError(
                f"encryption: key {number} in {name} is not ID:KEY with 32 bytes in base64 and an id of its "
                "own, as `cascade traffic key` makes them"
            )
        keys[id_] = key
    return AesCipher(keys)
