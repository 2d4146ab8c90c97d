"""From the configuration to flags."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from openfeature.contrib.tools.flagd.core.model import Flag

from cascade.errors import ConfigError
from cascade.flags.flagd_file import FlagdFileProvider
from cascade.flags.flags import Flags
from cascade.flags.values import MODES, flag_keys


def open_flags(
    path: Path, nodes: Collection[str], provider: str | None = None, seconds: float = 0.5
) -> Flags:
    """Open the flags of all nodes.

    Parameters
    ----------
    path : Path
        The embedded provider's file; it need not exist.
    nodes : collection of str
    provider : str, optional
        `module:callable`, called without arguments, gives a vendor's OpenFeature provider instead.
    seconds : float
        How often the file is looked at; 0 for never by itself.

    Raises
    ------
    ConfigError
        The provider cannot be made.
    """
    if provider is None:
        return Flags(FlagdFileProvider(path, check_flags(nodes), seconds, doubt_of(nodes)), nodes)
    module, _, name = provider.partition(":")
    try:
        made = getattr(importlib.import_module(module), name)()
    except Exception as error:  # a vendor's code
        raise ConfigError(f"flags_provider: {provider!r} gives no provider: {error}") from error
    if not hasattr(made, "resolve_string_details"):
        raise ConfigError(f"flags_provider: what {provider!r} gives is no OpenFeature provider")
    return Flags(made, nodes)


def doubt_of(nodes: Collection[str]) -> Callable[[str], str]:
    """Give what says of a flag's key that it speaks of no node here, as where it is misspelt.

    Examples
    --------
    >>> doubt_of(["support-intent"])("cascade.suport-intent.mode")
    "cascade.suport-intent.mode is no flag of a node here; did you mean 'cascade.support-intent.mode'?"
    >>> doubt_of(["support-intent"])("new-checkout")
    ''
    """
    ours = {key for node in nodes for key in flag_keys(node)}

    def doubt(key: str) -> str:
        if key in ours or not key.startswith("cascade."):
            return ""
        near = difflib.get_close_matches(key[:200], sorted(ours), n=1, cutoff=0.8)
        return f"{key} is no flag of a node here" + (f"; did you mean {near[0]!r}?" if near else "")

    return doubt


def check_flags(nodes: Collection[str]) -> Callable[[Mapping[str, Flag]], None]:
    """Give a check of what a flag file says about nodes, so that a typo is refused before a request meets it.

    The check raises ValueError where a flag of ours has a value that it cannot have.
    """
    mode_keys = {flag_keys(node)[0] for node in nodes}
    ours = mode_keys | {flag_keys(node)[1] for node in nodes}

    def check(flags: Mapping[str, Flag]) -> None:
        for key in ours & flags.keys():
            flag = flags[key]
            for variant, value in flag.variants.items():
                if not isinstance(value, str):
                    raise ValueError(f"{key}: variant {variant!r} must be a text")
                if key in mode_keys and value not in MODES:
                    raise ValueError(
                        f"{key}: variant {variant!r} is {value!r}; expected one of {', '.join(MODES)}"
                    )
            if flag.default_variant and str(flag.default_variant) not in flag.variants:
                raise ValueError(f"{key}: defaultVariant {flag.default_variant!r} is not among its variants")

    return check
