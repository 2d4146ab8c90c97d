"""`cascade.yaml`: its schema, and reading it with the line of every problem."""

from cascade.config.costs import CostsConfig
from cascade.config.load import load_config
from cascade.config.redaction import RedactionConfig
from cascade.config.schema import (
    BarConfig,
    ChatRungConfig,
    Config,
    ContractConfig,
    EncoderRungConfig,
    LinearRungConfig,
    NodeConfig,
    PriceConfig,
    RungConfig,
)
from cascade.config.server import LimitsConfig, ServerConfig

__all__ = [
    "BarConfig",
    "ChatRungConfig",
    "Config",
    "ContractConfig",
    "CostsConfig",
    "EncoderRungConfig",
    "LimitsConfig",
    "LinearRungConfig",
    "NodeConfig",
    "PriceConfig",
    "RedactionConfig",
    "RungConfig",
    "ServerConfig",
    "load_config",
]
