"""TLS for the gRPC server and the HTTP side: every handshake is made with the certificates in force then."""

from __future__ import annotations

import ssl
from typing import Any

import grpc

from cascade.server.certificates import Certificates, Loaded


def server_credentials(certificates: Certificates) -> Any:
    """Give gRPC's credentials of certificates, for one server and address."""
    made_of = certificates.now

    def renewed() -> Any:
        nonlocal made_of
        now = certificates.look()
        if now is made_of:
            return None
        made_of = now
        return _for_grpc(now)

    return grpc.dynamic_ssl_server_credentials(
        _for_grpc(made_of), renewed, require_client_authentication=len(made_of.parts) > 2
    )


def http_context(certificates: Certificates) -> ssl.SSLContext:
    """Give the TLS context of certificates for a server of the standard library's kind."""
    outer = certificates.now.context

    def at_handshake(connection: ssl.SSLObject, _: str | None, __: ssl.SSLContext) -> None:
        connection.context = certificates.look().context

    # Called at every handshake, also where the client names no server. Another context in its place, and not
    # `load_cert_chain` on the one in use: half a renewal, say of the certificate without its key, would break
    # that one, and of an authority that is trusted no more it could not let go.
    outer.sni_callback = at_handshake
    return outer


def _for_grpc(loaded: Loaded) -> Any:
    key, certificate, *client_ca = loaded.parts
    return grpc.ssl_server_certificate_configuration(
        [(key, certificate)], root_certificates=client_ca[0] if client_ca else None
    )
