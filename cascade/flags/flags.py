"""The flags of all nodes: asked of an OpenFeature provider, and cached as far as that is safe."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from openfeature import api
from openfeature.evaluation_context import EvaluationContext
from openfeature.event import EventDetails, ProviderEvent
from openfeature.exception import ErrorCode
from openfeature.provider import FeatureProvider
from openfeature.provider.no_op_provider import NoOpProvider

from cascade.flags.targeting import EVERYTHING, NOTHING, Dependencies
from cascade.flags.values import MODES, UNSET, NodeFlags, flag_keys

_log = logging.getLogger(__name__)

_LOG_EVERY = 30.0
_MOST_SEEN = 64  # versions that one node is given

_Key = tuple[str, tuple[str | None, ...], frozenset[tuple[str, str]], str]


@runtime_checkable
class Transparent(Protocol):
    """A provider that can say what its flags depend on, so that values can be kept until they change."""

    def dependencies(self, key: str) -> Dependencies:
        """Say what a flag's value depends on."""
        ...

    def defines(self, key: str) -> bool:
        """Say whether there is such a flag."""
        ...

    def values(self, key: str) -> frozenset[object]:
        """Give every value that a flag can have."""
        ...


@dataclass(slots=True)
class FlagCounts:
    """What became of evaluations.

    Attributes
    ----------
    evaluated : int
        How often the provider was asked for a request.
    failed : int
        How often it had no usable answer, so that the last good one or none was used.
    changes : int
        How often the provider said that flags changed.
    """

    evaluated: int = 0
    failed: int = 0
    changes: int = 0


@dataclass(slots=True)
class _View:
    """What is known under one state of the flags; replaced whole when they change."""

    fixed: dict[str, NodeFlags] = field(default_factory=dict)
    values: dict[str, str | None] = field(default_factory=dict)
    depends: dict[str, tuple[Dependencies, tuple[str, ...]]] = field(default_factory=dict)
    decided_by: dict[str, tuple[str, ...]] = field(default_factory=dict)
    kept: OrderedDict[_Key, tuple[NodeFlags, float]] = field(default_factory=OrderedDict)


class Flags:
    """Gives the flags of a node for a request; never raises.

    Where the provider can say what its flags depend on (the embedded one can), a value is kept until the
    flags change: for all requests where it depends on nothing, otherwise by the keys of the context it
    depends on. A vendor's provider is asked again for the same request after `vendor_seconds`.

    Parameters
    ----------
    provider : FeatureProvider
        Any OpenFeature provider. It is initialised here, in the background unless it is the embedded one.
    nodes : collection of str
    size : int
        How many evaluations are kept.
    vendor_seconds : float
    """

    def __init__(
        self,
        provider: FeatureProvider,
        nodes: Collection[str],
        size: int = 8192,
        vendor_seconds: float = 1.0,
    ) -> None:
        self.provider = provider
        self.counts = FlagCounts()
        self._transparent = provider if isinstance(provider, Transparent) else None
        self._nodes = tuple(nodes)
        self._keys = {node: flag_keys(node) for node in nodes}
        self._size = size
        self._vendor_seconds = vendor_seconds
        self._lock = threading.Lock()
        self._renewing = threading.Lock()
        self._seen: dict[str, set[str]] = {node: set() for node in nodes}
        self._last_log = float("-inf")
        self._before = self._view = _View()
        self._domain = f"cascade-{uuid.uuid4().hex}"
        self._client = api.get_client(self._domain)
        (api.set_provider_and_wait if self._transparent else api.set_provider)(provider, self._domain)
        self._client.add_handler(ProviderEvent.PROVIDER_CONFIGURATION_CHANGED, self._changed)
        self._client.add_handler(ProviderEvent.PROVIDER_READY, self._changed)
        self._renew()  # what changed before the handlers were there

    @property
    def of_vendor(self) -> bool:
        """Whether a vendor's code is asked for requests, which may take long."""
        return self._transparent is None

    def close(self) -> None:
        """Let go of the provider."""
        self._client.remove_handler(ProviderEvent.PROVIDER_CONFIGURATION_CHANGED, self._changed)
        self._client.remove_handler(ProviderEvent.PROVIDER_READY, self._changed)
        api.set_provider(NoOpProvider(), self._domain)

    def of(self, node: str, context: Mapping[str, str], targeting_key: str) -> NodeFlags:
        """Give the flags of a node for one request.

        Parameters
        ----------
        node : str
        context : mapping of str to str
            What targeting rules see.
        targeting_key : str
            What percentages are sticky by; not empty.
        """
        view = self._view
        fixed = view.fixed.get(node)
        if fixed is not None:
            return fixed
        depends, names = view.depends.get(node, (EVERYTHING, ()))
        key: _Key = (
            node,
            tuple([context.get(name) for name in names]),
            frozenset(context.items()) if depends.all_keys else frozenset(),
            targeting_key if depends.targeting_key else "",
        )
        with self._lock:
            found = view.kept.get(key)
            if found is not None:
                view.kept.move_to_end(key)
        if found is not None and (found[1] == float("inf") or found[1] > time.monotonic()):
            return found[0]
        flags = self._ask(node, context, targeting_key, view.values)
        if flags is None:  # the last good value of the very same request, or what holds without flags
            last = found or self._before.kept.get(key)
            return last[0] if last is not None else UNSET
        if not depends.time:
            until = float("inf") if self._transparent else time.monotonic() + self._vendor_seconds
            with self._lock:
                view.kept[key] = (flags, until)
                if len(view.kept) > self._size:
                    view.kept.popitem(last=False)
        return flags

    def decided_by(self, node: str) -> tuple[str, ...] | None:
        """Give the keys of the context that alone decide a node's flags now; None where more does.

        Empty where the flags are the same for all requests.
        """
        return self._view.decided_by.get(node)

    def bundles(self, node: str) -> set[str]:
        """Name the bundles that flags may give a node, as far as that is known."""
        named = set(self._seen[node])
        if self._transparent is not None:
            named |= {v for v in self._transparent.values(self._keys[node][1]) if isinstance(v, str)}
        named.discard("")
        return named

    def _changed(self, _: EventDetails) -> None:
        self._renew()
        with self._lock:
            self.counts.changes += 1

    def _renew(self) -> None:
        # One at a time: the SDK calls handlers in threads, and the one for an older change must not end last.
        with self._renewing:
            self._before, self._view = self._view, self._look()

    def _look(self) -> _View:
        view = _View()
        for node in self._nodes if self._transparent is not None else ():
            assert self._transparent is not None
            depends = NOTHING
            for key in self._keys[node]:
                alone = self._transparent.dependencies(key)
                if alone.constant:
                    self._evaluate(key, {}, "-", view.values)
                depends |= alone
            if depends.constant:
                flags = self._ask(node, {}, "-", view.values)
                view.fixed[node] = flags or self._view.fixed.get(node, UNSET)
                view.decided_by[node] = ()
            else:
                names = tuple(sorted(depends.keys))
                view.depends[node] = (depends, names)
                if not (depends.targeting_key or depends.all_keys or depends.time):
                    view.decided_by[node] = names
        for node in self._seen:
            self._seen[node] = set()
        return view

    def _ask(
        self, node: str, context: Mapping[str, str], targeting_key: str, known: Mapping[str, str | None]
    ) -> NodeFlags | None:
        """Evaluate the flags of a node that are not known; None where the provider has no usable answer."""
        self.counts.evaluated += 1
        values = dict(known)
        for key in self._keys[node]:
            if key not in values and not self._evaluate(key, context, targeting_key, values):
                return None
        mode, bundle = [values[key] for key in self._keys[node]]
        if mode is not None and mode not in MODES:
            self._fail(self._keys[node][0], f"{mode!r} is no mode; expected one of {', '.join(MODES)}")
            return None
        if bundle is not None and len(self._seen[node]) < _MOST_SEEN:
            self._seen[node].add(bundle)
        return NodeFlags(mode, bundle)

    def _evaluate(
        self, key: str, context: Mapping[str, str], targeting_key: str, values: dict[str, str | None]
    ) -> bool:
        if self._transparent is not None and not self._transparent.defines(key):
            values[key] = None
            return True
        try:
            asked = EvaluationContext(targeting_key=targeting_key, attributes=dict(context))
            details = self._client.get_string_details(key, "", asked)
        except Exception as error:  # a vendor's code
            self._fail(key, f"{type(error).__name__}: {error}")
            return False
        if details.error_code not in (None, ErrorCode.FLAG_NOT_FOUND):
            self._fail(key, f"{details.error_code}: {details.error_message}")
            return False
        values[key] = details.value or None
        return True

    def _fail(self, key: str, why: str) -> None:
        self.counts.failed += 1
        now = time.monotonic()
        if now - self._last_log >= _LOG_EVERY:
            self._last_log = now
            _log.error(
                "flag %s cannot be evaluated: %s; the last good value is used (%d failures so far)",
                key, why, self.counts.failed,
            )  # fmt: skip
