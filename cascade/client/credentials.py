"""How a client knows the server, shows who it is, and keeps its key from being read on the way."""

from __future__ import annotations

import ipaddress
import os
import ssl
from pathlib import Path
from urllib.parse import unquote

import grpc

from cascade.client.channel import Metadata, Options

PemFile = str | os.PathLike[str]
"""Path of a PEM file. Never its content: an error names what it was given."""


class PlainTextKey(ValueError):
    """A key would be sent in plain text to another machine. `target` is which."""

    def __init__(self, target: str) -> None:
        super().__init__(
            f"the key would be sent to {target} in plain text, for anyone on the way to read: name the "
            "authority that signed the server's certificate (ca), or ask for TLS with a public one "
            "(tls=True); where a service mesh or a tunnel encrypts, say tls=False"
        )
        self.target = target


def identify(
    target: str,
    metadata: Metadata,
    api_key: str | None,
    ca: PemFile | None,
    cert: PemFile | None,
    key: PemFile | None,
    tls: bool | None,
    credentials: grpc.ChannelCredentials | None = None,
) -> tuple[grpc.ChannelCredentials | None, Metadata]:
    """Give a client's credentials, None for plain text, and all that it sends with each call.

    Parameters and exceptions are those of `Client`.
    """
    if credentials is None:
        credentials = channel_credentials(tls, ca, cert, key)
    elif tls is not None or ca is not None or cert is not None or key is not None:
        raise ValueError("credentials take the place of ca, cert, key and tls: give the one or the others")
    if api_key is not None and any(name.lower() == "authorization" for name, _ in metadata):
        raise ValueError("give the key as api_key or in the metadata, not both")
    sent = key_metadata(target, api_key, credentials is not None, tls)
    return credentials, (*metadata, *sent)


def channel_credentials(
    tls: bool | None = None,
    ca: PemFile | None = None,
    cert: PemFile | None = None,
    key: PemFile | None = None,
) -> grpc.ChannelCredentials | None:
    """Give the credentials of a channel; None for plain text.

    The files are read once; a client looks for renewed ones (`cascade.client.lanes`).

    Parameters
    ----------
    tls : bool, optional
        By default, TLS if one of the files is given.
    ca : path, optional
        Certificates of the authorities that are trusted; by default those that gRPC brings along.
    cert, key : path, optional
        The client's own certificate (and its chain) and its private key, where the server asks for them.

    Raises
    ------
    ValueError
        The arguments do not fit together, or a file is not PEM.
    OSError
        A file cannot be read.
    """
    given = [name for name, file in (("ca", ca), ("cert", cert), ("key", key)) if file is not None]
    if tls is False and given:
        raise ValueError(f"{' and '.join(given)} given, but TLS is switched off")
    if not (tls or given):
        return None
    if (cert is None) != (key is None):
        raise ValueError("a client's certificate and its key belong together: give both cert and key")
    # gRPC takes any bytes, logs what it thinks of them, and fails calls as if nobody were there.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    roots = own = secret = None
    if ca is not None:
        roots = _pem(ca, "CERTIFICATE")
        try:
            context.load_verify_locations(ca)
        except ssl.SSLError as error:
            raise ValueError(f"ca: {ca} cannot be used: {error}") from None
    if cert is not None and key is not None:
        own, secret = _pem(cert, "CERTIFICATE"), _pem(key, "PRIVATE KEY")
        try:
            context.load_cert_chain(cert, key, password="")  # without one, OpenSSL would ask the terminal
        except ssl.SSLError as error:
            raise ValueError(
                f"{cert} and its key {key} cannot be used: {error}; the key must be the certificate's, "
                "without a password"
            ) from None
    return grpc.ssl_channel_credentials(roots, secret, own)


def key_metadata(target: str, api_key: str | None, encrypted: bool, tls: bool | None = None) -> Metadata:
    """Give what a call sends to show its key.

    Who listens on the way reads a key that is sent in plain text, and can use it until it is revoked: a
    warning would come too late. So it is refused, but to this machine itself, and where `tls=False` says
    that somebody else encrypts.

    Parameters
    ----------
    target : str
        Whom the channel leads to.
    api_key : str, optional
    encrypted : bool
        Whether the channel has TLS.
    tls : bool, optional
        What the caller asked for; False allows plain text.

    Raises
    ------
    PlainTextKey
        It would be sent in plain text.
    ValueError
        It is no key.
    """
    if api_key is None:
        return ()
    if not api_key or not api_key.isascii() or not api_key.isprintable() or " " in api_key:
        raise ValueError("api_key is empty, or holds what no key holds: spaces, line ends or non-ASCII")
    if not encrypted and tls is not False and not stays_here(target):
        raise PlainTextKey(target)
    return (("authorization", f"Bearer {api_key}"),)


def stays_here(target: str) -> bool:
    """Say whether what is sent to a gRPC target does not leave this machine, as far as its name shows."""
    scheme, colon, rest = target.partition(":")
    if colon and scheme in ("unix", "unix-abstract"):
        return True
    if "?" in target or "#" in target:  # gRPC leaves out what follows; no address has them
        return False
    if colon and scheme in ("dns", "ipv4", "ipv6"):
        target = rest.rpartition("/")[2]
    return all(_is_loopback(_host_of(unquote(address))) for address in target.split(","))


def direct_options(target: str) -> Options:
    """Give the channel's options that keep what stays on this machine from a proxy of the environment.

    gRPC asks the one that `http_proxy` names also for `localhost`, where `no_proxy` does not say otherwise.
    """
    return (("grpc.enable_http_proxy", 0),) if stays_here(target) else ()


def _host_of(address: str) -> str:
    if address.startswith("["):
        return address[1:].partition("]")[0]
    return address if address.count(":") > 1 else address.partition(":")[0]


def _is_loopback(host: str) -> bool:
    if host.lower() in ("localhost", "localhost."):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _pem(file: PemFile, what: str) -> bytes:
    if "-----BEGIN" in os.fspath(file):  # and may be a private key: not for an error to show
        raise ValueError(f"a {what.lower()} is given by the path of its file, not by its content")
    raw = Path(file).read_bytes()
    if b"-----BEGIN " not in raw or what.encode() not in raw:
        raise ValueError(f"{file} holds no {what} in PEM")
    return raw
