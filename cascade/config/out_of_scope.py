"""The `out_of_scope` section of a node."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from cascade.config.section import Section


class OutOfScopeConfig(Section):
    """`out_of_scope`: how much traffic that no label fits the node is to be prepared for.

    Attributes
    ----------
    share : float
        Share of the requests, in [0, 0.9]. Retraining chooses its limits so that the bar would still hold,
        were so many requests out of scope and every one of them that settles counted as wrong. More
        settles less. 0, the default, switches the detector off: the certificate speaks about traffic like
        the records.
    """

    share: Annotated[float, Field(ge=0, le=0.9)] = 0.0
