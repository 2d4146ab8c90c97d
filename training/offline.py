"""Opens a node's bundle for replays and reports: as it is served, but nobody outside is asked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from cascade.bundle import Bundle, load_bundle
from cascade.config import Config
from cascade.contract import Contract
from cascade.errors import BundleError, RungError
from cascade.manifest import read_manifest
from cascade.pointer import serving_version
from cascade.rungs.chat import ChatRung
from cascade.rungs.identity import ChatIdentity
from cascade.rungs.protocol import Answer, Answers, Batch
from cascade.validators import Validator, import_validators
from training.node_rungs import encoders_of
from training.write_bundle import versions


@dataclass(frozen=True)
class OfflineNode:
    """A node as it would serve, with its bundle.

    Attributes
    ----------
    name : str
    folder : Path
        Of the bundle.
    bundle : Bundle
    contract : Contract
        The node's; open where labels come from traffic.
    validators : tuple of Validator
    """

    name: str
    folder: Path
    bundle: Bundle
    contract: Contract
    validators: tuple[Validator, ...]


class SilentChat:
    """Stands for a chat rung that is not asked: every answer is an error that says so."""

    def __init__(self, name: str, identity: ChatIdentity) -> None:
        self.name = name
        self.identity = identity

    def answer(self, batch: Batch) -> Answers:
        """Fail for every query."""
        return Answers([Answer(error=RungError(f"{self.name} is not asked offline")) for _ in batch.queries])


def default_version(config: Config, name: str) -> str | None:
    """Name the version that is looked at where nobody names one: what serves, else the newest."""
    return serving_version(config.models_path, name) or max(versions(config.models_path, name), default=None)


def open_node(config: Config, name: str, version: str | None = None) -> OfflineNode:
    """Open a bundle of a node.

    Parameters
    ----------
    version : str, optional
        By default the one that `default_version` names.

    Raises
    ------
    BundleError
        There is none, or it cannot be loaded.
    """
    wanted = version or default_version(config, name)
    known = versions(config.models_path, name)
    if wanted is None:
        raise BundleError(name, f"the node has no bundle yet; run `cascade retrain {name}`")
    if wanted not in known:
        raise BundleError(wanted, f"node {name} has no such bundle; it has: {', '.join(known) or 'none'}")
    folder = config.models_path / name / wanted
    entries = {entry.get("name"): entry for entry in read_manifest(folder).get("rungs", ())}

    def silent(rung: str, contract: Contract) -> ChatRung:
        entry: dict[str, Any] = entries[rung]
        chat = SilentChat(rung, ChatIdentity(entry["model"], entry["prompt"]))
        return cast(ChatRung, chat)

    bundle = load_bundle(folder, encoders_of(config), name, silent)
    node = config.nodes[name]
    contract = node.contract.load(config.base) or Contract(open_labels=True)
    return OfflineNode(name, folder, bundle, contract, import_validators(name, node.validators))
