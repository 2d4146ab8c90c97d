"""What workers begin with where files are broken by the time that they are started: keys and certificates."""

from __future__ import annotations

from pathlib import Path

from cascade.config import Config
from cascade.security.keys import read_and_keep
from cascade.security.last_good import LastGood
from cascade.server.certificates import Certificates

_Paths = tuple[Path, ...]


class Kept:
    """The last good of `auth.keys` and of `server.tls`.

    Read by the parent before it forks, and kept up to date by the workers, whichever reads a change first.
    The same files keep theirs over a reload: its workers bring back nothing that the old ones let go of.
    """

    def __init__(self) -> None:
        self._now: dict[_Paths, LastGood] = {}
        self._before: dict[_Paths, LastGood] = {}  # a reload may be given up, and followed by the next

    def read(self, config: Config) -> None:
        """Read the files of a configuration that is going to be served. In the parent.

        Raises
        ------
        ConfigError
            One cannot be used, or certificates that are outside their time would take the place of those in
            force, which are not.
        """
        found: dict[_Paths, LastGood] = {}
        if config.auth is not None:
            paths = _keys_paths(config)
            found[paths] = self._of(paths)
            read_and_keep(config.base / config.auth.keys, found[paths])
        if config.server.tls is not None:
            paths = _tls_paths(config)
            found[paths] = self._of(paths)
            Certificates(config.server.tls, config.base, found[paths]).check()
        self._now, self._before = found, self._now

    def keys(self, config: Config) -> LastGood | None:
        """Give that of `auth.keys`, where a configuration has it."""
        paths = _keys_paths(config)
        return self._of(paths) if paths else None

    def certificates(self, config: Config) -> LastGood | None:
        """Give that of `server.tls`, where a configuration has it."""
        paths = _tls_paths(config)
        return self._of(paths) if paths else None

    def _of(self, paths: _Paths) -> LastGood:
        return self._now.get(paths) or self._before.get(paths) or LastGood()


def _keys_paths(config: Config) -> _Paths:
    return (config.base / config.auth.keys,) if config.auth is not None else ()


def _tls_paths(config: Config) -> _Paths:
    tls = config.server.tls
    if tls is None:
        return ()
    return tuple(config.base / path for path in (tls.key, tls.cert, tls.client_ca) if path is not None)
