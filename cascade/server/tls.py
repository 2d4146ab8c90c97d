"""TLS for the server: PEM files, read again when they change."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import grpc

from cascade.config.security import TlsConfig
from cascade.errors import ConfigError

_log = logging.getLogger(__name__)


def server_credentials(tls: TlsConfig, base: Path | None = None) -> Any:
    """Give the credentials of `server.tls`.

    Parameters
    ----------
    tls : TlsConfig
    base : Path, optional
        What its paths are relative to; by default the working folder.

    Raises
    ------
    ConfigError
        A file cannot be read, or is not PEM.
    """
    base = base or Path()
    paths = [base / path for path in (tls.key, tls.cert, tls.client_ca) if path is not None]
    stamp = _stamp(paths)

    def fetch() -> Any:
        nonlocal stamp
        try:
            now = _stamp(paths)
            if now == stamp:
                return None  # keeps what is in force
            renewed = _read(paths)
            stamp = now
        except (ConfigError, OSError) as error:
            _log.error("the certificates that were read last stay in force: %s", error)
            return None
        _log.info("new certificates are in force")
        return renewed

    return grpc.dynamic_ssl_server_credentials(
        _read(paths), fetch, require_client_authentication=tls.client_ca is not None
    )


def _stamp(paths: list[Path]) -> list[tuple[int, int]]:
    return [(found.st_mtime_ns, found.st_size) for found in (path.stat() for path in paths if path.exists())]


def _read(paths: list[Path]) -> Any:
    found = []
    for path, what in zip(paths, ("PRIVATE KEY", "CERTIFICATE", "CERTIFICATE"), strict=False):
        try:
            raw = path.read_bytes()
        except OSError as error:
            raise ConfigError(f"server.tls: cannot read {path}: {error.strerror}") from None
        if b"-----BEGIN " not in raw or what.encode() not in raw:
            raise ConfigError(f"server.tls: {path} holds no {what} in PEM")
        found.append(raw)
    key, certificate, *client_ca = found
    return grpc.ssl_server_certificate_configuration(
        [(key, certificate)], root_certificates=client_ca[0] if client_ca else None
    )
