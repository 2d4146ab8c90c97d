"""The schema of `cascade.yaml`: its keys, their types, ranges and defaults.

Types are strict, because YAML already tells 1 from "1". Two checks need more than their own key: a contract's
schema file needs the file's folder, a ladder needs the rungs. The loader hands both over as pydantic's
validation context (`base`, `kinds`), so that they are reported together with everything else.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PrivateAttr,
    Strict,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from cascade.config import values
from cascade.config.costs import CostsConfig
from cascade.config.exchangeability import ExchangeabilityConfig
from cascade.config.http import HttpConfig, upstream_problem
from cascade.config.ladders import ladder_problems
from cascade.config.loop import LoopConfig
from cascade.config.observe import ObserveConfig
from cascade.config.out_of_scope import OutOfScopeConfig
from cascade.config.privacy import EncryptionConfig, RetentionConfig
from cascade.config.redaction import RedactionConfig
from cascade.config.rollout import RolloutConfig
from cascade.config.section import Section as _Section
from cascade.config.security import AuthConfig, BundlesConfig, TenantConfig
from cascade.config.server import Count, LimitsConfig, ServerConfig
from cascade.config.slices import Slices, SlicesConfig
from cascade.contract import Contract
from cascade.errors import ConfigError

DEFAULT_ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
CONTRACT_FORMS = "{labels: from-traffic}, {labels: [one, two]} or {schema: file.json}"


class LinearRungConfig(_Section):
    """A linear model over hashed n-grams; everything about it is in the bundle."""

    kind: Literal["linear"] = "linear"


class EncoderRungConfig(_Section):
    """A sentence encoder with a trained head.

    `providers` are ONNX Runtime's execution providers, best first; empty means: choose by what is there.
    """

    kind: Literal["encoder"] = "encoder"
    model: values.Text = DEFAULT_ENCODER
    providers: Annotated[tuple[values.Provider, ...], Strict(False)] = ()
    precision: Literal["int8", "fp32"] = "int8"
    max_tokens: Annotated[int, Field(ge=1, le=8192)] = 128


class PriceConfig(_Section):
    """What a chat model costs, in dollars per million tokens."""

    input: Annotated[float, Field(ge=0)]
    output: Annotated[float, Field(ge=0)]


class ChatRungConfig(_Section):
    """A model behind an API like OpenAI's. Its key comes from the environment variable `api_key_env`."""

    kind: Literal["chat"]
    base_url: values.BaseUrl
    model: values.Text
    api_key_env: values.VariableName | None = None
    price: PriceConfig
    timeout_seconds: Annotated[float, Field(gt=0, le=3600)] = 30.0
    attempts: Annotated[int, Field(ge=1, le=20)] = 3
    max_concurrency: Count = 256
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    max_tokens: Count | None = None
    structured: bool = True


RungConfig = Annotated[LinearRungConfig | EncoderRungConfig | ChatRungConfig, Field(discriminator="kind")]
RUNG_KINDS: dict[str, type[_Section]] = {
    "linear": LinearRungConfig,
    "encoder": EncoderRungConfig,
    "chat": ChatRungConfig,
}


def _labels_form(value: Any) -> Any:
    if value == "from-traffic":
        return ()
    if not isinstance(value, list | tuple) or not value:
        raise values.expected("from-traffic or a list of at least one label")
    return value


def _distinct(labels: tuple[str, ...]) -> tuple[str, ...]:
    seen: set[str] = set()
    problems: list[tuple[tuple[int, ...], str]] = []
    for index, label in enumerate(labels):
        if label in seen:
            problems.append(((index,), f"the label {label[:64]!r} is already in this list"))
        seen.add(label)
    _raise(problems)
    return labels


def _raise(problems: list[tuple[tuple[int, ...], str]]) -> None:
    # One validator can raise one error only; the loader takes the `problems` apart again.
    if problems:
        text = "; ".join(text for _, text in problems)
        raise PydanticCustomError("several", "{text}", {"text": text, "problems": problems})


class ContractConfig(_Section):
    """`contract`: labels found in traffic, labels given here, or a JSON Schema in a file.

    `labels` is empty where they come from traffic and where there is a schema.
    """

    labels: Annotated[
        tuple[values.Text, ...], Strict(False), BeforeValidator(_labels_form), AfterValidator(_distinct)
    ] = ()
    schema_file: values.Text | None = Field(default=None, alias="schema")

    @model_validator(mode="before")
    @classmethod
    def _one_form(cls, value: Any) -> Any:
        if not isinstance(value, dict) or not value:
            raise values.expected(CONTRACT_FORMS)
        if {"labels", "schema"} <= value.keys():
            raise values.wrong(f"labels and schema exclude each other; expected {CONTRACT_FORMS}")
        return value

    @field_validator("schema_file", mode="before")
    @classmethod
    def _readable(cls, value: Any, info: ValidationInfo) -> Any:
        if not isinstance(value, str) or not value:
            raise values.expected("the path of a JSON Schema file")
        if info.context and "base" in info.context:
            try:
                _read_schema(info.context["base"] / value)
            except ConfigError as error:
                raise values.wrong(error.message) from None
        return value

    @property
    def from_traffic(self) -> bool:
        """Whether the labels are those that traffic holds."""
        return not self.labels and self.schema_file is None

    def load(self, base: Path) -> Contract | None:
        """Give the contract, or None where its labels come from traffic.

        Parameters
        ----------
        base : Path
            The folder that a schema file's path is relative to: `Config.base`.

        Raises
        ------
        ConfigError
            The schema file cannot be read, or is not a JSON Schema.
        """
        if self.schema_file is not None:
            return _read_schema(base / self.schema_file)
        return Contract(labels=self.labels) if self.labels else None


def _read_schema(path: Path) -> Contract:
    try:
        schema = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(f"cannot read the schema file {path}: {reason}") from error
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"the schema file {path} is not JSON: line {error.lineno}, column {error.colno}: {error.msg}"
        ) from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"the schema file {path} cannot be read: {str(error)[:120]}") from error
    if not isinstance(schema, dict):
        raise ConfigError(f"the schema file {path} must hold a JSON object, not a {type(schema).__name__}")
    return Contract(schema=schema)


class BarConfig(_Section):
    """`bar`: a locally settled answer agrees with the teacher's this often, at this confidence."""

    agreement: values.Proportion = 0.98
    confidence: values.Proportion = 0.95


class NodeConfig(_Section):
    """One node: its prompt (a Jinja2 template), contract, bar, ladder and validators.

    With `agreement`, an answer settles only where the cheaper rungs that ran gave it too; the next retraining
    certifies that. `recognise` holds fingerprints of fixed parts: calls of the HTTP side that have one are
    the node's.
    """

    prompt: values.Template
    contract: ContractConfig = ContractConfig(labels="from-traffic")  # type: ignore[arg-type]
    bar: BarConfig = BarConfig()
    out_of_scope: OutOfScopeConfig = OutOfScopeConfig()
    ladder: Annotated[tuple[str, ...], Strict(False), Field(min_length=1)]
    validators: Annotated[tuple[values.CallablePath, ...], Strict(False)] = ()
    agreement: bool = False
    slices: Slices = SlicesConfig()
    recognise: Annotated[tuple[values.Fingerprint, ...], Strict(False)] = ()
    exchangeability: ExchangeabilityConfig = ExchangeabilityConfig()

    @field_validator("ladder")
    @classmethod
    def _known_rungs(cls, ladder: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if info.context and "kinds" in info.context:
            _raise(ladder_problems(ladder, info.context["kinds"]))
        return ladder


def default_rungs() -> dict[str, LinearRungConfig | EncoderRungConfig | ChatRungConfig]:
    """Give the rungs that exist without being configured."""
    return {"linear": LinearRungConfig(), "encoder": EncoderRungConfig()}


class Config(_Section):
    """The whole of `cascade.yaml`.

    Relative paths in it are relative to its folder, `base`; `store_url`, `models_path` and `flags_path` are
    absolute.
    """

    store: values.StoreUrl = "sqlite:///var/traffic.db"
    models: values.Text = "models"
    flags: values.Text = "flags.json"
    flags_provider: values.CallablePath | None = None
    listen: values.Listen = "127.0.0.1:50051"
    server: ServerConfig = ServerConfig()
    limits: LimitsConfig = LimitsConfig()
    costs: CostsConfig = CostsConfig()
    auth: AuthConfig | None = None
    tenants: dict[values.Text, TenantConfig] = Field(default_factory=dict)
    bundles: BundlesConfig = BundlesConfig()
    http: HttpConfig | None = None
    observe: ObserveConfig = ObserveConfig()
    loop: LoopConfig = LoopConfig()
    rollout: RolloutConfig = RolloutConfig()
    redaction: RedactionConfig = RedactionConfig()
    encryption: EncryptionConfig | None = None
    retention: RetentionConfig = RetentionConfig()
    rungs: dict[values.Name, RungConfig] = Field(default_factory=default_rungs)
    nodes: dict[values.Name, NodeConfig] = Field(default={}, validate_default=True)

    _base: Path = PrivateAttr(default_factory=Path.cwd)

    def model_post_init(self, context: Any) -> None:
        """Take the file's folder from the validation context."""
        if context and "base" in context:
            self._base = context["base"]

    @field_validator("rungs")
    @classmethod
    def _with_defaults(cls, rungs: dict[str, Any]) -> dict[str, Any]:
        return {**default_rungs(), **rungs}

    @field_validator("nodes", mode="before")
    @classmethod
    def _some_node(cls, nodes: Any, info: ValidationInfo) -> Any:
        # Without nodes, there is something to do only for the HTTP side: to capture calls for discovery.
        if nodes == {} and info.data.get("http", False) is None:
            raise values.wrong("this key is required: a node, or the section http to capture calls")
        return nodes

    @model_validator(mode="after")
    def _upstream(self) -> Config:
        chats = [name for name, rung in self.rungs.items() if rung.kind == "chat"]
        if self.http is not None:
            http_problem = upstream_problem(self.http.upstream, chats)
            if http_problem:
                raise values.wrong(http_problem)
        return self

    @model_validator(mode="after")
    def _ladders(self) -> Config:
        # The loader has checked this with lines already; this is for a Config that is made in code.
        kinds = {name: rung.kind for name, rung in self.rungs.items()}
        for name, node in self.nodes.items():
            for _, text in ladder_problems(node.ladder, kinds):
                raise values.wrong(f"nodes.{name}.ladder: {text}")
        return self

    @property
    def base(self) -> Path:
        """The folder of the file, absolute."""
        return self._base

    @property
    def models_path(self) -> Path:
        """The bundle repository."""
        return self._base / self.models

    @property
    def flags_path(self) -> Path:
        """The flag file."""
        return self._base / self.flags

    @property
    def store_url(self) -> str:
        """The traffic store's URL; a SQLite file's path in it is absolute."""
        prefix = "sqlite:///"
        if not self.store.startswith(prefix):
            return self.store
        return prefix + str(self._base / self.store.removeprefix(prefix))

    @property
    def state_path(self) -> Path:
        """Where the processes of a machine keep what is not in the database.

        Beside the SQLite file; with PostgreSQL where systemd says (`StateDirectory=`), else in `var`.
        """
        prefix = "sqlite:///"
        if self.store.startswith(prefix):
            return Path(self.store_url.removeprefix(prefix)).parent
        given = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
        return Path(given) if given else self._base / "var"
