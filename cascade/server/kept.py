"""What workers begin with where files are broken by the time that they are started: keys and certificates."""

from __future__ import annotations

from pathlib import Path

from cascade.config import Config
from cascade.security.keys import read_and_keep
from cascade.security.last_good import LastGood
from cascade.server.certificates import Certificates

_Paths = tuple[Path, ...]

_MOST = 16
"""Files are remembered by so many names, those that were read last: each takes two descriptors, and names may
have a date in them."""


class Kept:
    """The last good of `auth.keys` and of `server.tls`.

    Read by the parent before it forks, and kept up to date by the workers, whichever reads a change first.
    The same files keep theirs over a reload: its workers bring back nothing that the old ones let go of.
    """

    def __init__(self) -> None:
        # Which configuration is served is not known here: any number of reloads may be given up in a row, and
        # the one before them all goes on starting workers.
        self._files: dict[_Paths, LastGood] = {}  # what was read last is last

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
        for paths, last_good in found.items():
            self._files.pop(paths, None)
            self._files[paths] = last_good
        for paths in list(self._files)[:-_MOST]:
            del self._files[paths]

    def keys(self, config: Config) -> LastGood | None:
        """Give that of `auth.keys`, where a configuration has it."""
        paths = _keys_paths(config)
        return self._of(paths) if paths else None

    def certificates(self, config: Config) -> LastGood | None:
        """Give that of `server.tls`, where a configuration has it."""
        paths = _tls_paths(config)
        return self._of(paths) if paths else None

    def _of(self, paths: _Paths) -> LastGood:
        return self._files.get(paths) or LastGood()


def _keys_paths(config: Config) -> _Paths:
    return (config.base / config.auth.keys,) if config.auth is not None else ()


def _tls_paths(config: Config) -> _Paths:
    tls = config.server.tls
    if tls is None:
        return ()
    return tuple(config.base / path for path in (tls.key, tls.cert, tls.client_ca) if path is not None)
