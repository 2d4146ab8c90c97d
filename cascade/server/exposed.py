"""What a service says at its start of addresses that others can reach and nothing guards."""

from __future__ import annotations

import logging

from cascade.client.credentials import stays_here
from cascade.config import Config

_log = logging.getLogger(__name__)


def warn_of_exposure(config: Config, listen: str, http: str | None) -> None:
    """Warn in the log of each address that other machines can reach without a key, or in plain text.

    It is no error: a container listens on all of its addresses, and what stands before it may guard them.

    Parameters
    ----------
    config : Config
    listen : str
        What gRPC listens on.
    http : str, optional
        What the HTTP side listens on.
    """
    tls = config.server.tls
    keyless = config.auth is None and (tls is None or tls.client_ca is None)
    addresses = {"listen": listen, "server.admin_listen": config.server.admin_listen, "http.listen": http}
    for name, address in addresses.items():
        if address is None or stays_here(address):
            continue
        wrong = []
        if keyless:
            more = ", the frontier's whole API on this service's account included" if address == http else ""
            wrong.append(f"it asks for no key (`auth`), so whoever reaches it may use all of it{more}")
        if tls is None:
            wrong.append("it talks in plain text (`server.tls`), unless something before it encrypts")
        if wrong:
            _log.warning("%s: other machines can reach %s: %s", name, address, "; ".join(wrong))
