"""Who calls, what they may do, and how much of it: asked of every call before any work is done for it."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

from cascade.config import Config
from cascade.errors import Overloaded, PermissionDenied, Unauthenticated
from cascade.security.keys import KeyRing
from cascade.security.last_good import LastGood
from cascade.server.pool import ElasticPool
from cascade.server.quotas import Quotas

_WINDOW = 1.0
_MAX_TENANTS = 10_000


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls.

    Attributes
    ----------
    tenant : str or None
        The key's tenant; None where no keys are configured, and the request's context says who it is for.
    nodes : frozenset of str
        Nodes that may be asked; empty for all.
    key : str
        Id of the key; empty for none.
    admin : bool
        Whether it administers: then it reads every tenant's traffic, and changes rollouts.
    """

    tenant: str | None = None
    nodes: frozenset[str] = frozenset()
    key: str = ""
    admin: bool = True

    @property
    def reads_tenant(self) -> str | None:
        """Whose traffic and figures it reads: its own tenant's; None for all."""
        return None if self.admin else self.tenant

    def owns(self, node: str, context: Mapping[str, str]) -> bool:
        """Say whether a decision was made for this caller."""
        return (self.tenant is None or context.get("tenant") == self.tenant) and (
            not self.nodes or node in self.nodes
        )

    def check_node(self, node: str) -> None:
        """Raise PermissionDenied where the key is not for that node."""
        if self.nodes and node not in self.nodes:
            raise PermissionDenied(f"the key is not for node {node[:64]!r}")

    def check_frontier(self) -> None:
        """Raise PermissionDenied where the key is for nodes alone, and not for what belongs to none."""
        if self.nodes:
            raise PermissionDenied(
                "the key is for its nodes alone, and this call belongs to none of them; a chat completion "
                "does by its model, `cascade/<node>`"
            )


ANYONE = Caller()


class Gate:
    """Admits calls.

    Parameters
    ----------
    keys : KeyRing, optional
        Without it anyone may call.
    quotas : Quotas, optional
    """

    def __init__(self, keys: KeyRing | None = None, quotas: Quotas | None = None) -> None:
        self._keys = keys
        self.quotas = quotas

    @property
    def open(self) -> bool:
        """Whether anyone may call."""
        return self._keys is None

    def enter(self, context: Any, verb: str) -> Caller:
        """Say who calls.

        Parameters
        ----------
        context : grpc.aio.ServicerContext, Call or grpc.HandlerCallDetails
        verb : str
            What the call wants to do, of `cascade.security.keys.VERBS`.

        Raises
        ------
        Unauthenticated
            The call has no key, or one that does not hold.
        PermissionDenied
            The key does not allow this.
        """
        if self._keys is None:
            return ANYONE
        found = context.invocation_metadata
        metadata = dict((found() if callable(found) else found) or ())
        value = metadata.get("authorization")
        if value is None:
            raise Unauthenticated("the call has no key; send the metadata `authorization: Bearer <key>`")
        kind, _, token = value.partition(" ") if isinstance(value, str) else ("", "", "")
        key = self._keys.find(token.strip()) if kind.lower() == "bearer" else None
        if key is None:
            raise Unauthenticated("the key is unknown, revoked or has expired")
        if not key.allows(verb):
            raise PermissionDenied(
                f"key {key.id} allows to {', '.join(key.verbs)}; this needs one that allows `{verb}`"
            )
        return Caller(key.tenant, frozenset(key.nodes), key.id, key.allows("admin"))

    def count(self, tenant: str, n: int = 1) -> None:
        """Count n decisions that a tenant asks for; for threads. Raises QuotaExceeded."""
        if self.quotas is not None:
            self.quotas.take(tenant, n)

    def begin_count(self, tenant: str, n: int = 1) -> Future[None] | None:
        """Likewise, for event loops: see `Quotas.begin_take`."""
        return None if self.quotas is None else self.quotas.begin_take(tenant, n)

    async def counted(self, tenant: str, n: int = 1) -> None:
        """Likewise, to be awaited."""
        counted = self.begin_count(tenant, n)
        if counted is not None:
            await asyncio.wrap_future(counted)

    def close(self) -> None:
        """Write what tenants spent, and let go of the shared file."""
        if self.quotas is not None:
            self.quotas.close()


def open_gate(config: Config, base: Path | None = None, keys_kept: LastGood | None = None) -> Gate:
    """Build the gate of a configuration.

    Parameters
    ----------
    config : Config
    base : Path, optional
        What the path of its keys is relative to; by default the configuration's folder.
    keys_kept : LastGood, optional
        See `KeyRing`.

    Raises
    ------
    ConfigError
        The keys file cannot be read.
    """
    base = base or config.base
    keys = KeyRing(base / config.auth.keys, keys_kept) if config.auth else None
    quotas = Quotas(config.tenants, config.state_path / "tenants.state") if config.tenants else None
    return Gate(keys, quotas)


class Queue(Protocol):
    """Something that calls wait in."""

    @property
    def waiting(self) -> int:
        """How many wait."""
        ...

    @property
    def bound(self) -> int:
        """How many may wait."""
        ...

    @property
    def expected_seconds(self) -> float:
        """How long one that comes now will wait; 0 where that is not known."""
        ...


def overloaded(queue: Queue) -> Overloaded:
    """Give the error for a call that would have to wait too long, exact to 0.1 s so that few differ."""
    wait = max(0.1, math.ceil(10 * min(queue.expected_seconds, 60.0)) / 10)
    return Overloaded("too many calls wait already; try again later", retry_after=wait)


class Shedder:
    """Refuses calls while more wait than can be served soon, from those first who ask more than their share.

    Below half of a queue's bound everybody is served. Between that and the bound a tenant is refused while
    it has, of the last second's calls, more than an even share of them all. Above it everybody is refused.

    Parameters
    ----------
    pool : ElasticPool
        The pool whose threads and queue are watched.
    queues : Queue
        Other queues that are watched.
    """

    def __init__(self, pool: ElasticPool, *queues: Queue) -> None:
        self._pool = pool
        self._queues: tuple[Queue, ...] = (pool, *queues)
        # Two for each running thread stay free: at most `threads` calls pass the check before they wait
        # themselves, so that there is always a thread to refuse a call or to answer a health check.
        self._max_lent = max(1, pool.max_threads - 2 * pool.threads)
        self._lock = Lock()
        self._began = time.monotonic()
        self._now: dict[str, int] = {}
        self._before: dict[str, int] = {}

    def admit(self) -> None:
        """Refuse where even a look at the request would be too much. Raises Overloaded."""
        if self._pool.lent > self._max_lent:
            raise Overloaded(f"more than {self._max_lent} calls wait for something slow", retry_after=1.0)

    def admit_holding(self) -> None:
        """Likewise for a call that holds a thread for as long as the teacher takes.

        Such calls get half of the threads, so that the ladder never lacks one for what it settles.
        """
        if self._pool.mostly_lent:
            raise Overloaded("too many calls wait for something slow", retry_after=1.0)

    def admit_tenant(self, tenant: str, n: int = 1) -> None:
        """Count n decisions of a tenant, or refuse them for the sake of others. Raises Overloaded."""
        now = time.monotonic()
        with self._lock:
            if now - self._began >= _WINDOW:
                self._before = self._now if now - self._began < 2 * _WINDOW else {}
                self._now, self._began = {}, now
            # Asked first: mostly there is one tenant, or none.
            if len(self._before.keys() | self._now.keys()) > 1 and any(
                queue.waiting > max(1, queue.bound // 2) for queue in self._queues
            ):
                mine = self._before.get(tenant, 0) + self._now.get(tenant, 0)
                total = sum(self._before.values()) + sum(self._now.values())
                if mine * len(self._before.keys() | self._now.keys()) > total:
                    raise Overloaded("the server is busy, and this tenant asks more than its share")
            if tenant in self._now or len(self._now) < _MAX_TENANTS:
                self._now[tenant] = self._now.get(tenant, 0) + n
