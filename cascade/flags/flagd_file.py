"""The embedded default provider: a file in flagd's JSON format, read in process and reread when it changes.

The provider of the flagd project itself wants a newer grpcio than Cascade is fast with, polls at its RPC
deadline, and takes files whose flags no request could use. flagd's own evaluator (`openfeature-flagd-core`)
does the evaluating here, so that rules and buckets are those of flagd.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import stat
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from openfeature.contrib.tools.flagd.core import FlagdCore
from openfeature.contrib.tools.flagd.core.model import Flag, FlagStore
from openfeature.evaluation_context import EvaluationContext
from openfeature.event import ProviderEventDetails
from openfeature.exception import ErrorCode, OpenFeatureError
from openfeature.flag_evaluation import FlagResolutionDetails, FlagValueType
from openfeature.provider import AbstractProvider, Metadata

from cascade.flags.targeting import NOTHING, Dependencies, dependencies_of

_log = logging.getLogger(__name__)

_Signature = tuple[int, int, int]
_NO_WAIT = getattr(os, "O_NONBLOCK", 0)


Check = Callable[[Mapping[str, Flag]], None]
"""Gets the flags, by key, of a file that was read; raises ValueError where they make no sense."""


Doubt = Callable[[str], str]
"""Says what is doubtful about a flag's key, such as a node that is none; empty where nothing is."""


class FlagFileRefused(Exception):
    """A file is not a valid flag file; the message says why."""


def read_flags(path: Path, check: Check) -> tuple[dict[str, Any], Mapping[str, Flag]]:
    """Give a flag file's document and its flags, by key.

    Raises
    ------
    OSError, FlagFileRefused
    """
    try:
        text = _text_of(path)
        document = json.loads(text)
        if not isinstance(document, dict) or not isinstance(document.get("flags"), dict):
            raise ValueError("expected an object with `flags`, as in flagd's format")
        # flagd's store takes its input apart, so each gets its own.
        store = FlagStore()
        store.update(json.loads(text))
        check(store.flags)
    except (ValueError, TypeError, AttributeError, RecursionError, OpenFeatureError) as error:
        why = getattr(error, "error_message", None) or str(error) or type(error).__name__
        raise FlagFileRefused(f"it is not a valid flag file: {why}") from error
    return document, store.flags


def _text_of(path: Path) -> str:
    # Not to wait for ever for whoever writes to a named pipe.
    with open(path, encoding="utf-8", opener=lambda name, how: os.open(name, how | _NO_WAIT)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        return file.read()


class FlagdFileProvider(AbstractProvider):
    """Evaluates the flags of a file.

    There need not be a file: then there are no flags. A file that cannot be read, is not valid, or went away
    changes nothing: the last good flags stay.

    Parameters
    ----------
    path : Path
    check : callable
        See `Check`.
    seconds : float
        How often the file is looked at; 0 for never by itself.
    doubt : callable
        See `Doubt`. What is doubtful is taken all the same, and complained of.
    """

    def __init__(self, path: Path, check: Check, seconds: float = 0.5, doubt: Doubt = lambda _: "") -> None:
        super().__init__()
        self.path = path
        self.doubts: list[str] = []
        self._doubt = doubt
        self.problem = ""
        self.problem_since = 0.0
        self.failures = 0
        self._check = check
        self._seconds = seconds
        self._core = FlagdCore()
        self._flags: Mapping[str, Flag] = {}
        self._read: _Signature | None = None
        self._refused: _Signature | None = None
        self._ended = threading.Event()
        self._looking = threading.Lock()

    @property
    def flags(self) -> Mapping[str, Flag]:
        """What is in force, by key."""
        return self._flags

    def initialize(self, evaluation_context: EvaluationContext) -> None:
        """Read the file, and go on looking at it."""
        if not self.look() and not self.problem:
            _log.info("there is no flag file %s: no flags, until there is one", self.path)
        if self._seconds > 0:
            threading.Thread(target=self._watch, name="flags", daemon=True).start()

    def shutdown(self) -> None:
        """Stop looking at the file."""
        self._ended.set()

    def get_metadata(self) -> Metadata:
        """Give the provider's name."""
        return Metadata(name="cascade flagd file")

    def _watch(self) -> None:
        while not self._ended.wait(self._seconds):
            try:
                self.look()
            except Exception:  # whatever it was, the last good flags stay and the file is looked at again
                _log.exception("looking at the flag file %s failed", self.path)

    def look(self) -> bool:
        """Reread the file if it changed; say whether other flags hold now."""
        with self._looking:
            try:
                found = os.stat(self.path)
            except FileNotFoundError:
                if self._read is not None:
                    self._fail("the file is gone")
                return False
            except OSError as error:
                self._fail(f"it cannot be read: {error.strerror}")
                return False
            signature = (found.st_mtime_ns, found.st_size, found.st_ino)
            if signature == self._read and not self.problem:
                return False
            if signature == self._refused:
                return False
            try:
                document, self._flags = read_flags(self.path, self._check)
            except OSError as error:
                self._fail(f"it cannot be read: {error.strerror}")
                return False
            except FlagFileRefused as error:
                self._refused = signature
                self._fail(str(error))
                return False
            self._core.set_flags(document)
            self._read, self._refused = signature, None
            if self.problem:
                _log.info("the flag file %s is good again", self.path)
                self.problem = ""
                self.emit_provider_ready(ProviderEventDetails(message="good again"))
            doubts = {key: said for key in sorted(self._flags) if (said := self._doubt(key))}
            self.doubts = list(doubts.values())
            for said in self.doubts:
                _log.warning("flag file %s: %s", self.path, said)
            enabled = {key for key, flag in self._flags.items() if flag.state != "DISABLED"}
            named = ", ".join(sorted(enabled - doubts.keys())) or "none"
            _log.info("flag file %s: these flags are in force: %s", self.path, named)
        self.emit_provider_configuration_changed(ProviderEventDetails(flags_changed=list(self._flags)))
        return True

    def _fail(self, why: str) -> None:
        if why == self.problem:
            return
        if not self.problem:
            self.problem_since = time.time()
        self.problem = why
        self.failures += 1
        _log.error("flag file %s: %s; the last good flags stay", self.path, why)
        self.emit_provider_stale(ProviderEventDetails(message=why, error_code=ErrorCode.PARSE_ERROR))

    def dependencies(self, key: str) -> Dependencies:
        """Say what a flag's value depends on."""
        flag = self._flags.get(key)
        if flag is None or flag.state == "DISABLED":
            return NOTHING
        return dependencies_of(flag.targeting)

    def defines(self, key: str) -> bool:
        """Say whether there is such a flag."""
        return key in self._flags

    def values(self, key: str) -> frozenset[Any]:
        """Give every value that a flag can have."""
        flag = self._flags.get(key)
        return frozenset() if flag is None else frozenset(flag.variants.values())

    def resolve_string_details(
        self, flag_key: str, default_value: str, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[str]:
        """Evaluate a flag."""
        return self._core.resolve_string_value(flag_key, default_value, evaluation_context)

    def resolve_boolean_details(
        self, flag_key: str, default_value: bool, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[bool]:
        """Evaluate a flag."""
        return self._core.resolve_boolean_value(flag_key, default_value, evaluation_context)

    def resolve_integer_details(
        self, flag_key: str, default_value: int, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[int]:
        """Evaluate a flag."""
        return self._core.resolve_integer_value(flag_key, default_value, evaluation_context)

    def resolve_float_details(
        self, flag_key: str, default_value: float, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[float]:
        """Evaluate a flag."""
        return self._core.resolve_float_value(flag_key, default_value, evaluation_context)

    def resolve_object_details(
        self,
        flag_key: str,
        default_value: Sequence[FlagValueType] | Mapping[str, FlagValueType],
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[Sequence[FlagValueType] | Mapping[str, FlagValueType]]:
        """Evaluate a flag."""
        return self._core.resolve_object_value(flag_key, default_value, evaluation_context)
