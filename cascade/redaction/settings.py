"""From the `redaction` section of `cascade.yaml` to a redactor."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from cascade.config import Config, RedactionConfig
from cascade.errors import ConfigError
from cascade.redaction.engine import Engine, PatternEngine
from cascade.redaction.redactor import Redactor, fingerprint

OFF = "off"
"""The fingerprint of no redaction."""

NAMES = "PERSON"
"""The kind that no form tells: a language model finds it, and the built-in detectors never do."""

KEY_FILE = "redaction.key"
_MIN_KEY = 16
_KNOWN: dict[Path, bytes] = {}


def open_redactor(config: Config) -> Redactor | None:
    """Give the redactor that the configuration asks for; None where redaction is off.

    Raises
    ------
    ConfigError
        The key is missing, too short or cannot be kept, or the engine is not installed.
    """
    section = config.redaction
    if not section.enabled:
        return None
    labels = {name for name, node in config.nodes.items() if node.contract.schema_file is None}
    return Redactor(_key(config), _engine(section), section.patterns, labels.__contains__)


def redaction_fingerprint(config: Config) -> str:
    """Give the fingerprint of the configured redaction, without its key.

    Raises
    ------
    ConfigError
        The engine is not installed.
    """
    section = config.redaction
    return fingerprint(_engine(section).name, section.patterns) if section.enabled else OFF


def _engine(section: RedactionConfig) -> Engine:
    engine = _presidio() if section.engine == "presidio" else PatternEngine(section.kinds)
    return _with_names(engine, section.names_model) if NAMES in section.kinds else engine


def _presidio() -> Engine:
    try:
        from cascade.redaction.presidio import PresidioEngine
    except ImportError as error:
        raise ConfigError(
            f"redaction.engine: `{error.name}` is not installed: pip install 'cascade-ladder[presidio]'"
        ) from None
    return PresidioEngine()


def _with_names(engine: Engine, model: str) -> Engine:
    try:
        from cascade.redaction.names import NameEngine

        return NameEngine(engine, model)
    except ImportError as error:
        missing = "pip install 'cascade-ladder[names]'" if error.name != model else (
            f"install the spaCy model {model}, or name another one in redaction.names_model (docs/privacy.md)"
        )  # fmt: skip
        raise ConfigError(
            f"redaction.kinds: PERSON needs `{error.name}`, which is not installed: {missing}; "
            "without it no name of a person is found"
        ) from None
    except ValueError as error:
        raise ConfigError(f"redaction.names_model: {error}") from None


def remember_key(config: Config) -> None:
    """Read or make the key now, for processes that are forked later: when its file may be gone.

    Raises
    ------
    ConfigError
        See `open_redactor`.
    """
    if config.redaction.enabled:
        _key(config)


def _key(config: Config) -> bytes:
    name = config.redaction.key_env
    given = os.environ.get(name, "").encode()
    if given:
        if len(given) < _MIN_KEY:
            raise ConfigError(
                f"the secret in the environment variable {name} needs at least {_MIN_KEY} bytes"
            )
        return given
    url = config.store_url
    if not url.startswith("sqlite:///"):
        raise ConfigError(
            f"redaction: replicas that share a store need the same secret for placeholders: set the "
            f"environment variable {name} to at least {_MIN_KEY} random characters, the same for all of them"
        )
    return _kept_key(Path(url.removeprefix("sqlite:///")).parent / KEY_FILE)


def _kept_key(path: Path) -> bytes:
    """Read the key file, or make it: whole or not at all, readable by its owner only.

    One that was there is not made anew, where its folder was moved away: the old placeholders would change.
    """
    try:
        if not path.exists():
            if path in _KNOWN:
                return _KNOWN[path]
            path.parent.mkdir(parents=True, exist_ok=True)
            scratch = path.with_name(f".{path.name}-{os.getpid()}-{secrets.token_hex(4)}")
            descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                with open(descriptor, "wb") as file:
                    file.write(secrets.token_hex(32).encode() + b"\n")
                    file.flush()
                    os.fsync(file.fileno())
                with suppress(
                    FileExistsError
                ):  # unlike a rename, this leaves a key that another process made
                    os.link(scratch, path)
            finally:
                scratch.unlink()
        key = path.read_bytes().strip()
    except OSError as error:
        raise ConfigError(
            f"the secret of the placeholders cannot be kept in {path}: {error.strerror}"
        ) from error
    if len(key) < _MIN_KEY:
        raise ConfigError(f"{path} is damaged: it holds {len(key)} bytes, {_MIN_KEY} are needed")
    _KNOWN[path] = key
    return key
