"""What callers reported wrong of what a bundle settled: in blocks, as the guard takes it.

A bundle settles millions of answers in its life, and each process follows all of them. So what is held is
the ends of each block, and the few answers that were called wrong.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right

from cascade.policy.guard import ReportedBlock
from cascade.rollout.store import RolloutStore

BLOCK = 500
_PAGE = 5_000


class Reported:
    """Follows the reports on one bundle.

    Parameters
    ----------
    store : RolloutStore
    node, version : str
    after : int
        The place of the last decision of before the bundle's life.
    """

    def __init__(self, store: RolloutStore, node: str, version: str, after: int) -> None:
        self._store, self._node, self._version = store, node, version
        self._after = self._last = after
        self._reports_after = 0
        self._wrong: set[int] = set()
        self._firsts, self._lasts = array("q"), array("q")  # of the blocks that are full
        self._begun: list[int] = []  # the block that is not

    def blocks(self, most: int) -> list[ReportedBlock]:
        """Cut what the bundle settled into blocks; none where nothing is reported wrong.

        Parameters
        ----------
        most : int
            Reports that are read at once.

        Raises
        ------
        StoreError
        """
        for seq, decision, right in self._store.reports(self._node, self._version, self._reports_after, most):
            self._reports_after = seq
            if right:
                self._wrong.discard(decision)
            elif decision > self._after:
                self._wrong.add(decision)
        if not self._wrong:
            return []
        self._read_settled()
        wrong = sorted(self._wrong)

        def block(settled: int, first: int, last: int) -> ReportedBlock:
            n = bisect_right(wrong, last) - bisect_right(wrong, first - 1)
            return ReportedBlock(settled, min(n, settled))

        ends = zip(self._firsts, self._lasts, strict=True)
        blocks = [block(BLOCK, first, last) for first, last in ends]
        if self._begun:
            blocks.append(block(len(self._begun), self._begun[0], self._begun[-1]))
        return blocks

    def _read_settled(self) -> None:
        _, end = self._store.marks()
        while True:
            more = self._store.settled(self._node, self._version, self._last, _PAGE)
            if not more:
                # Else a node that rests beside busy ones would go through what they decide again each time.
                self._last = max(self._last, end)
                return
            self._last = more[-1]
            self._begun += more
            while len(self._begun) >= BLOCK:
                self._firsts.append(self._begun[0])
                self._lasts.append(self._begun[BLOCK - 1])
                del self._begun[:BLOCK]
            if len(more) < _PAGE:
                return
