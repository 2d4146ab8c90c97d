"""What a chat model's server sends back: an answer and its cost, or an error and what it means."""

from __future__ import annotations

import json
import re
import time
from email.utils import parsedate_to_datetime

import openai
from openai.types.chat import ChatCompletion

from cascade.code_fence import unfenced
from cascade.contract import Contract, JsonValue
from cascade.errors import RungError, TeacherUnavailable, UnreadableAnswer, UnusableAnswer
from cascade.rungs.chat_settings import ChatSettings
from cascade.rungs.protocol import Answer
from cascade.rungs.usage import token_count

KEY_REFUSED = (401, 403)
"""Statuses of a server that refuses the key: a matter of the service's owner, not of who calls it."""


PASSING = (408, 409, 429)
"""Statuses below 500 that another try, later, may not give."""


def look_at_key(api_key_env: str | None) -> str:
    """Say what the owner does about a key that is refused."""
    if api_key_env:
        return f"check the key in the environment variable {api_key_env}"
    return "set api_key_env"


def shown_code(code: object, key: str) -> str:
    """Give an error's machine-readable code as it is added to what is said; empty where it is none.

    Parameters
    ----------
    code : object
        As it came.
    key : str
        The API key, which no error may repeat.
    """
    text = str(code or "")
    return f" ({text})" if re.fullmatch(r"[\w.-]{1,60}", text) and key not in text else ""


class TryAgain(TeacherUnavailable):
    """A try failed in a way that another may not."""


class Replies:
    """Reads what one chat rung is sent.

    Parameters
    ----------
    settings : ChatSettings
    contract : Contract
        What an answer is.
    where : str
        How errors name the rung.
    key : str
        The API key, which no error may repeat.
    """

    def __init__(self, settings: ChatSettings, contract: Contract, where: str, key: str) -> None:
        self._settings, self._contract, self._where, self._key = settings, contract, where, key

    def value(self, reply: object, answer: Answer) -> JsonValue:
        """Add a reply's cost to the answer and give its value.

        Raises
        ------
        RungError
            It is no completion, or its content is no answer.
        """
        if not isinstance(reply, ChatCompletion):
            raise RungError(f"chat rung {self._where} sent no chat completion")
        if reply.usage is not None:
            read, written = (
                token_count(reply.usage.prompt_tokens),
                token_count(reply.usage.completion_tokens),
            )
            answer.input_tokens += read
            answer.output_tokens += written
            price = self._settings
            answer.usd += (read * price.price_input + written * price.price_output) / 1e6
        if not reply.choices:
            raise RungError(f"chat rung {self._where} sent a completion without choices")
        choice = reply.choices[0]
        content = choice.message.content
        if choice.message.refusal or choice.finish_reason == "content_filter":
            raise UnusableAnswer(f"chat rung {self._where} refused to answer")
        if choice.finish_reason == "length":
            raise UnusableAnswer(f"the answer of chat rung {self._where} was cut at its length limit")
        if not isinstance(content, str) or not content.strip():
            raise UnusableAnswer(f"chat rung {self._where} sent an empty answer")
        try:
            return self._contract.parse(unfenced(content))
        except (ValueError, RecursionError) as error:
            why = error.msg if isinstance(error, json.JSONDecodeError) else type(error).__name__
            raise UnreadableAnswer(f"the answer of chat rung {self._where} cannot be read: {why}") from None

    def error(self, error: openai.APIStatusError) -> RungError:
        """Give what an HTTP error means; a `TryAgain` where another try may succeed."""
        status = error.status_code
        what = f"chat rung {self._where} answered HTTP {status}"
        if status in KEY_REFUSED:
            return TeacherUnavailable(f"{what}: {look_at_key(self._settings.api_key_env)}")
        # Of the body only the short machine-readable code is told: the rest may repeat key or input.
        what += shown_code(error.code, self._key)
        if status in PASSING or status >= 500:
            return TryAgain(what, _retry_after(error))
        return RungError(what)


def _retry_after(error: openai.APIStatusError) -> float | None:
    stated = error.response.headers.get("retry-after", "")
    try:
        seconds = float(stated)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(stated).timestamp() - time.time()
        except (ValueError, TypeError):
            return None
    return max(0.0, seconds) if seconds < float("inf") else None
