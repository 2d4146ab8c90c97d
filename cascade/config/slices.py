"""`slices`: which parts of a node's traffic have a certificate line of their own, and what it asks."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Strict

from cascade.config import values
from cascade.config.section import Section
from cascade.policy.slices import LABEL

Require = Literal["not-refuted", "proven"]


def _distinct_keys(keys: tuple[str, ...]) -> tuple[str, ...]:
    for key in keys:
        if key == LABEL:
            raise values.wrong("label is always a slice; list keys of the context only")
        if keys.count(key) > 1:
            raise values.wrong(f"{key!r} is listed twice")
    return keys


def _short_form(value: Any) -> Any:
    """Take `slices: [tenant, language]` for `slices: {context: [tenant, language]}`."""
    return {"context": value} if isinstance(value, list) else value


class SlicesConfig(Section):
    """`slices`: keys of the context to slice by (labels always are), and what a slice must show.

    `require: not-refuted` settles a slice under the node's certificate as long as nothing speaks against it;
    `require: proven` settles only slices with a proof of their own. `bar` is the agreement asked of a single
    slice, by default the node's.
    """

    context: Annotated[tuple[values.Text, ...], Strict(False), AfterValidator(_distinct_keys)] = ()
    require: Require = "not-refuted"
    bar: values.Proportion | None = None


Slices = Annotated[SlicesConfig, BeforeValidator(_short_form)]
