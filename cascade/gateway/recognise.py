"""Which node a call belongs to: the caller says so, or its fixed part is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cascade.config import Config
from cascade.errors import UnknownNode
from cascade.gateway.fixed_part import fingerprint, has_fixed_part
from cascade.gateway.question import Frame, frame_of

PREFIX = "cascade/"
"""A model of this prefix is a node."""

HEADER = "x-cascade-node"


@dataclass(frozen=True, slots=True)
class Recognised:
    """A call's node.

    Attributes
    ----------
    node : str
    how : {"model", "header", "fixed part", "prompt"}
        What told.
    """

    node: str
    how: str


class Recogniser:
    """Finds the node of a call.

    Parameters
    ----------
    config : Config
        The nodes' `recognise` fingerprints and prompts.
    """

    def __init__(self, config: Config) -> None:
        self._nodes = list(config.nodes)
        self._by_fingerprint = {
            print_: name for name, node in config.nodes.items() for print_ in node.recognise
        }
        self.frames: dict[str, Frame | None] = {
            name: frame_of(node.prompt) for name, node in config.nodes.items()
        }

    def node_of(self, body: Mapping[str, Any], header: str = "") -> Recognised | None:
        """Give the node of a request; None where it is of none.

        The model wins over the header, the header over what is recognised.

        Parameters
        ----------
        body : JSON object
            The request; its `messages` are a list of objects.
        header : str
            The header `x-cascade-node`; empty where it was not sent.

        Raises
        ------
        UnknownNode
            The caller names a node that is not configured.
        """
        model = body.get("model")
        if isinstance(model, str) and model.startswith(PREFIX):
            return Recognised(self._named(model.removeprefix(PREFIX)), "model")
        if header:
            return Recognised(self._named(header), "header")
        messages, tools, wanted = body["messages"], body.get("tools"), body.get("response_format")
        if self._by_fingerprint and has_fixed_part(messages, tools, wanted):
            found = self._by_fingerprint.get(fingerprint(messages, tools, wanted))
            if found is not None:
                return Recognised(found, "fixed part")
        if len(messages) == 1 and isinstance(messages[0].get("content"), str) and not tools:
            said = messages[0]["content"]
            framed = [name for name, frame in self.frames.items() if frame and frame.text_in(said)]
            if len(framed) == 1:  # of two prompts that both fit, neither is known to be meant
                return Recognised(framed[0], "prompt")
        return None

    def by_fingerprint(self, fingerprint: str) -> str | None:
        """Give the node that recognises a fingerprint."""
        return self._by_fingerprint.get(fingerprint)

    def _named(self, node: str) -> str:
        if node not in self._nodes:
            raise UnknownNode(node[:64], self._nodes)
        return node
