"""A health probe for containers: `python -m cascade.client.probe HOST:PORT`; exit code 0 where it serves.

With TLS: `--ca FILE`, `--name NAME` where the certificate is not for HOST, as in a container that asks
itself, and `--cert FILE --key FILE` where clients have to show a certificate. Asks `grpc.health.v1`, which
needs no key.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cascade.client.credentials import channel_credentials, direct_options
from cascade.client.tries import call


def probe(
    target: str,
    seconds: float = 2.0,
    ca: Path | None = None,
    cert: Path | None = None,
    key: Path | None = None,
    name: str | None = None,
) -> str:
    """Ask a service for its health, and give the status's name, or the error's.

    Parameters
    ----------
    target : str
        `host:port`.
    seconds : float
        How long is waited, second tries included: an overloaded server's gRPC refuses some.
    ca, cert, key : Path, optional
        PEM files, for a service with TLS.
    name : str, optional
        Whom the certificate has to be for; by default the target's host.
    """
    credentials = channel_credentials(None, ca, cert, key)
    if credentials is None:
        channel = grpc.insecure_channel(target, direct_options(target))
    else:
        options = [("grpc.ssl_target_name_override", name)] if name else []
        channel = grpc.secure_channel(target, credentials, options)
    with channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        try:
            answer = call(check, health_pb2.HealthCheckRequest(), seconds)
        except grpc.RpcError as error:
            return str(error.code().name)
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


def main() -> int:
    """Run the probe."""
    parser = argparse.ArgumentParser(prog="python -m cascade.client.probe", description=__doc__)
    parser.add_argument("target")
    parser.add_argument("--seconds", type=float, default=2.0)
    for name in ("--ca", "--cert", "--key"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--name")
    found = parser.parse_args()
    try:
        status = probe(found.target, found.seconds, found.ca, found.cert, found.key, found.name)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print(status)
    return 0 if status == "SERVING" else 1


if __name__ == "__main__":
    sys.exit(main())
