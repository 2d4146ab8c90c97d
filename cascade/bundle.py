"""Bundles: versioned, immutable, checksummed directories with everything a node's ladder needs.

A bundle is loaded whole or not at all: every file is listed with its SHA-256, nothing else may lie in the
directory, the features and the encoder must be the ones it was trained with, and its models must give the
stored answers to stored golden inputs. No file is a pickle; none is ever unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cascade.acceptor import Acceptor, LabelRecord
from cascade.contract import Contract
from cascade.encoder import Encoder
from cascade.errors import BundleError, CascadeError
from cascade.features import Featurizer
from cascade.fences import Fences
from cascade.first_pass import FILE as FIRST_PASS
from cascade.first_pass import FirstPass
from cascade.golden import check_golden
from cascade.heap import pages_of_its_own
from cascade.ladder import LocalLadder
from cascade.manifest import MANIFEST, content_hash, read_manifest, verify_files
from cascade.policy.guarded_slices import GuardedSlices
from cascade.policy.slices import SliceRules
from cascade.policy.walk import LadderPolicy, LocalRung
from cascade.rungs.encoder import Embed, EncoderHead, EncoderRung
from cascade.rungs.identity import ChatIdentity
from cascade.rungs.linear import LinearRung
from cascade.rungs.local_chat import LocalChatRung, OpenChat
from cascade.rungs.onnx_weights import linear_weights
from cascade.rungs.protocol import Rung
from cascade.scope import ScopeDetector
from cascade.security.signing import verify_signature

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

REFERENCE = "scores.npy"
"""The held-out records' scores that live ones are compared with: see `cascade.policy.exchangeability`."""

OpenEncoder = Callable[[str], tuple[Encoder, Embed]]
"""Gives the encoder of a rung's name, and the function that embeds with it."""


@dataclass(frozen=True)
class Bundle:
    """A loaded bundle.

    Attributes
    ----------
    node, version : str
    contract : Contract
        With labels in the order of the models' outputs.
    ladder : LocalLadder
    policy : LadderPolicy
        Thresholds, and whether a valid certificate covers them.
    manifest : dict
        All that `manifest.json` says.
    reference : float32 array of shape (n_held_out,), optional
        The held-out records' scores in the order of their time, which live scores are compared with; None in
        a bundle that has none.
    fences : Fences
        What keeps it from settling now.
    """

    node: str
    version: str
    contract: Contract
    ladder: LocalLadder
    policy: LadderPolicy
    manifest: dict[str, Any]
    reference: NDArray[np.float32] | None = None
    fences: Fences = field(default_factory=Fences)

    @cached_property
    def guarded_slices(self) -> GuardedSlices:
        """The slices that the certificate proves."""
        return GuardedSlices.from_certificate(self.manifest["certificate"])


@pages_of_its_own()
def load_bundle(
    folder: Path,
    open_encoder: OpenEncoder,
    node: str | None = None,
    open_chat: OpenChat | None = None,
    trusted: Sequence[Ed25519PublicKey] = (),
) -> Bundle:
    """Load a bundle, whole or not at all.

    Parameters
    ----------
    folder : Path
    open_encoder : callable
        Gives the encoder that an `encoder` rung of that name is configured with.
    node : str, optional
        The node the bundle must be for.
    open_chat : callable, optional
        Gives the chat model of a `chat` rung below the teacher.
    trusted : sequence of Ed25519PublicKey
        Where there are any, one of them must have signed the bundle.

    Raises
    ------
    BundleError
        Anything is not as it must be. The message names the file.
    """
    if trusted:
        verify_signature(folder, trusted)
    manifest = read_manifest(folder)
    verify_files(folder, manifest)
    if node is not None and manifest.get("node") != node:
        raise BundleError(MANIFEST, f"the bundle is for node {manifest.get('node')!r}, not {node!r}")
    kept = _kept.get((str(folder), content_hash(manifest), id(open_encoder)))
    if kept is not None:
        return kept
    try:
        ladder, contract, policy = assemble(folder, manifest, open_encoder, open_chat)
        check_golden(json.loads((folder / "golden.json").read_text("utf-8")), ladder, manifest)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise BundleError(MANIFEST, f"it does not describe a bundle: {error!r}") from error
    except BundleError:
        raise
    except CascadeError as error:
        raise BundleError(MANIFEST, str(error)) from error
    scores = folder / REFERENCE
    reference = load_array(scores) if scores.exists() else None
    return Bundle(manifest["node"], manifest["version"], contract, ladder, policy, manifest, reference)


_kept: dict[tuple[str, str, int], Bundle] = {}


def forget_kept() -> set[str]:
    """Let go of all bundles that were kept, before others are; give the nodes that they are of."""
    nodes = {bundle.node for bundle in _kept.values()}
    _kept.clear()
    return nodes


def keep_bundle(folder: Path, open_encoder: OpenEncoder, node: str) -> None:
    """Load a bundle for those who ask for it later with the same `open_encoder`, forked processes above all.

    Raises
    ------
    BundleError
        See `load_bundle`.
    """
    bundle = load_bundle(folder, open_encoder, node)
    _kept[str(folder), content_hash(bundle.manifest), id(open_encoder)] = bundle


def assemble(
    folder: Path, manifest: dict[str, Any], open_encoder: OpenEncoder, open_chat: OpenChat | None = None
) -> tuple[LocalLadder, Contract, LadderPolicy]:
    """Build the ladder that a directory's files and a manifest describe, without any checks of trust.

    Raises
    ------
    BundleError
        The features or the encoder are not those of the manifest, or a file is not what it should be.
    """
    contract = Contract.from_json(manifest["contract"])
    featurizer = Featurizer.load(folder / "features.npy")
    if featurizer.fingerprint != manifest["features"]:
        raise BundleError(
            "features.npy", "this Cascade computes other features than the bundle was trained on; retrain"
        )
    hardness = load_array(folder / "hardness.npy")
    labels = load_array(folder / "labels.npy")
    rungs: list[Rung] = []
    for entry in manifest["rungs"]:
        if entry["kind"] == "linear":
            rungs.append(LinearRung(entry["name"], contract.labels))
            continue
        if entry["kind"] == "chat":
            rungs.append(_chat_rung(entry, contract, open_chat))
            continue
        encoder, embed = open_encoder(entry["name"])
        if encoder.fingerprint != entry["encoder"]:
            raise BundleError(
                MANIFEST,
                f"rung {entry['name']!r} was trained with another encoder than {encoder.description.name}",
            )
        rungs.append(EncoderRung(entry["name"], embed, EncoderHead(folder / "head.onnx"), contract.labels))
    if labels.shape != (1 + len(rungs), len(contract.labels)) or hardness.shape != (
        featurizer.n_columns,
        len(rungs),
    ):
        raise BundleError("labels.npy", "its shape does not fit the manifest")
    trees_weight = manifest.get("acceptor", {}).get("trees_weight", ())
    linear_at = next((r for r, rung in enumerate(rungs) if isinstance(rung, LinearRung)), None)
    first = FirstPass(
        folder / FIRST_PASS,
        featurizer,
        hardness,
        _linear_weights(folder / "linear.onnx"),
        trees_weight[linear_at] if trees_weight and linear_at is not None else 1.0,
    )
    acceptor = Acceptor(folder / "acceptor.onnx", LabelRecord(labels[0], labels[1:]), trees_weight)
    ladder = LocalLadder(rungs, first, acceptor, _scope(manifest, len(rungs)))
    policy = LadderPolicy(
        tuple(
            LocalRung(
                e["name"],
                float(e["threshold"]),
                float(e["skip_below"]),
                float(e.get("in_scope_at_least", 0.0)),
            )
            for e in manifest["rungs"]
        ),
        certified=bool(manifest["certificate"]["valid"]),
        too_dear=str(manifest.get("economy", {}).get("too_dear", "")),
        agreement=bool(manifest.get("agreement", False)),
        slices=SliceRules.from_manifest(manifest["certificate"]),
    )
    return ladder, contract, policy


def _chat_rung(entry: dict[str, Any], contract: Contract, open_chat: OpenChat | None) -> LocalChatRung:
    name = entry["name"]
    if open_chat is None:
        raise BundleError(MANIFEST, f"rung {name!r} is a chat model, and there is none of that name here")
    chat = open_chat(name, contract)
    if chat.identity != ChatIdentity(entry["model"], entry["prompt"]):
        raise BundleError(
            MANIFEST,
            f"chat rung {name!r} now has another model or prompt than it was certified with; retrain",
        )
    return LocalChatRung(name, chat, contract.labels)


def _scope(manifest: dict[str, Any], n_rungs: int) -> ScopeDetector | None:
    """Give the out-of-scope detector; None where the node is not prepared for such traffic."""
    stored = manifest.get("scope")
    if not stored:
        return None
    detector = ScopeDetector.from_json(stored["rungs"])
    if len(detector.weights) != n_rungs:
        raise BundleError(MANIFEST, "its out-of-scope detector is for another number of rungs")
    return detector


def _linear_weights(path: Path) -> NDArray[np.float32]:
    found = linear_weights(path)
    if found is None:
        raise BundleError(path.name, "the file is missing, or not a linear model as retraining writes it")
    return found[0]


def load_array(path: Path) -> NDArray[np.float32]:
    """Read a `.npy` file; never unpickles."""
    try:
        array: NDArray[np.float32] = np.load(path, allow_pickle=False).astype(np.float32)
    except Exception as error:  # numpy raises many kinds: of an empty file, an archive, a header, sizes
        raise BundleError(path.name, f"not an array: {error}") from error
    return array
