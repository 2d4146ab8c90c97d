"""The single values of `cascade.yaml` that need more than a type: addresses, URLs, names, templates.

A check raises one of two errors: `expected(...)`, to which the loader adds what was found, or
`wrong(...)`, which is shown as it is and is used wherever the value itself may hold a secret.
"""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import SplitResult, urlsplit

from jinja2 import TemplateSyntaxError
from jinja2.meta import find_undeclared_variables
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_NAME_RULE = (
    "a name is 1 to 64 characters of a-z, 0-9, '.', '_' and '-' and starts with a letter or a digit, "
    "because it names a folder"
)
_CALLABLE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PROVIDER = re.compile(r"[A-Za-z]\w*ExecutionProvider")
_LISTEN = re.compile(r"(?:\[[0-9A-Fa-f:.%\w]+\]|[^\s:/\[\]]+):([0-9]{1,5})")
_FINGERPRINT = re.compile(r"[0-9a-f]{16}")

PROMPT_VARIABLES = frozenset({"text", "messages", "labels", "choices"})
"""What a prompt's template may use."""

# Constants are not folded: `{{ 9**9**9 }}` would be computed while the configuration is read.
_TEMPLATES = ImmutableSandboxedEnvironment(optimized=False)


def expected(what: str) -> PydanticCustomError:
    """Give the error `expected <what>, found <value>`."""
    return PydanticCustomError("expected", "{what}", {"what": what})


def wrong(text: str) -> PydanticCustomError:
    """Give the error `text`, which never shows the value."""
    return PydanticCustomError("wrong", "{text}", {"text": text})


def _not_empty(value: str) -> str:
    if not value.strip():
        raise expected("a text that is not empty")
    return value


def _name(value: str) -> str:
    if not NAME_PATTERN.fullmatch(value):
        raise wrong(_NAME_RULE)
    return value


def _listen(value: str) -> str:
    if value.startswith("unix:"):
        if not value.removeprefix("unix:").strip("/ "):
            raise expected("a path after unix:")
        return value
    match = _LISTEN.fullmatch(value)
    if match is None or int(match[1]) > 65535:
        raise expected("host:port, with a port from 0 to 65535, or unix:path")
    return value


def _http_listen(value: str) -> str:
    match = _LISTEN.fullmatch(value)
    if match is None or int(match[1]) > 65535:
        raise expected("host:port, with a port from 0 to 65535")
    return value


def _fingerprint(value: str) -> str:
    if not _FINGERPRINT.fullmatch(value):
        raise expected("a fingerprint of 16 hexadecimal characters in quotes")
    return value


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        _ = parts.port  # computed when asked for, and refused then
    except ValueError:
        return None
    return parts


def _store(value: str) -> str:
    parts = _split(value)
    scheme = parts.scheme if parts else ""
    if scheme == "sqlite" and value.startswith("sqlite:///"):
        path = value.removeprefix("sqlite:///")
        if not path.strip("/ ") or path == ":memory:":
            raise expected("a file after sqlite:///, because traffic has to last")
        return value
    if parts and scheme in {"postgresql", "postgres"} and parts.netloc:
        if parts.password is not None or "password=" in parts.query:
            raise wrong(
                "a password does not belong into this file; "
                "set PGPASSWORD in the environment or use ~/.pgpass"
            )
        return value
    raise wrong("expected sqlite:///path or postgresql://user@host/database")


def _base_url(value: str) -> str:
    parts = _split(value)
    if parts is None or parts.scheme not in {"http", "https"} or not parts.hostname:
        raise wrong("expected a URL that starts with https:// or http:// and names a host")
    if parts.username is not None or parts.password is not None:
        raise wrong("credentials do not belong into this file; use api_key_env")
    if parts.query or parts.fragment:
        raise wrong("expected a URL without '?' and '#', because request paths are appended to it")
    return value.rstrip("/")


def _variable(value: str) -> str:
    # The value is never shown: whoever gets this wrong has often put the key itself here.
    if not _VARIABLE.fullmatch(value):
        raise wrong(
            "expected the name of an environment variable, such as OPENAI_API_KEY, not the key itself"
        )
    return value


def _provider(value: str) -> str:
    if not _PROVIDER.fullmatch(value):
        raise expected("the name of an ONNX Runtime provider, such as CPUExecutionProvider")
    return value


def _callable(value: str) -> str:
    if not _CALLABLE.fullmatch(value):
        raise expected("module:callable, such as my_package.checks:no_refunds")
    return value


def _template(value: str) -> str:
    _not_empty(value)
    try:
        _TEMPLATES.compile(value, raw=True)
        unknown = find_undeclared_variables(_TEMPLATES.parse(value)) - PROMPT_VARIABLES
    except TemplateSyntaxError as error:
        raise wrong(
            f"not a valid Jinja2 template: its line {error.lineno}: {(error.message or '').rstrip('.')}"
        ) from None
    except (RecursionError, ValueError, OverflowError) as error:
        raise wrong(f"not a valid Jinja2 template: {str(error)[:120]}") from None
    if unknown:
        raise wrong(
            f"unknown variables in the template: {', '.join(sorted(unknown))[:120]}; there are "
            f"{', '.join(sorted(PROMPT_VARIABLES))}"
        )
    return value


def _between_half_and_one(value: float) -> float:
    if not 0.5 < value < 1:
        raise expected("a number between 0.5 and 1, both excluded")
    return value


Text = Annotated[str, AfterValidator(_not_empty)]
Name = Annotated[str, AfterValidator(_name)]
Listen = Annotated[str, AfterValidator(_listen)]
HttpListen = Annotated[str, AfterValidator(_http_listen)]
Fingerprint = Annotated[str, AfterValidator(_fingerprint)]
StoreUrl = Annotated[str, AfterValidator(_store)]
BaseUrl = Annotated[str, AfterValidator(_base_url)]
VariableName = Annotated[str, AfterValidator(_variable)]
Provider = Annotated[str, AfterValidator(_provider)]
CallablePath = Annotated[str, AfterValidator(_callable)]
Template = Annotated[str, AfterValidator(_template)]
Proportion = Annotated[float, AfterValidator(_between_half_and_one)]
