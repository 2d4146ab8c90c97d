"""Feature flags of a node: which mode and which bundle a request gets, by OpenFeature."""

from cascade.flags.flagd_file import FlagdFileProvider
from cascade.flags.flags import FlagCounts, Flags
from cascade.flags.open import open_flags
from cascade.flags.values import MODES, UNSET, NodeFlags, flag_keys

__all__ = [
    "MODES",
    "UNSET",
    "FlagCounts",
    "FlagdFileProvider",
    "Flags",
    "NodeFlags",
    "flag_keys",
    "open_flags",
]
