"""Bearer keys of tenants: made once, shown once, kept as SHA-256 only.

A key holds 256 random bits, so that its hash cannot be searched; a slow password hash would protect nothing
more and cost every call. The file is JSON, is replaced whole, and is read again whenever it changed.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import logging
import os
import secrets
import stat
import tempfile
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Any

from cascade.errors import ConfigError
from cascade.security.last_good import LastGood

VERBS = ("decide", "report", "read", "proxy", "admin")
"""What a key can be allowed: decide, report outcomes, read (its tenant's traffic and figures, how rollouts
stand), use the rest of the frontier's API on the service's account (files, responses, embeddings ...),
administer (change rollouts, read of every tenant)."""

_IMPLIED = {"read": "admin"}

PREFIX = "ck_"
_FORMAT = 1
_LOOK_EVERY = 0.5
_LOCK_SECONDS = 10.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Key:
    """One key, without its secret.

    Attributes
    ----------
    id : str
        Names the key in listings and logs.
    tenant : str
        Whose it is; takes the place of `context["tenant"]` in every request.
    hash : str
        SHA-256 of the key in hexadecimal.
    nodes : tuple of str
        Nodes it may ask; empty for all.
    verbs : tuple of str
        Of `VERBS`.
    created : float
        Unix time.
    expires : float, optional
        Unix time from which it is refused.
    """

    id: str
    tenant: str
    hash: str
    nodes: tuple[str, ...]
    verbs: tuple[str, ...]
    created: float
    expires: float | None = None

    def allows(self, verb: str) -> bool:
        """Say whether it allows a verb: one that administers also reads."""
        return verb in self.verbs or _IMPLIED.get(verb) in self.verbs


def hash_of(token: str) -> str:
    """Give what is stored of a key."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def read_keys(path: Path) -> list[Key]:
    """Read a keys file.

    Raises
    ------
    ConfigError
        It cannot be read or is not a keys file. The text never shows a hash.
    """
    try:
        return _parse(path.read_text("utf-8"), path)
    except FileNotFoundError:
        raise ConfigError(f"auth.keys: no file at {path}; `cascade key create` makes it") from None
    except OSError as error:
        raise ConfigError(f"auth.keys: cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"auth.keys: {path} is not a keys file: {error}") from None


def _parse(text: str, path: Path) -> list[Key]:
    try:
        data: Any = json.loads(text)
        if data["format"] != _FORMAT:
            raise ValueError(f"format {data['format']!r}; this Cascade reads {_FORMAT}")
        keys = [Key(**(k | {"nodes": tuple(k["nodes"]), "verbs": tuple(k["verbs"])})) for k in data["keys"]]
        for key in keys:
            texts = (key.id, key.tenant, key.hash, *key.nodes, *key.verbs)
            if not (
                all(isinstance(text, str) for text in texts)
                and set(key.verbs) <= set(VERBS)
                and (key.expires is None or (type(key.expires) in (int, float) and isfinite(key.expires)))
            ):
                raise ValueError(f"key {key.id!r} is malformed")
    except (ValueError, KeyError, TypeError) as error:
        shown = str(error) if isinstance(error, ValueError) else f"it lacks {error}"
        raise ConfigError(f"auth.keys: {path} is not a keys file: {shown[:200]}") from None
    return keys


def _text_of(keys: Sequence[Key]) -> str:
    return json.dumps({"format": _FORMAT, "keys": [asdict(key) for key in keys]}, indent=1)


def write_keys(path: Path, keys: Sequence[Key]) -> None:
    """Replace a keys file whole.

    A new one is readable by its owner only. One that is there keeps its owner, group and mode: a service that
    may read it before it is changed may read it afterwards.

    Raises
    ------
    ConfigError
        The owner and group cannot be kept, because this user is not allowed to give files away.
    """
    text = _text_of(keys)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)  # mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            _keep_access(path, descriptor)
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _keep_access(path: Path, descriptor: int) -> None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return
    made = os.fstat(descriptor)
    if (found.st_uid, found.st_gid) != (made.st_uid, made.st_gid):
        try:
            os.fchown(descriptor, found.st_uid, found.st_gid)
        except PermissionError:
            raise ConfigError(
                f"{path} is another user's or group's, and has to stay so: do this as root or as its owner"
            ) from None
    os.fchmod(descriptor, stat.S_IMODE(found.st_mode))


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Change a keys file alone: of two that read it and then replace it, the second would undo the first.

    It is the folder that is locked, which leaves no file behind and needs no right but to read it. The kernel
    lets go of the lock, whatever the process dies of.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        end = time.monotonic() + _LOCK_SECONDS
        while not _locked(folder, path):
            if time.monotonic() > end:
                raise ConfigError(
                    f"another command has been changing {path} for {_LOCK_SECONDS:g} s; try again"
                )
            time.sleep(0.02)
        yield
        try:
            os.fsync(folder)  # else a crash of the machine could bring back what was revoked
        except OSError as error:
            # Not every file system does that for folders. The keys are written, and who made one is shown it.
            _log.warning("a crash of the machine may undo what was written to %s: %s", path, error)
    finally:
        os.close(folder)


def _locked(folder: int, path: Path) -> bool:
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.EBADF, errno.ENOLCK, errno.EOPNOTSUPP):
            raise
        # A file system of a network may lock no folders.
        _log.warning("two commands at once may undo each other: the folder of %s takes no locks", path)
    return True


def create_key(
    path: Path,
    tenant: str,
    nodes: Sequence[str] = (),
    verbs: Sequence[str] = ("decide", "report"),
    days: float | None = None,
) -> tuple[Key, str]:
    """Add a key to a file, which is made where it is missing.

    Parameters
    ----------
    path : Path
    tenant : str
        1 to 64 characters, without `/` and control characters.
    nodes : sequence of str
        Nodes it may ask; empty for all.
    verbs : sequence of str
        Of `VERBS`.
    days : float, optional
        After how many days it ends by itself.

    Returns
    -------
    Key
    str
        The key itself. It is stored nowhere.

    Raises
    ------
    ConfigError
        A tenant, verb or time is wrong, `proxy` meets nodes, or the file is wrong.
    """
    if not 1 <= len(tenant) <= 64 or not tenant.isprintable() or "/" in tenant or tenant.isspace():
        raise ConfigError("a tenant has 1 to 64 printable characters, none of them '/'")
    wrong = sorted(set(verbs) - set(VERBS))
    if wrong or not verbs:
        raise ConfigError(f"verbs are {', '.join(VERBS)}; found {', '.join(wrong) or 'none'}")
    if nodes and "proxy" in verbs:
        raise ConfigError("a key that names nodes asks these alone; `proxy` is for keys that name none")
    if days is not None and not 0 < days < 36_500:
        raise ConfigError("the number of days must be above 0 and below 36500")
    token = PREFIX + secrets.token_urlsafe(32)
    now = time.time()
    key = Key(
        f"k-{secrets.token_hex(4)}", tenant, hash_of(token), tuple(nodes), tuple(dict.fromkeys(verbs)), now,
        None if days is None else now + days * 86_400,
    )  # fmt: skip
    with _alone(path):
        write_keys(path, [*(read_keys(path) if path.exists() else ()), key])
    return key, token


def revoke_key(path: Path, key_id: str) -> Key:
    """Take a key out of a file; running servers refuse it within a second.

    Raises
    ------
    ConfigError
        There is no such key.
    """
    read_keys(path)  # a folder that is not there is not made
    with _alone(path):
        keys = read_keys(path)
        found = [key for key in keys if key.id == key_id]
        if not found:
            raise ConfigError(f"no key has the id {key_id[:80]!r}; `cascade key list` names them")
        write_keys(path, [key for key in keys if key.id != key_id])
    return replace(found[0], expires=time.time())


def read_and_keep(path: Path, last_good: LastGood) -> list[Key]:
    """Read a keys file, and have workers that are started while it is broken begin with these keys.

    Raises
    ------
    ConfigError
        See `read_keys`.
    """
    with last_good.turn():
        keys = read_keys(path)
        last_good.put(_text_of(keys).encode())
    return keys


class KeyRing:
    """The keys of a file, as they are now. May be used by many threads and event loops.

    A thread looks at the file twice a second, so that nobody who asks for a key waits for a disk.

    A file that breaks while it is served leaves the last good keys in force, and is complained about.

    Parameters
    ----------
    path : Path
    last_good : LastGood, optional
        What it begins with where something is there, whatever the file is like by now.

    Raises
    ------
    ConfigError
        Nothing good is there, and the file cannot be read.
    """

    def __init__(self, path: Path, last_good: LastGood | None = None) -> None:
        self._path, self._last_good = path, last_good or LastGood()
        self._stamp: tuple[int, ...] | None = ()  # of no file
        self._complained: tuple[int, ...] | None = ()
        kept = self._last_good.get()
        if kept is None:
            self._stamp = self._complained = self._stat()
            self._take(read_and_keep(path, self._last_good))
        else:
            self._take(_parse(kept[0].decode(), path))
            self._look()
        threading.Thread(target=_watch, args=(weakref.ref(self),), name="cascade-keys", daemon=True).start()

    def find(self, token: str) -> Key | None:
        """Give the key that a token is, if it is one that holds now. Does not wait for the file."""
        key = self._keys.get(hash_of(token))
        if key is None or (key.expires is not None and key.expires <= time.time()):
            return None
        return key

    def _take(self, keys: Sequence[Key]) -> None:
        self._keys = {key.hash: key for key in keys}

    def _stat(self) -> tuple[int, ...] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        # The time of change, not of writing: whoever may read it is part of it.
        return found.st_ctime_ns, found.st_size, found.st_ino

    def _look(self) -> None:
        stamp = self._stat()
        if stamp == self._stamp:
            return
        try:
            self._take(read_and_keep(self._path, self._last_good))
        except ConfigError as error:
            if stamp != self._complained:
                _log.error("the keys that were read last stay in force: %s", error)
            self._complained = stamp
            return  # read again: it may be that only this process could not, for want of a file descriptor
        self._stamp = self._complained = stamp


def _watch(ring: weakref.ref[KeyRing]) -> None:
    """Look at the file again and again, for as long as somebody has the ring."""
    while True:
        time.sleep(_LOOK_EVERY)
        found = ring()
        if found is None:
            return
        try:
            found._look()
        except Exception:  # else no key would ever be revoked again
            _log.exception("the keys that were read last stay in force")
        del found
