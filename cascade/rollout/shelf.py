"""The bundles of a node that this process has in memory, loaded and warmed up off every request's way."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable

from cascade.bundle import Bundle
from cascade.errors import BundleError, CascadeError

_log = logging.getLogger(__name__)

RETRY_SECONDS = 5.0
"""How long a bundle that was refused is left alone before it is tried again."""


class Shelf:
    """Loads bundles and lets go of those that nobody wants any more.

    A request that got a bundle keeps it until it is answered, whatever the shelf does meanwhile.

    Parameters
    ----------
    node : str
    load : callable
        Gives the bundle of a version, checked and run on its golden inputs. Raises CascadeError.
    """

    def __init__(self, node: str, load: Callable[[str], Bundle]) -> None:
        self.node = node
        self.refused = 0
        self._load = load
        self._bundles: dict[str, Bundle] = {}
        self._problems: dict[str, tuple[str, float]] = {}
        self._loading = threading.Lock()

    def get(self, version: str) -> Bundle | None:
        """Give a bundle if it is in memory. Never waits."""
        return self._bundles.get(version)

    def problem(self, version: str) -> str:
        """Say why a version was refused; empty where it was not."""
        return self._problems.get(version, ("", 0.0))[0]

    def bundles(self) -> list[Bundle]:
        """Give what is in memory."""
        return list(self._bundles.values())

    def versions(self) -> set[str]:
        """Name what is in memory."""
        return set(self._bundles)

    def fetch(self, version: str, again: bool = True) -> Bundle | None:
        """Give a bundle, loading it if need be; None where it is refused. Takes as long as loading takes.

        `again` tries one anew that was refused a moment ago.
        """
        with self._loading:
            found = self._bundles.get(version)
            if found is not None:
                return found
            problem, at = self._problems.get(version, ("", float("-inf")))
            if problem and not again and time.monotonic() - at < RETRY_SECONDS:
                return None
            began = time.monotonic()
            try:
                bundle = self._load(version)
            except CascadeError as error:
                text = f"bundle refused: {error}"
                if text != problem:
                    _log.error("node %s, bundle %s: %s", self.node, version, text)
                self.refused += 1
                self._problems[version] = (text, time.monotonic())
                return None
            except Exception as error:  # whatever a broken file brings about, what is served stays
                _log.exception("node %s: bundle %s cannot be loaded", self.node, version)
                self.refused += 1
                self._problems[version] = (
                    f"bundle refused: {type(error).__name__}: {error}", time.monotonic()
                )  # fmt: skip
                return None
            self._problems.pop(version, None)
            self._bundles = {**self._bundles, version: bundle}
            _log.info("node %s: bundle %s is ready (%.2f s)", self.node, version, time.monotonic() - began)
            return bundle

    def keep(self, versions: Iterable[str]) -> bool:
        """Let go of all bundles but these, and say whether there were any."""
        wanted = set(versions)
        with self._loading:
            gone = self._bundles.keys() - wanted
            self._bundles = {v: b for v, b in self._bundles.items() if v in wanted}
            self._problems = {v: p for v, p in self._problems.items() if v in wanted}
        if gone:
            _log.info("node %s: let go of %s", self.node, ", ".join(sorted(gone)))
        return bool(gone)


def refuse_outside(version: str) -> None:
    """Refuse a version that would leave the node's folder.

    Raises
    ------
    BundleError
    """
    if not version or version.startswith(".") or "/" in version or "\\" in version or "\0" in version:
        raise BundleError(version[:64] or "(empty)", "is no bundle's version")
