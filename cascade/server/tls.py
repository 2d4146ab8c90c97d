"""TLS for the gRPC server and the HTTP side: PEM files, read again when they change."""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

import grpc

from cascade.config.security import TlsConfig
from cascade.errors import ConfigError

T = TypeVar("T")

_log = logging.getLogger(__name__)

_AGAIN_SECONDS = 1.0


def server_credentials(tls: TlsConfig, base: Path | None = None) -> Any:
    """Give gRPC's credentials of `server.tls`.

    Parameters
    ----------
    tls : TlsConfig
    base : Path, optional
        What its paths are relative to; by default the working folder.

    Raises
    ------
    ConfigError
        A file cannot be read, is not PEM, or the key is not the certificate's.
    """
    paths = _paths(tls, base)
    files = _Files(paths, lambda: _for_grpc(paths))
    return grpc.dynamic_ssl_server_credentials(
        files.read(), files.renewed, require_client_authentication=tls.client_ca is not None
    )


def http_context(tls: TlsConfig, base: Path | None = None) -> ssl.SSLContext:
    """Give the TLS context of `server.tls` for a server of the standard library's kind.

    Every handshake is made with the files as they are then. Parameters and exceptions are those of
    `server_credentials`.
    """
    paths = _paths(tls, base)
    files = _Files(paths, lambda: _context(paths))
    outer = now = files.read()

    def at_handshake(connection: ssl.SSLObject, _: str | None, __: ssl.SSLContext) -> None:
        nonlocal now
        now = files.renewed() or now
        connection.context = now

    # Called at every handshake, also where the client names no server. Another context in its place, and not
    # `load_cert_chain` on the one in use: half a renewal, say of the certificate without its key, would break
    # that one, and of an authority that is trusted no more it could not let go.
    outer.sni_callback = at_handshake
    return outer


class _Files(Generic[T]):
    """Something made of files, made again when they have changed."""

    def __init__(self, paths: list[Path], make: Callable[[], T]) -> None:
        self._paths, self._make = paths, make
        self._made_of = self._stamp()
        self._bad: list[tuple[int, int, int]] | None = None
        self._again = 0.0

    def read(self) -> T:
        """Make it. Raises ConfigError."""
        return self._make()

    def renewed(self) -> T | None:
        """Make it again where the files have changed since the last time; None where not, or they are bad."""
        now: list[tuple[int, int, int]] = []  # where nobody may look
        try:
            now = self._stamp()
            if now == self._made_of or (now == self._bad and time.monotonic() < self._again):
                return None
            made = self._make()
        except (ConfigError, OSError) as error:
            if now != self._bad:  # complained of once, not at every handshake
                _log.error("the certificates that were read last stay in force: %s", error)
            # Tried again: it may be that only this process could not, for want of a file descriptor.
            self._bad, self._again = now, time.monotonic() + _AGAIN_SECONDS
            return None
        self._made_of, self._bad = now, None
        _log.info("new certificates are in force")
        return made

    def _stamp(self) -> list[tuple[int, int, int]]:
        found = (path.stat() for path in self._paths if path.exists())
        # The time of change, not of writing: a key that the service may read at last is a renewal, too.
        return [(each.st_ctime_ns, each.st_size, each.st_ino) for each in found]


def _paths(tls: TlsConfig, base: Path | None) -> list[Path]:
    base = base or Path()
    return [base / path for path in (tls.key, tls.cert, tls.client_ca) if path is not None]


def _for_grpc(paths: list[Path]) -> Any:
    key, certificate, *client_ca = _contents(paths)
    _context(paths)  # gRPC does not say what is wrong with a pair that does not belong together
    return grpc.ssl_server_certificate_configuration(
        [(key, certificate)], root_certificates=client_ca[0] if client_ca else None
    )


def _context(paths: list[Path]) -> ssl.SSLContext:
    _contents(paths)
    key, certificate, *client_ca = paths
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # With an empty password an encrypted key is an error; without one, OpenSSL would ask the terminal.
        context.load_cert_chain(certificate, key, password="")
        if client_ca:
            context.load_verify_locations(client_ca[0])
            context.verify_mode = ssl.CERT_REQUIRED
            # A resumed session shows no certificate: its authority may be trusted no more by now.
            context.options |= ssl.OP_NO_TICKET
            context.num_tickets = 0
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(
            f"server.tls: {certificate} and its key {key} cannot be used: {error}; the key must be the "
            "certificate's, in PEM, without a password"
        ) from None
    return context


def _contents(paths: list[Path]) -> list[bytes]:
    found = []
    for path, what in zip(paths, ("PRIVATE KEY", "CERTIFICATE", "CERTIFICATE"), strict=False):
        try:
            raw = path.read_bytes()
        except OSError as error:
            raise ConfigError(f"server.tls: cannot read {path}: {error.strerror}") from None
        if b"-----BEGIN " not in raw or what.encode() not in raw:
            raise ConfigError(f"server.tls: {path} holds no {what} in PEM")
        found.append(raw)
    return found
