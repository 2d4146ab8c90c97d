"""What a caller is told of an upstream's error: all of it, but nothing of the service's own key.

Over gRPC only a short code of it is told (`cascade.rungs.chat_replies`). Here an agent talks to the
frontier's API and wants to read what is wrong with its request: an error without the key goes on as it came.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from cascade.errors import TeacherUnavailable
from cascade.gateway.upstream import Upstream
from cascade.rungs.chat_replies import KEY_REFUSED, look_at_key, shown_code

_ESCAPED = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))")


def told(
    upstream: Upstream, status: int, headers: Mapping[str, str], body: bytes
) -> tuple[dict[str, str], bytes]:
    """Give the headers and the body that a caller gets of a response that is no answer.

    Parameters
    ----------
    upstream : Upstream
    status : int
    headers : mapping of str to str
        From `Upstream.given_headers`.
    body : bytes
        All of it.

    Raises
    ------
    TeacherUnavailable
        The upstream refuses the service's key, which the caller knows nothing of, or says it without there
        being an error.
    """
    if upstream.callers_key:
        return dict(headers), body
    what = f"the upstream {upstream.name!r} answered HTTP {status}"
    if status in KEY_REFUSED:
        raise TeacherUnavailable(f"{what}: {look_at_key(upstream.rung.api_key_env)}")
    if not has_key(body, upstream.key):
        return dict(headers), body
    if status < 400:
        raise TeacherUnavailable(f"{what} with what is not for callers to see")
    code = _code_of(body)
    shown = shown_code(code, upstream.key)
    error = {
        "message": f"{what}{shown}",
        "type": "invalid_request_error" if status < 500 else "api_error",
        "code": code if shown else None,
        "param": None,
    }
    return {**headers, "content-type": "application/json"}, json.dumps({"error": error}).encode()


def has_key(body: bytes, key: str) -> bool:
    r"""Say whether a key stands in a body, as it is or escaped; also where the body cannot be read.

    Examples
    --------
    >>> has_key(b"no such key: sk-1", "sk-1"), has_key(b"no such model", "sk-1")
    (True, False)
    >>> has_key(rb'{"said": "\u0073k-1", "said": ""} and more', "sk-1")
    True
    """
    if not key:
        return False
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:  # compressed, perhaps
        return True
    return key_in(text, key)


def key_in(text: str, key: str) -> bool:
    """Say whether a key, which is not empty, stands in a text, as it is or escaped."""
    # Not as JSON: of a name that is there twice one value is lost, and what is no JSON goes on all the same.
    return key in text or key in _ESCAPED.sub(_meant, text.replace("\0", ""))  # zeros are of UTF-16


def _meant(escaped: re.Match[str]) -> str:
    return chr(int(escaped[1], 16)) if escaped[1] else escaped[2]


def _code_of(body: bytes) -> Any:
    try:
        return json.loads(body)["error"]["code"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
