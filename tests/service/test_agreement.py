"""Agreement of the rungs, as certified and as served."""

from dataclasses import replace
from typing import Any

import pytest

from cascade.ask import Ask
from cascade.bundle import load_bundle
from cascade.config import Config
from cascade.contract import Contract
from cascade.server.latency import LatencyRecord
from cascade.server.local import walk_local
from cascade.server.node import Encoders
from tests.conftest import NODE


@pytest.mark.parametrize("on", [False, True])
def test_with_agreement_on_the_encoder_settles_only_what_the_linear_rung_said_too(
    models: Any, configure: Any, unseen: list[dict[str, Any]], shipped: Any, on: bool
) -> None:
    config: Config = configure()
    bundle = load_bundle(models / NODE / shipped.name, Encoders(config), NODE)
    # the linear rung never settles, so that every answer that does is the encoder's
    rungs = (replace(bundle.policy.rungs[0], threshold=2.0), replace(bundle.policy.rungs[1], threshold=0.0))
    bundle = replace(bundle, policy=replace(bundle.policy, rungs=rungs, agreement=on))
    latency = {rung.name: LatencyRecord() for rung in bundle.policy.rungs}
    asks = [Ask(NODE, record["text"]) for record in unseen[:150]]
    walks = walk_local(asks, bundle, Contract(open_labels=True), (), latency)
    said = [(*w.answers, w.output) if w.rung else w.answers for w in walks]
    disputed = [w for w, each in zip(walks, said, strict=True) if len(each) == 2 and each[0] != each[1]]
    assert disputed
    stopped = [w for w in disputed if w.attempts[-1].reason.startswith("validator: agreement")]
    assert (len(stopped) == 0) is not on
    assert all(bool(w.rung) is not on for w in disputed if w.attempts[-1].reason == "" or w in stopped)
