"""The prompt of a chat rung: a Jinja2 template that a query is put into."""

from __future__ import annotations

import json
from typing import Any

import jinja2
import jinja2.meta
from jinja2.sandbox import SandboxedEnvironment

from cascade.config.values import PROMPT_VARIABLES
from cascade.contract import Contract
from cascade.errors import ConfigError, RungError
from cascade.rungs.protocol import Query

_CHAT_ROLES = {"system", "developer", "user", "assistant"}
_INSTRUCTION = "Answer with nothing but a JSON value that follows this JSON Schema: "


class Prompt:
    """A compiled prompt template.

    Parameters
    ----------
    template : str
        Its variables are `text`, `messages` (each with `role` and `content`), `labels` (all of the
        contract's) and `choices` (those that are allowed now, all of them where the query does not say).
    contract : Contract
        Where the labels come from.
    rung : str
        The rung's name, for errors.

    Raises
    ------
    ConfigError
        The template is not valid or uses other variables.

    Examples
    --------
    >>> prompt = Prompt("Go on or stop? {{ text }}", Contract(labels=("go", "stop")), "frontier")
    >>> prompt.render(Query("All done."))
    'Go on or stop? All done.'
    """

    def __init__(self, template: str, contract: Contract, rung: str) -> None:
        self._contract = contract
        self._rung = rung
        environment = SandboxedEnvironment(undefined=jinja2.StrictUndefined, autoescape=False)
        try:
            unknown = jinja2.meta.find_undeclared_variables(environment.parse(template)) - PROMPT_VARIABLES
            self._template = environment.from_string(template)
        except jinja2.TemplateError as error:
            raise ConfigError(f"the prompt for rung {rung!r} is not a valid template: {error}") from error
        if unknown:
            raise ConfigError(
                f"the prompt for rung {rung!r} uses unknown variables: {', '.join(sorted(unknown))}; "
                f"there are {', '.join(sorted(PROMPT_VARIABLES))}"
            )

    def render(self, query: Query) -> str:
        """Put a query into the template.

        Raises
        ------
        RungError
            The template fails for this query.
        """
        try:
            return self._template.render(
                text=query.text,
                messages=[{"role": role, "content": content} for role, content in query.messages],
                labels=self._contract.labels,
                choices=query.choices or self._contract.labels,
            )
        except Exception as error:  # a template may fail in any way
            why = type(error).__name__
            raise RungError(f"the prompt of rung {self._rung!r} cannot be rendered: {why}") from error


def with_instruction(prompt: str, schema: dict[str, Any]) -> str:
    """Add what a server without structured output must be told: the schema of the answer."""
    return f"{prompt}\n\n{_INSTRUCTION}{json.dumps(schema, ensure_ascii=False)}"


def chat_messages(query: Query, prompt: str) -> Any:
    """Give the API's messages: the prompt as user message, or as system message before the query's chat."""
    if not query.messages:
        return [{"role": "user", "content": prompt}]
    chat = [{"role": "system", "content": prompt}]
    for role, content in query.messages:
        if role in _CHAT_ROLES:
            chat.append({"role": role, "content": content})
        else:  # the API takes a tool's message only with the id of its call, which is not known here
            chat.append({"role": "user", "content": f"{role}: {content}"})
    return chat
