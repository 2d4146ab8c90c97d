"""A node's local rungs: which its configuration names, their encoders, and fitting them on its records."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.bundle import OpenEncoder
from cascade.config import Config, EncoderRungConfig, NodeConfig
from cascade.contract import Contract
from cascade.errors import ConfigError
from cascade.rungs.local_chat import OpenChat
from training.curate import Curated
from training.fit import FitSettings, FittedLadder, Progress, fit_ladder
from training.label_names import readable, worth_trying
from training.tried import Budget


def fit(
    curated: Curated,
    train: NDArray[np.int64],
    rungs: Sequence[tuple[str, str]],
    open_encoder: OpenEncoder,
    settings: FitSettings,
    progress: Progress = lambda _: None,
    asked: Mapping[int, NDArray[np.float32]] | None = None,
    budget: Budget | None = None,
) -> FittedLadder:
    """Embed the training records where an encoder rung wants it, and fit the ladder.

    Parameters
    ----------
    train : int array
        Indices of the training records.
    asked : mapping, optional
        What the chat rungs said of them, from `training.asking.ask_chats`.
    budget : Budget, optional
        How long more variants than the short list may be tried.
    """
    texts = [curated.records[i].text for i in train]
    embedding, names = None, None
    for rung, kind in rungs:
        if kind == "encoder":
            progress("embedding")
            encoder = open_encoder(rung)[0]
            embedding = encoder(texts)
            # the out-of-scope detector is fitted without whole labels, and would have to forget their names
            if not settings.scope and worth_trying(len(texts), curated.labels):
                names = encoder([readable(label) for label in curated.labels])
    groups = np.unique(curated.groups[train], return_inverse=True)[1].astype(np.int64)
    kinds = [kind for _, kind in rungs]
    return fit_ladder(
        texts, curated.y[train], groups, len(curated.labels), kinds, embedding, settings, progress, asked,
        budget, names,
    )  # fmt: skip


def rung_entries(
    rungs: Sequence[tuple[str, str]],
    open_encoder: OpenEncoder,
    open_chat: OpenChat | None = None,
    labels: Contract | None = None,
) -> list[dict[str, Any]]:
    """Give the manifest's entries of the rungs, settling nothing yet."""
    return [
        {"name": rung, "kind": kind, "threshold": 2.0, "skip_below": 0.0}
        | ({"encoder": open_encoder(rung)[0].fingerprint} if kind == "encoder" else {})
        | (open_chat(rung, labels).identity.to_json() if kind == "chat" and open_chat and labels else {})
        for rung, kind in rungs
    ]


def local_rungs(name: str, config: Config, node: NodeConfig) -> list[tuple[str, str]]:
    """Give (name, kind) of each rung below the teacher, cheapest first.

    Raises
    ------
    ConfigError
        None of them is trained, or two of the same kind are.
    """
    rungs = [(rung, str(config.rungs[rung].kind)) for rung in node.ladder[:-1]]
    kinds = [kind for _, kind in rungs if kind != "chat"]
    if not kinds:
        raise ConfigError(
            f"nodes.{name}.ladder: there is no local rung to train: add linear or encoder before the teacher"
        )
    if len(set(kinds)) != len(kinds):
        raise ConfigError(
            f"nodes.{name}.ladder: at most one rung of each kind linear and encoder can be trained"
        )
    return rungs


def encoders_of(config: Config) -> Callable[[str], tuple[Any, Any]]:
    """Give an opener of the configured encoders that uses all cores for embedding in bulk."""
    from cascade.encoder import find_encoder
    from training.embedding import ParallelEncoder

    opened: dict[str, tuple[Any, Any]] = {}

    def open_encoder(rung: str) -> tuple[Any, Any]:
        if rung not in opened:
            found = config.rungs[rung]
            assert isinstance(found, EncoderRungConfig)
            folder = find_encoder(found.model, config.models_path, config.base)
            encoder = ParallelEncoder(folder, found.precision, found.max_tokens, found.providers)
            opened[rung] = (encoder, encoder)
        return opened[rung]

    return open_encoder
