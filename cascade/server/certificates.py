"""The PEM files of `server.tls`: read again when they change, and taken over only where they are usable."""

from __future__ import annotations

import logging
import ssl
import threading
import time
import weakref
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cascade.config.security import TlsConfig
from cascade.errors import ConfigError
from cascade.memory_file import path_of
from cascade.observe.worker_number import worker_number
from cascade.security.last_good import LastGood
from cascade.server.validity import Period, periods

_log = logging.getLogger(__name__)

SOON_SECONDS = 14 * 86_400.0
"""So long before a certificate ends it is complained of."""

_AGAIN_SECONDS = 1.0
_LOOK_EVERY = 1.0
_SAID_AGAIN_SECONDS = 86_400.0

_Stamp = list[tuple[int, int, int]]


@dataclass(frozen=True, eq=False)
class Loaded:
    """Files that were found good, as they were then.

    Attributes
    ----------
    parts : tuple of bytes
        Key, certificate and, where clients are certified, what certifies them.
    context : ssl.SSLContext
        Made of them, for the standard library's servers.
    periods : dict of str
        By the key of `server.tls`: when the certificate is valid, and the authorities for clients are. Of a
        chain only the first counts, since a client may find another way past the others.
    """

    parts: tuple[bytes, ...]
    context: ssl.SSLContext
    periods: dict[str, list[Period]]

    @property
    def ends(self) -> dict[str, float]:
        """When each file has nothing valid left, in Unix time, by its key of `server.tls`."""
        return {key: max(found.end for found in each) for key, each in self.periods.items()}

    def outside(self, now: float) -> dict[str, str]:
        """Say of each file that has nothing that is valid now why not, by its key of `server.tls`."""
        wrong = {}
        for key, each in self.periods.items():
            if not any(found.begin <= now <= found.end for found in each):
                later = [found.begin for found in each if found.begin > now]
                end = max(found.end for found in each)
                wrong[key] = f"is not valid before {_day(min(later))}" if later else f"expired on {_day(end)}"
        return wrong


class Certificates:
    """The certificates of a process. May be used by many threads.

    Files that cannot be used leave the last good ones in force and are complained of. So does a file that is
    outside its time while that one in force is not.

    Parameters
    ----------
    tls : TlsConfig
    base : Path, optional
        What its paths are relative to; by default the working folder.
    last_good : LastGood, optional
        What this process begins with where something is there, whatever the files are like by now.

    Raises
    ------
    ConfigError
        Nothing good is there, and a file cannot be read, is not PEM, or the key is not the certificate's.
    """

    def __init__(self, tls: TlsConfig, base: Path | None = None, last_good: LastGood | None = None) -> None:
        self._paths = {
            key: (base or Path()) / path
            for key, path in (("key", tls.key), ("cert", tls.cert), ("client_ca", tls.client_ca))
            if path is not None
        }
        self._last_good = last_good or LastGood()
        self._lock = threading.Lock()
        self._bad: _Stamp | None = None
        self._again = 0.0
        self._made_of: _Stamp | None = None
        self._said: dict[str, tuple[str, float]] = {}
        kept = self._last_good.get()
        if kept is None:
            self._begin()
        else:
            self._now = _loaded(kept, self._paths)
            self.look()

    @property
    def now(self) -> Loaded:
        """What is in force."""
        return self._now

    def look(self) -> Loaded:
        """Take the files over where they have changed and are good, and give what is in force then."""
        with self._lock:
            stamp: _Stamp = []  # where nobody may look
            try:
                stamp = self._stamp()
                if stamp == self._made_of or (stamp == self._bad and time.monotonic() < self._again):
                    return self._now
                before = self._now
                self._take(before)
            except (ConfigError, OSError) as error:
                if stamp != self._bad:  # complained of once, not at every handshake
                    _log.error("the certificates that were read last stay in force: %s", error)
                # Tried again: it may be that only this process could not, for want of a file descriptor.
                self._bad, self._again = stamp, time.monotonic() + _AGAIN_SECONDS
                return self._now
            self._made_of, self._bad = stamp, None
            if self._now is not before:
                _log.info("new certificates are in force: %s", self._until())
            return self._now

    def check(self) -> None:
        """Take the files over as they are. Raises ConfigError where `look` would complain."""
        with self._lock:
            self._take(self._now)

    def watch(self) -> None:
        """Look once a second, in a thread, while somebody has this, and say what has ended or ends soon."""
        self._tell()
        threading.Thread(target=_watch, args=(weakref.ref(self),), name="cascade-tls", daemon=True).start()

    def _begin(self) -> None:
        try:
            self._made_of = self._stamp()
        except OSError as error:
            raise ConfigError(f"server.tls: {error.filename}: {error.strerror}") from None
        self._take(None)

    def _take(self, before: Loaded | None) -> None:
        with self._last_good.turn():
            parts = _contents(self._paths)
            if before is not None and parts == before.parts:
                return
            fresh = _loaded(parts, self._paths)
            now = time.time()
            if before is not None:
                # File by file: where the authorities for clients have ended, the certificate may be valid.
                ended = before.outside(now)
                for key, wrong in fresh.outside(now).items():
                    if key not in ended:
                        raise ConfigError(
                            f"server.tls: {self._paths[key]} {wrong}, and what is in force is valid; is this "
                            "machine's clock right? Put a certificate there that is valid now"
                        )
            self._last_good.put(*parts)
            self._now = fresh

    def _tell(self) -> None:
        """Say what has ended or ends soon, and again after a day; of several workers the first does."""
        if worker_number():
            return
        now = time.time()
        outside, ends = self._now.outside(now), self._now.ends
        for key, path in self._paths.items():
            if key in outside:
                level = logging.ERROR
                who = "this service cannot verify any client" if key == "client_ca" else "clients refuse it"
                text = f"server.tls: {path} {outside[key]}: {who}. Put one there that is valid now"
            elif key in ends and ends[key] - now < SOON_SECONDS:
                level = logging.WARNING
                text = f"server.tls: {path} expires on {_day(ends[key])}; put a new one there before that"
            else:
                self._said.pop(key, None)
                continue
            said, when = self._said.get(key, ("", 0.0))
            if said != text or now - when >= _SAID_AGAIN_SECONDS:
                self._said[key] = text, now
                _log.log(level, "%s, without a restart", text)

    def _until(self) -> str:
        return ", ".join(f"{self._paths[key]} until {_day(end)}" for key, end in self._now.ends.items())

    def _stamp(self) -> _Stamp:
        found = (path.stat() for path in self._paths.values() if path.exists())
        # The time of change, not of writing: a key that the service may read at last is a renewal, too.
        return [(each.st_ctime_ns, each.st_size, each.st_ino) for each in found]


def _watch(certificates: weakref.ref[Certificates]) -> None:
    while True:
        time.sleep(_LOOK_EVERY)
        found = certificates()
        if found is None:
            return
        try:
            found.look()
            found._tell()
        except Exception:  # else nobody would be told of the end
            _log.exception("the certificates that were read last stay in force")
        del found


def _day(when: float) -> str:
    return f"{datetime.fromtimestamp(when, UTC):%Y-%m-%d %H:%M} UTC"


def _loaded(parts: tuple[bytes, ...], paths: dict[str, Path]) -> Loaded:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # Taken by path only; but not by the files' own, which may have changed since they were read.
        with path_of(parts[0], "cascade-key") as key, path_of(parts[1], "cascade-cert") as certificate:
            # With an empty password an encrypted key is an error; without one, OpenSSL asks the terminal.
            context.load_cert_chain(certificate, key, password="")
        found = {"cert": _periods(parts[1])[:1]}
    except (ssl.SSLError, OSError, ValueError) as error:
        raise ConfigError(
            f"server.tls: {paths['cert']} and its key {paths['key']} cannot be used: {error}; the key must "
            "be the certificate's, in PEM, without a password"
        ) from None
    if len(parts) == 2:
        return Loaded(parts, context, found)
    try:
        with path_of(parts[2], "cascade-client-ca") as authorities:
            context.load_verify_locations(authorities)
        found["client_ca"] = _periods(parts[2])
    except (ssl.SSLError, OSError, ValueError) as error:
        raise ConfigError(
            f"server.tls: {paths['client_ca']} cannot be used: {error}; it must hold the certificates of "
            "those who sign the clients', in PEM"
        ) from None
    context.verify_mode = ssl.CERT_REQUIRED
    # A resumed session shows no certificate: its authority may be trusted no more by now.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    return Loaded(parts, context, found)


def _periods(pem: bytes) -> list[Period]:
    if not (found := periods(pem)):
        raise ValueError("no X.509 certificate")
    return found


def _contents(paths: dict[str, Path]) -> tuple[bytes, ...]:
    found = []
    for key, path in paths.items():
        what = "PRIVATE KEY" if key == "key" else "CERTIFICATE"
        try:
            raw = path.read_bytes()
        except OSError as error:
            raise ConfigError(f"server.tls: cannot read {path}: {error.strerror}") from None
        if b"-----BEGIN " not in raw or what.encode() not in raw:
            raise ConfigError(f"server.tls: {path} holds no {what} in PEM")
        found.append(raw)
    return tuple(found)
