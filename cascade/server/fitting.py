"""Whether a bundle fits a node: what its certificate proves is what the configuration demands."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from cascade.bundle import Bundle, OpenEncoder, load_bundle
from cascade.errors import BundleError
from cascade.fences import TEACHER, VALIDATORS, teacher_fence
from cascade.rollout.shelf import refuse_outside
from cascade.validators import validators_fence

if TYPE_CHECKING:
    from cascade.server.node import Node

_log = logging.getLogger(__name__)


def load_fitting(node: Node, models: Path, open_encoder: OpenEncoder, version: str) -> Bundle:
    """Load a bundle of a node, and check that it proves what the configuration demands.

    Raises
    ------
    BundleError, ConfigError
        It is refused.
    """
    refuse_outside(version)
    bundle = load_bundle(models / node.name / version, open_encoder, node.name, node.open_chat, node.trusted)
    _check(bundle, node)
    return bundle


def _check(bundle: Bundle, node: Node) -> None:
    """Check that a bundle proves what the configuration demands.

    It is fenced off where its teacher, or a validator that it was certified with, changed.

    Raises
    ------
    BundleError
        Its rungs, labels, bar or redaction are not the configured ones.
    """
    names = tuple(rung.name for rung in bundle.policy.rungs)
    if names != tuple(r for r in node.local_rungs if r in names) or not names:
        raise BundleError(
            "manifest.json",
            f"its rungs {list(names)} are not of the ladder {list(node.config.ladder)}; retrain",
        )
    if node.contract.labels and not set(bundle.contract.labels) <= set(node.contract.labels):
        extra = sorted(set(bundle.contract.labels) - set(node.contract.labels))
        raise BundleError("manifest.json", f"its labels {extra[:5]} are not in the contract; retrain")
    trained_on = bundle.manifest.get("redaction")
    if trained_on != node.redaction:
        raise BundleError(
            "manifest.json",
            f"it learned from texts redacted otherwise ({trained_on or 'not recorded'}) than this "
            f"configuration redacts them ({node.redaction}); retrain",
        )
    certificate: Mapping[str, float] = bundle.manifest["certificate"]
    bar = node.config.bar
    if certificate["bar"] < bar.agreement or 1 - certificate["delta"] < bar.confidence - 1e-9:
        raise BundleError(
            "manifest.json",
            f"it is certified for an agreement of {certificate['bar']} at confidence "
            f"{1 - certificate['delta']:g}; the node's bar is {bar.agreement} at {bar.confidence}; retrain",
        )
    for about, changed in (
        (TEACHER, teacher_fence(bundle.manifest["certificate"], node.teacher_named)),
        (VALIDATORS, validators_fence(bundle.manifest.get("validators", ()), node.validators)),
    ):
        bundle.fences.set(about, changed)
        if changed:
            _log.warning("node %s: bundle %s settles nothing: %s", node.name, bundle.version, changed)
