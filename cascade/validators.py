"""A node's own validators: callables that may refuse a local answer, and how a certificate names them.

A certificate speaks about what is settled, and a validator changes what is settled. So retraining asks the
node's validators about the held-out answers as serving does, and the bundle names each by where it is and by
a hash of its module's code. Serving then knows three cases: one that was certified; one that came later,
whose refusals go straight to the teacher; and one that is gone or changed, which fences the bundle off.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import inspect
import sys
from collections.abc import Callable, Sequence
from functools import cache

from cascade.ask import Ask
from cascade.contract import JsonValue
from cascade.errors import ConfigError

Validator = Callable[[Ask, JsonValue], str | bool | None]
"""A node's own check of a local answer: None or True accepts it, a text or False says why not."""


def import_validators(node: str, paths: Sequence[str]) -> tuple[Validator, ...]:
    """Import a node's own validators.

    Raises
    ------
    ConfigError
        One cannot be imported, or is not callable.
    """
    return tuple(_import_validator(node, path) for path in paths)


def name_of(validator: Validator) -> str:
    """Give a validator's short name, as attempts and reports have it."""
    return str(getattr(validator, "__name__", type(validator).__name__))


def identity(validator: Validator) -> str:
    """Give what a bundle calls a validator: `module:name@hash`.

    The hash is of its module's code without comments and layout. What the module imports, and the state of
    an object, are not in it. Where there is no source to read, the hash is left out.
    """
    named = validator if hasattr(validator, "__qualname__") else type(validator)
    module = str(getattr(named, "__module__", ""))
    name = str(getattr(named, "__qualname__", name_of(validator)))
    return f"{module}:{name}{_code_of(module)}"


def validators_fence(certified: Sequence[str], now: Sequence[Validator]) -> str:
    """Say why a certificate does not speak about what today's validators let settle; empty where it does.

    One that came later is no reason: it only refuses, and what it refuses goes straight to the teacher.

    Parameters
    ----------
    certified : sequence of str
        Identities of those that were asked when the bundle was certified.
    now : sequence of callable
        Those of the configuration.

    Examples
    --------
    >>> validators_fence(["rules:polite@12ab"], [])
    'the certificate counts on the validator rules:polite, which is gone or has changed; retrain'
    """
    known = {identity(validator) for validator in now}
    missing = [name.partition("@")[0] for name in certified if name not in known]
    if not missing:
        return ""
    several = len(missing) > 1
    return (
        f"the certificate counts on the validator{'s' if several else ''} {', '.join(missing)}, "
        f"which {'are' if several else 'is'} gone or {'have' if several else 'has'} changed; retrain"
    )


def _import_validator(node: str, path: str) -> Validator:
    module, _, name = path.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"nodes.{node}.validators: cannot import {path!r}: {error}") from error
    if not callable(found):
        raise ConfigError(f"nodes.{node}.validators: {path!r} is not callable")
    validator: Validator = found
    return validator


@cache
def _code_of(module: str) -> str:
    try:
        code = ast.unparse(ast.parse(inspect.getsource(sys.modules[module])))
    except (KeyError, OSError, TypeError, SyntaxError):
        return ""
    return f"@{hashlib.sha256(code.encode()).hexdigest()[:12]}"
