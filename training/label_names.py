"""Label names as records: where there are few records a label, its name says what it is about.

Whether they help is decided out of fold, as all else is; names such as `A1` say nothing and lose.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from training.opinions import EncoderFit
from training.tried import describe, keep

RECORDS_A_LABEL = 30
"""Names are tried where a label has fewer records than this on average."""

VARIANT, WITHOUT = "with the labels' names as records", "without the labels' names"


def readable(label: str) -> str:
    """Give a label's name as words.

    Examples
    --------
    >>> readable("card_arrival"), readable("getRefundStatus"), readable("book-a-table.v2")
    ('card arrival', 'get refund status', 'book a table v2')
    """
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", label)
    return " ".join(re.split(r"[\W_]+", apart)).strip().lower() or label


def worth_trying(n: int, labels: Sequence[str]) -> bool:
    """Say whether so few records of these labels are there that their names may help."""
    return n < RECORDS_A_LABEL * len(labels)


def better_of(without: EncoderFit, named: EncoderFit, y: NDArray[np.int64], bar: float) -> EncoderFit:
    """Give the fit of less out-of-fold log loss, which then says what both did.

    Parameters
    ----------
    without, named : EncoderFit
        Fitted on the records alone, and on the labels' names as well.
    y : int array of shape (n,)
    bar : float
        For `Tried.settled`.
    """
    both = [
        describe("encoder", variant, fit.probabilities, y, bar)
        for variant, fit in ((WITHOUT, without), (VARIANT, named))
    ]
    losses = [line.log_loss if line.log_loss is not None else np.inf for line in both]
    won = int(losses[1] < losses[0])
    chosen = (without, named)[won]
    return replace(chosen, tried=[*chosen.tried, *keep(both, [both[won].variant])])
