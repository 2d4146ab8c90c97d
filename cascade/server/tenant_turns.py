"""A queue in which tenants take turns: who puts much in waits behind its own."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class TenantTurns(Generic[T]):
    """Gives one of each tenant's in turn, and each tenant's in the order in which they came.

    That is deficit round robin where all cost the same (Shreedhar and Varghese 1996). Not for several threads
    at a time, but for `len`.

    Examples
    --------
    >>> queue = TenantTurns[str]()
    >>> for key, name in enumerate(("a1", "a2", "a3", "b1")):
    ...     queue.put(key, name[0], name)
    >>> [queue.take() for _ in range(len(queue))]
    [(0, 'a1'), (3, 'b1'), (1, 'a2'), (2, 'a3')]
    """

    def __init__(self) -> None:
        self._tenant_of: dict[int, str] = {}
        self._waiting: OrderedDict[str, OrderedDict[int, T]] = OrderedDict()  # the next tenant first

    def __len__(self) -> int:
        return len(self._tenant_of)

    def __iter__(self) -> Iterator[T]:
        """Go through what waits, tenant by tenant."""
        return (item for items in self._waiting.values() for item in items.values())

    @property
    def tenants(self) -> int:
        """Of how many tenants something waits."""
        return len(self._waiting)

    def of(self, tenant: str) -> int:
        """Say how much waits of a tenant's."""
        return len(self._waiting.get(tenant, ()))

    def put(self, key: int, tenant: str, item: T) -> None:
        """Put something in, by a key that nothing in here has."""
        self._tenant_of[key] = tenant
        items = self._waiting.get(tenant)
        if items is None:
            items = self._waiting[tenant] = OrderedDict()
        items[key] = item

    def take(self) -> tuple[int, T]:
        """Take out what is next. Raises StopIteration where nothing waits."""
        tenant, items = next(iter(self._waiting.items()))
        key, item = items.popitem(last=False)
        del self._tenant_of[key]
        if not items:
            del self._waiting[tenant]
        elif len(self._waiting) > 1:
            self._waiting.move_to_end(tenant)
        return key, item

    def discard(self, key: int) -> bool:
        """Take something out before its turn; False where it is not in here."""
        tenant = self._tenant_of.pop(key, None)
        if tenant is None:
            return False
        items = self._waiting[tenant]
        del items[key]
        if not items:
            del self._waiting[tenant]
        return True

    def clear(self) -> None:
        """Take everything out."""
        self._tenant_of.clear()
        self._waiting.clear()
