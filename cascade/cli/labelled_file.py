"""A file of labelled records, in whichever format, into a store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cascade.config import Config
    from cascade.traffic import ImportCount, TrafficStore
    from cascade.traffic.logs.reading import Format


def load_file(
    store: TrafficStore,
    config: Config,
    node: str,
    file: Path,
    kind: Format,
    requests: Path | None = None,
    skip_bad: bool = False,
    replace: bool = False,
) -> ImportCount:
    """Load what a file says of a node, whole or not at all, as its contract and its prompt have it.

    Raises
    ------
    TrafficFileError, InvalidInput, StoreError
        See `cascade.traffic.import_file`. Nothing was loaded.
    """
    from cascade.contract import Contract
    from cascade.gateway.imported import import_log
    from cascade.gateway.question import frame_of
    from cascade.traffic import import_file

    settings = config.nodes[node]
    contract = settings.contract.load(config.base)
    if kind == "jsonl":
        check = contract.check if contract else None
        return import_file(store, node, file, skip_bad, check, replace=replace)
    rule, frame = contract or Contract(open_labels=True), frame_of(settings.prompt)
    return import_log(store, node, file, kind, rule, frame, requests, skip_bad, replace)
