"""`exchangeability`: when a certificate is void because traffic is unlike what it was proven on."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from cascade.config.section import Section


class ExchangeabilityConfig(Section):
    """`exchangeability`: the chance of a false alarm of each test, and when live traffic is looked at.

    `level` holds for the test at each retraining, and for that of live traffic while a service runs; 0
    reports both and voids nothing more. `every_seconds` is how often new live traffic is read.
    """

    level: Annotated[float, Field(ge=0, le=0.2)] = 0.01
    every_seconds: Annotated[float, Field(gt=0, le=86_400)] = 30.0
