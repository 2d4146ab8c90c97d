"""From the `store` key of `cascade.yaml` to a traffic store."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from cascade.config import Config
from cascade.config.privacy import seconds_of
from cascade.errors import ConfigError, StoreError
from cascade.redaction import Redactor, open_redactor
from cascade.traffic.cipher import Cipher
from cascade.traffic.sqlite import SqliteStore
from cascade.traffic.store import TrafficStore

_PREFIX = "sqlite:///"


def open_traffic(
    config: Config,
    content: bool = True,
    redactor: Redactor | None = None,
    create: bool = True,
    later: bool = False,
) -> TrafficStore:
    """Open the traffic store that a configuration names, with its redaction and encryption.

    Parameters
    ----------
    config : Config
    content : bool
        Whether what was said is to be read or written. Without it, traffic can be counted, and needs no key.
    redactor : Redactor, optional
        The configuration's, where it is open already: what it found lately it need not look for again.
    create : bool
        Whether a SQLite file is made if missing.
    later : bool
        Whether a store that cannot be opened now is tried again later, see `SqlStore`.

    Raises
    ------
    ConfigError, StoreError
        See `open_store`, `open_cipher` and `cascade.redaction.open_redactor`.
    """
    if not content or not (create or later or _is_there(config.store_url)):
        return open_store(config.store_url, create=create)  # which says that it is missing; no key is made
    return open_store(
        config.store_url,
        open_cipher(config),
        redactor or open_redactor(config),
        config.state_path,
        create,
        later,
    )


def _is_there(url: str) -> bool:
    prefix = "sqlite:///"
    return not url.startswith(prefix) or Path(url.removeprefix(prefix)).exists()


def open_cipher(config: Config) -> Cipher | None:
    """Give the cipher that the configuration asks for; None where nothing is encrypted.

    Raises
    ------
    ConfigError
        The keys are missing or malformed, or the extra is not installed.
    """
    if config.encryption is None:
        return None
    try:
        from cascade.traffic.aes import cipher_from_environment
    except ImportError as error:
        raise ConfigError(
            f"encryption: `{error.name}` is not installed: pip install 'cascade-ladder[encryption]'"
        ) from None
    return cipher_from_environment(config.encryption.key_env)


def retention_of(config: Config) -> tuple[float | None, dict[str, float]]:
    """Give the seconds that traffic is kept: by default (None for ever), and by tenant."""
    section = config.retention
    default = None if section.default is None else seconds_of(section.default)
    return default, {tenant: seconds_of(kept) for tenant, kept in section.tenants.items()}


def open_store(
    url: str,
    cipher: Cipher | None = None,
    redactor: Redactor | None = None,
    state: Path | None = None,
    create: bool = True,
    later: bool = False,
) -> TrafficStore:
    """Open the traffic store at a URL, creating its tables (and a SQLite file's folder) if missing.

    Parameters
    ----------
    url : str
        `sqlite:///relative/path.db`, relative to the working directory, `sqlite:////absolute/path.db`, or
        `postgresql://user@host/database`, whose password comes from the environment (`PGPASSWORD`) or from
        `~/.pgpass`.
    cipher : Cipher, optional
        Encrypts what was said.
    redactor : Redactor, optional
        Redacts what was said before it is stored.
    state : Path, optional
        Where a process keeps what is of this machine while the store is on another; see `PostgresStore`.
    create, later : bool
        See `open_traffic`.

    Raises
    ------
    ConfigError
        The URL is none of these, holds a password, or its driver is not installed.
    StoreError
        It cannot be created or opened.
    """
    if url.startswith(("postgresql://", "postgres://")):
        return _open_postgres(url, cipher, redactor, state, later)
    path = url.removeprefix(_PREFIX)
    if path == url or not path or path.endswith("/") or path == ":memory:" or "?" in path:
        raise ConfigError(
            f"store: {_without_secrets(url)!r} is not supported; supported are "
            "sqlite:///relative/path.db, sqlite:////absolute/path.db and postgresql://user@host/database"
        )
    try:
        if create:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if not later:
            raise StoreError(
                f"the folder of the traffic database {path} cannot be created: {error}"
            ) from error
    return SqliteStore(path, cipher=cipher, redactor=redactor, create=create, later=later)


def _open_postgres(
    url: str, cipher: Cipher | None, redactor: Redactor | None, state: Path | None, later: bool
) -> TrafficStore:
    try:
        parts = urlsplit(url)
        secret = parts.password is not None or "password" in dict(parse_qsl(parts.query))
    except ValueError:
        raise ConfigError("store: not a URL; expected postgresql://user@host/database") from None
    if secret:
        raise ConfigError(
            "store: a password does not belong into the URL; "
            "set PGPASSWORD in the environment or use ~/.pgpass"
        )
    try:
        from cascade.traffic.postgres import PostgresStore
    except ImportError as error:
        raise ConfigError(
            f"store: `{error.name}` is not installed: pip install 'cascade-ladder[postgres]'"
        ) from None
    return PostgresStore(url, cipher=cipher, redactor=redactor, state=state, later=later)


def _without_secrets(url: str) -> str:
    # A URL of another database may hold a password: `scheme://user:password@host/...`.
    scheme, separator, rest = url.partition("://")
    return f"{scheme}://...@{rest.rpartition('@')[2]}" if separator and "@" in rest else url
