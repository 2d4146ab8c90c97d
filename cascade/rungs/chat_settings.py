"""How a chat model is reached and what it costs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ChatSettings:
    """How a chat model is reached and what it costs.

    Attributes
    ----------
    name : str
        The rung's name.
    base_url : str
        The API's base URL, up to and with `/v1`.
    model : str
        The model's name there.
    api_key_env : str or None
        The environment variable that holds the key; None where the server wants none.
    price_input, price_output : float
        Dollars per million tokens.
    timeout_seconds : float
        Limit for one try.
    attempts : int
        How many tries there are at most, the first included.
    max_concurrency : int
        How many requests may be under way at once.
    temperature : float or None
        None sends none, for models that take none.
    max_tokens : int, optional
        Limit for the answer's length.
    structured : bool
        Whether the server is asked for structured output.
    """

    name: str
    base_url: str
    model: str
    api_key_env: str | None = None
    price_input: float = 0.0
    price_output: float = 0.0
    timeout_seconds: float = 30.0
    attempts: int = 3
    max_concurrency: int = 256
    temperature: float | None = 0.0
    max_tokens: int | None = None
    structured: bool = True
