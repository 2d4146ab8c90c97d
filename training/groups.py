"""One record for each group: near copies and the records of a session are not independent of each other.

An exact binomial test, or one of two distributions, takes each record for a draw of its own. Of ten near
copies that are all right or all wrong it would count ten draws where there was one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def one_a_group(
    at: NDArray[np.int64], groups: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draw one record of each group.

    Parameters
    ----------
    at : int array
        Indices of the records to draw from.
    groups : int array
        The group of each record that an index can name.
    rng : Generator
        Which of a group stands for it hangs on nothing else.

    Returns
    -------
    int array
        In the order of the groups' numbers.
    """
    order = rng.permutation(at)
    drawn: NDArray[np.int64] = order[np.unique(groups[order], return_index=True)[1]]
    return drawn
