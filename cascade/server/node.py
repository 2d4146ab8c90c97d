"""A node as the server holds it: its contract, its teacher, its validators and the bundle it serves."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cascade.bundle import Bundle, OpenEncoder
from cascade.config import ChatRungConfig, Config, EncoderRungConfig, NodeConfig
from cascade.contract import Contract
from cascade.encoder import Encoder, find_encoder
from cascade.errors import BundleError, ConfigError
from cascade.fences import Teacher, teacher_of
from cascade.flags import Flags
from cascade.pointer import POINTER, serving_version
from cascade.redaction import OFF, Redactor, open_redactor
from cascade.rollout.serving import Serving
from cascade.rollout.shelf import Shelf
from cascade.rollout.state import NodeRollout
from cascade.rungs.chat import ChatRung
from cascade.rungs.chat_settings import ChatSettings
from cascade.rungs.combining import Combining
from cascade.rungs.encoder import Embed
from cascade.rungs.linear import LinearRung
from cascade.rungs.local_chat import LocalChatRung
from cascade.security.signing import read_public_key
from cascade.server.fitting import load_fitting
from cascade.server.latency import LatencyRecord, records
from cascade.server.quotas import Quotas
from cascade.server.teacher_queue import TeacherQueue
from cascade.validators import Validator, import_validators

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

_log = logging.getLogger(__name__)


@dataclass
class Node:
    """One node.

    Attributes
    ----------
    name : str
    config : NodeConfig
    contract : Contract
        What an answer must satisfy; open where labels come from traffic.
    teacher : ChatRung
    teacher_named : Teacher
        Which teacher that is, by model, prompt and contract: what a certificate must name.
    validators : tuple of Validator
    problem : str
        Why the version that should be served is not; empty where all is well.
    latency : dict of str to LatencyRecord
        One a rung, the teacher included.
    chats : mapping of str to ChatSettings
        The chat rungs below the teacher.
    quotas : Quotas, optional
        What tenants may spend on the teacher.
    trusted : tuple of public keys
        One of them must have signed a bundle that is served; empty where none needs a signature.
    serving : Serving
        Which mode and which bundle a request gets.
    teacher_queue : TeacherQueue
        Who waits for the teacher.
    redactor : Redactor, optional
        What rungs below the teacher read went through it; None where redaction is off.
    redaction : str
        The fingerprint of the configured redaction.
    pointed : str
        The version that the pointer names; empty for none.
    """

    name: str
    config: NodeConfig
    contract: Contract
    teacher: ChatRung
    teacher_named: Teacher
    validators: tuple[Validator, ...] = ()
    problem: str = ""
    latency: dict[str, LatencyRecord] = field(default_factory=dict)
    chats: Mapping[str, ChatSettings] = field(default_factory=dict)
    quotas: Quotas | None = None
    trusted: tuple[Ed25519PublicKey, ...] = ()
    redactor: Redactor | None = None
    redaction: str = OFF
    pointed: str = ""
    serving: Serving = field(init=False)
    teacher_queue: TeacherQueue = field(init=False)
    _alone: tuple[Mapping[str, Bundle] | None, bool] = field(default=(None, False), init=False, repr=False)

    def __post_init__(self) -> None:
        asked = self.teacher.settings
        self.teacher_queue = TeacherQueue(self.name, asked.max_concurrency, asked.timeout_seconds)

    @property
    def bundle(self) -> Bundle | None:
        """What serves whoever is not on a candidate; None where the teacher answers."""
        return self.serving.stable

    @property
    def missing(self) -> str:
        """The version that should serve where none does: refused, or rolled back with none before it."""
        return "" if self.bundle else self.serving.plan.stable or self.pointed

    @property
    def trouble(self) -> str:
        """What a person should know: why a version is not served, or why the one that is settles nothing."""
        fenced = self.bundle.fences.reason if self.bundle else ""
        settles_not = (
            f"bundle {self.bundle.version} settles nothing: {fenced}" if self.bundle and fenced else ""
        )
        return "; ".join(text for text in (self.problem, settles_not) if text)

    @property
    def alone(self) -> bool:
        """Whether a question's first step may take long, or any may hang, see `Engine.alone`.

        Asked of all bundles in memory: which of them serves the question is not known yet.
        """
        bundles = self.serving.bundles
        if self._alone[0] is not bundles:  # replaced whole whenever one comes or goes
            self._alone = (bundles, any(map(_may_last, bundles.values())))
        return self._alone[1] or bool(self.validators)

    def open_chat(self, rung: str, contract: Contract) -> ChatRung:
        """Give the chat model of a rung below the teacher.

        Raises
        ------
        BundleError
            The ladder has no such rung.
        ConfigError
            Its key is missing from the environment.
        """
        if rung not in self.chats:
            raise BundleError("manifest.json", f"its chat rung {rung!r} is not in the node's ladder; retrain")
        return ChatRung(self.chats[rung], self.config.prompt, contract)

    @property
    def local_rungs(self) -> tuple[str, ...]:
        """Names of the rungs below the teacher."""
        return self.config.ladder[:-1]


def _may_last(bundle: Bundle) -> bool:
    """Say whether a bundle's ladder begins with a slow rung, or has one that may hang."""
    rungs = bundle.ladder.rungs
    return not isinstance(rungs[0], LinearRung) or any(isinstance(rung, LocalChatRung) for rung in rungs)


class Encoders:
    """Opens each configured encoder once, however many nodes and bundles use it."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._opened: dict[str, tuple[Encoder, Embed]] = {}

    def __call__(self, rung: str) -> tuple[Encoder, Embed]:
        """Give the encoder of a rung's name.

        Raises
        ------
        ConfigError
            No such rung is an encoder, or its folder is not found.
        """
        if rung not in self._opened:
            found = self._config.rungs.get(rung)
            if not isinstance(found, EncoderRungConfig):
                raise ConfigError(f"no rung named {rung!r} of kind encoder is configured")
            folder = find_encoder(found.model, self._config.models_path, self._config.base)
            encoder = Encoder(folder, found.precision, found.max_tokens, found.providers)
            self._opened[rung] = (encoder, Combining(encoder))
        return self._opened[rung]


def build_nodes(
    config: Config,
    flags: Flags,
    open_encoder: OpenEncoder,
    quotas: Quotas | None = None,
    redactor: Redactor | None = None,
) -> dict[str, Node]:
    """Build all nodes, without their bundles.

    Parameters
    ----------
    config : Config
    flags : Flags
    open_encoder : callable
        Gives the encoders of bundles' rungs.
    quotas : Quotas, optional
    redactor : Redactor, optional
        The configuration's, where it is open already.

    Raises
    ------
    ConfigError
        A key is missing from the environment, a validator cannot be imported, or a prompt is wrong.
    """
    nodes = {}
    trusted = tuple(read_public_key(config.base / path) for path in config.bundles.trusted_keys)
    redactor = redactor or open_redactor(config)
    for name, node in config.nodes.items():
        contract = node.contract.load(config.base) or Contract(open_labels=True)
        teacher = config.rungs[node.ladder[-1]]
        assert isinstance(teacher, ChatRungConfig)
        made = Node(
            name,
            node,
            contract,
            ChatRung(chat_settings(node.ladder[-1], teacher), node.prompt, contract),
            teacher_of(config, name),
            import_validators(name, node.validators),
            latency=records(node.ladder),
            chats=local_chats(config, node),
            quotas=quotas,
            trusted=trusted,
            redactor=redactor,
            redaction=OFF if redactor is None else redactor.fingerprint,
        )
        shelf = Shelf(name, partial(load_fitting, made, config.models_path, open_encoder))
        made.serving = Serving(name, shelf, flags)
        nodes[name] = made
    return nodes


def local_chats(config: Config, node: NodeConfig) -> dict[str, ChatSettings]:
    """Give the settings of a node's chat rungs below the teacher."""
    found = ((name, config.rungs[name]) for name in node.ladder[:-1])
    return {name: chat_settings(name, rung) for name, rung in found if isinstance(rung, ChatRungConfig)}


def chat_settings(name: str, rung: ChatRungConfig) -> ChatSettings:
    """Give a chat rung's settings from its configuration."""
    return ChatSettings(
        name=name, base_url=rung.base_url, model=rung.model, api_key_env=rung.api_key_env,
        price_input=rung.price.input, price_output=rung.price.output, timeout_seconds=rung.timeout_seconds,
        attempts=rung.attempts, max_concurrency=rung.max_concurrency, temperature=rung.temperature,
        max_tokens=rung.max_tokens, structured=rung.structured,
    )  # fmt: skip


def refresh(node: Node, models: Path, rollout: NodeRollout, again: bool = True) -> bool:
    """Serve what the node's pointer and its rollout say. Takes as long as loading takes.

    What is served stays served when what is new is refused. `again` tries anew what was refused a moment ago.

    Returns
    -------
    bool
        Whether anything changed.
    """
    problem = adopt(node, models, rollout)
    changed = node.serving.load(again)
    plan = rollout.plan(pointer_of(node, models)[0])
    problem = problem or node.serving.shelf.problem(plan.stable) or node.serving.shelf.problem(plan.candidate)
    if problem and problem != node.problem:
        serving = node.bundle.version if node.bundle else "the teacher"
        _log.error("node %s: %s; %s keeps serving", node.name, problem, serving)
    node.problem = problem
    return changed


def adopt(node: Node, models: Path, rollout: NodeRollout) -> str:
    """Serve by a rollout's state, as far as bundles are in memory; say what is wrong with the pointer."""
    pointer, problem = pointer_of(node, models)
    if node.pointed and not pointer:
        _log.warning(
            "node %s: there is no %s any more, which named %s: without a rollout the teacher answers",
            node.name, models / node.name / POINTER, node.pointed,
        )  # fmt: skip
    node.pointed = pointer
    node.serving.adopt(rollout.plan(pointer))
    return problem


def pointer_of(node: Node, models: Path) -> tuple[str, str]:
    """Give the version that a node's pointer names, and why it cannot be read; the last good one then."""
    try:
        found = serving_version(models, node.name)
        if found is None and node.pointed and not (models / node.name).is_dir():  # a volume that is gone
            raise BundleError(POINTER, f"the folder {models / node.name} is gone")
    except BundleError as error:
        return node.serving.plan.stable, f"bundle refused: {error}"
    return found or "", ""
