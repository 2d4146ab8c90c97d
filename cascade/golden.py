"""Golden inputs: texts that a bundle holds with what its models said of them, asked again when it is loaded.

So a bundle whose files fit each other but not what was certified, or a machine on which its models compute
something else, is found before anybody is answered by it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cascade.errors import BundleError
from cascade.first_pass import FILE as FIRST_PASS
from cascade.first_pass import MANY, MANY_FILE
from cascade.ladder import LocalLadder
from cascade.tree_sums import FILE as TREES

GOLDEN_TOLERANCE = {"linear": 1e-4, "trees": 1e-4, "encoder": 0.05}
"""Largest difference of a probability on golden inputs. The encoder's int8 rounding differs a little
between kinds of CPU."""


def golden_answers(texts: list[str], ladder: LocalLadder) -> dict[str, Any]:
    """Give what a ladder says about golden texts, as `golden.json` stores it."""
    seen = ladder.run_all(texts, with_chat=False)
    return {
        "texts": texts,
        "answer": seen["answer"].tolist(),
        **{
            name: np.round(seen[name].astype(np.float64), 6).tolist()
            for name in ("p_right", "p_top", "confidence")
        },
    }


def check_golden(golden: dict[str, Any], ladder: LocalLadder, manifest: dict[str, Any]) -> None:
    """Compare a ladder's answers to golden texts with the stored ones.

    Raises
    ------
    BundleError
        They differ by more than `GOLDEN_TOLERANCE`.
    """
    seen = ladder.run_all(golden["texts"], with_chat=False)
    kinds = [entry["kind"] for entry in manifest["rungs"]]
    files = {"p_right": FIRST_PASS, "p_top": "linear.onnx", "confidence": "acceptor.onnx"}
    for name, file in files.items():
        expected = np.array(golden[name])
        for r, kind in enumerate(kinds):
            if kind == "chat":
                continue
            tolerance = GOLDEN_TOLERANCE["trees" if name != "p_top" else kind]
            if kind == "encoder" and name == "confidence":
                tolerance = GOLDEN_TOLERANCE["encoder"]
            differences = np.abs(seen[name][:, r] - expected[:, r])
            # int8 rounding on another kind of CPU can push one answer over a tree's split: most must agree
            gap = float(np.quantile(differences, 0.75) if kind == "encoder" else differences.max())
            if not gap <= tolerance:  # nor is what is no number at all
                where = "head.onnx" if kind == "encoder" and name == "p_top" else file
                raise BundleError(
                    where, f"on golden inputs {name} differs by {gap:.2g} (at most {tolerance:g})"
                )
    _check_many(golden["texts"], ladder)


def _check_many(texts: list[str], ladder: LocalLadder) -> None:
    """Compare what the first pass says of few texts with what it says of many, which other files say."""
    few = ladder.first(texts)
    try:
        many = ladder.first(texts * -(-MANY // len(texts)))[: len(texts)]
    except Exception as error:  # onnxruntime raises many kinds, none of them exported
        raise BundleError(MANY_FILE, f"it cannot be run on many texts: {str(error)[:300]}") from error
    for name in ("p_right", "linear", "confidence"):
        gap = float(np.abs(getattr(many, name) - getattr(few, name)).max())
        if not gap <= GOLDEN_TOLERANCE["trees"]:  # nor is what is no number at all
            raise BundleError(
                TREES if name != "linear" else MANY_FILE,
                f"of many golden inputs at once {name} differs by {gap:.2g} from that of few",
            )
