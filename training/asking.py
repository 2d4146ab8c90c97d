"""Asks the chat rungs below the teacher about the training records: they are judged, not trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from cascade.config import Config, NodeConfig
from cascade.contract import Contract
from cascade.errors import ConfigError, RetrainRefused
from cascade.rungs.chat import ChatRung
from cascade.rungs.local_chat import OpenChat
from cascade.rungs.protocol import Batch, Query
from cascade.server.node import local_chats

AT_ONCE = 256
MAX_FAILED = 0.05
"""Share of the answers that may fail; beyond it the record of the rung would be one of its outages."""


def open_chats(config: Config, node: NodeConfig) -> OpenChat:
    """Give an opener of a node's chat rungs below the teacher; each is opened once."""
    settings = local_chats(config, node)
    opened: dict[str, ChatRung] = {}

    def open_chat(rung: str, contract: Contract) -> ChatRung:
        if rung not in settings:
            raise ConfigError(f"no chat rung {rung!r} is in the ladder")
        if rung not in opened:
            opened[rung] = ChatRung(settings[rung], node.prompt, contract)
        return opened[rung]

    return open_chat


def ask_chats(
    rungs: Sequence[tuple[str, str]],
    queries: Sequence[Query],
    labels: Contract,
    open_chat: OpenChat,
    progress: Callable[[str], None] = lambda _: None,
) -> tuple[Mapping[int, NDArray[np.float32]], NDArray[np.float64]]:
    """Ask every chat rung about every record.

    Parameters
    ----------
    rungs : sequence of (name, kind)
        The ladder below the teacher.
    queries : sequence of n Query
    labels : Contract
    open_chat : callable
    progress : callable
        Told how far it is.

    Returns
    -------
    asked : mapping of place in the ladder to float32 array of shape (n, n_labels)
        1 for the label that a rung named; a row of zeros where it named none.
    usd : float array of shape (n_rungs,)
        What one answer cost on average.

    Raises
    ------
    RetrainRefused
        More than `MAX_FAILED` of a rung's answers failed.
    """
    asked: dict[int, NDArray[np.float32]] = {}
    usd = np.zeros(len(rungs))
    index = {label: i for i, label in enumerate(labels.labels)}
    for r, (name, kind) in enumerate(rungs):
        if kind != "chat":
            continue
        chat = open_chat(name, labels)
        scores = np.zeros((len(queries), len(index)), dtype=np.float32)
        failures: list[Exception] = []
        spent = 0.0
        for start in range(0, len(queries), AT_ONCE):
            progress(f"asking {name} ({start:,} of {len(queries):,})")
            found = chat.answer(Batch(queries[start : start + AT_ONCE]))
            for i, answer in enumerate(found.each, start):
                spent += answer.usd
                if answer.error is not None:
                    failures.append(answer.error)
                elif isinstance(answer.value, str) and answer.value in index:
                    scores[i, index[answer.value]] = 1
            if len(failures) > max(MAX_FAILED * len(queries), 3):
                raise RetrainRefused(
                    f"chat rung {name!r} failed for {len(failures)} of {start + len(found.each)} records, "
                    f"the last time: {failures[-1]}. Nothing was changed"
                )
        asked[r] = scores
        usd[r] = spent / max(len(queries), 1)
    return asked, usd
