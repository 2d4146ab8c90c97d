"""OTLP over HTTP: encoded spans to a collector, by the variables of the OpenTelemetry SDK's exporter."""

from __future__ import annotations

import gzip
import os
import random
import re
import threading
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import requests
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.util.re import parse_env_headers
from urllib3.exceptions import HTTPError

from cascade.errors import CascadeError, ConfigError
from cascade.observe.time_limit import LimitedAdapter

_AGAIN: Final = frozenset({429, 502, 503, 504})  # the statuses that OTLP says to retry
_MOST_READ = 4096  # bytes of a collector's answer
_ONE = "OTEL_EXPORTER_OTLP_TRACES_"
_ALL = "OTEL_EXPORTER_OTLP_"
# A header as the SDK's `parse_env_headers` reads one.
_HEADER: Final = re.compile(r"\s*[!#$%&'*+.^_`|~0-9A-Za-z-]+[ \t]*=[ !#-+\--:<-\[\]-~]*\s*")


class NotTaken(CascadeError):
    """A collector took nothing of a message."""


@dataclass(frozen=True, slots=True)
class Destination:
    """Where spans go, and how.

    Attributes
    ----------
    url : str
    headers : mapping of str to str
        May hold a key.
    timeout : float
        Seconds for one message, retries included.
    compression : {"none", "gzip", "deflate"}
    verify : bool or str
        Whether the collector's certificate is checked, or the file of authorities to check it by.
    cert : str or (str, str), optional
        Files of the client's certificate, and of its key.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout: float = 10.0
    compression: str = "none"
    verify: bool | str = True
    cert: str | tuple[str, str] | None = None


def destination(endpoint: str | None, environment: Mapping[str, str] = os.environ) -> Destination:
    """Read where spans go: `OTEL_EXPORTER_OTLP_TRACES_*`, else `OTEL_EXPORTER_OTLP_*`.

    Parameters
    ----------
    endpoint : str, optional
        The configuration's, with its path; it comes before the environment's.
    environment : mapping of str to str

    Raises
    ------
    ConfigError
        A variable has a value that cannot be used, or names a file that is not there.
    """

    def named(name: str) -> tuple[str, str]:
        """Give a variable's name and value, both empty where it is not set."""
        for variable in (_ONE + name, _ALL + name):
            value = environment.get(variable, "").strip()
            if value:
                return variable, value
        return "", ""

    def file(name: str) -> str:
        variable, path = named(name)
        if path and not Path(path).exists():
            raise ConfigError(f"{variable}: there is no {path}")
        return path

    url = endpoint or environment.get(_ONE + "ENDPOINT", "").strip()
    if not url:
        base = environment.get(_ALL + "ENDPOINT", "").strip() or "http://localhost:4318"
        url = f"{base.removesuffix('/')}/v1/traces"
    if not _is_address(url):  # which is not shown: it may hold a key
        raise ConfigError("OTEL_EXPORTER_OTLP_ENDPOINT: expected an address such as http://localhost:4318")
    variable, text = named("TIMEOUT")
    try:
        timeout = float(text or 10)
    except ValueError:
        timeout = 0.0
    if not 0 < timeout < 3600:
        raise ConfigError(f"{variable}: expected seconds, more than 0 and less than 3600, found {text!r}")
    variable, text = named("COMPRESSION")
    compression = text.lower() or "none"
    if compression not in ("none", "gzip", "deflate"):
        raise ConfigError(f"{variable}: expected none, gzip or deflate, found {text!r}")
    headers = {"content-type": "application/x-protobuf", "user-agent": "cascade"}
    if compression != "none":
        headers["content-encoding"] = compression
    variable, text = named("HEADERS")
    for header in text.split(","):
        # What it cannot read, the SDK's function writes into the log, key and all, and leaves out.
        if header.strip() and _HEADER.fullmatch(header) is None:
            raise ConfigError(
                f"{variable}: expected name=value, more of them after commas, values URL-encoded"
            )
    headers |= parse_env_headers(text, liberal=True)
    certificate, key = file("CLIENT_CERTIFICATE"), file("CLIENT_KEY")
    return Destination(
        url, headers, timeout, compression,
        verify=file("CERTIFICATE") or True,
        cert=(certificate, key) if certificate and key else certificate or None,
    )  # fmt: skip


class OtlpSender:
    """Posts messages to a collector, and tries again while that makes sense. For one thread.

    Parameters
    ----------
    to : Destination
    """

    def __init__(self, to: Destination) -> None:
        self._to = to
        self._session = requests.Session()
        self._limited = LimitedAdapter()
        self._session.mount("http://", self._limited)
        self._session.mount("https://", self._limited)
        # What the answer says is read as it comes: a few bytes can be unpacked to gigabytes.
        self._session.headers.update({"accept-encoding": "identity"} | dict(to.headers))
        # Proxies and authorities of the environment, read once instead of at each call.
        found = self._session.merge_environment_settings(to.url, {}, False, to.verify, to.cert)
        self._session.trust_env = False
        self._session.proxies = found["proxies"]
        self._verify, self._cert = found["verify"], found["cert"]
        self._request: requests.PreparedRequest | None = None

    def send(self, message: bytes, closing: threading.Event) -> int:
        """Send an `ExportTraceServiceRequest`, and give how many spans of it the collector refused.

        Parameters
        ----------
        message : bytes
        closing : threading.Event
            Once it is set, there is one try left.

        Raises
        ------
        NotTaken
            The collector took none, and trying on makes no sense or would take too long.
        """
        body = _compressed(message, self._to.compression)
        end = time.monotonic() + self._to.timeout
        tries = 0
        while True:
            last = closing.is_set()
            asked: float | None = None
            left = max(0.1, end - time.monotonic())
            try:
                with self._limited.limit(left), self._post(body, left) as response:
                    if self._limited.cut:  # in the middle of the head, which then looks like a whole one
                        raise requests.Timeout
                    if response.status_code < 300:
                        return _refused(response)
                    why = f"the collector answered HTTP {response.status_code}"
                    asked = _retry_after(response.headers.get("retry-after", ""))
                    again = response.status_code in _AGAIN
            except (requests.ConnectionError, requests.Timeout) as error:
                why, again = f"the collector was not reached: {_cause(error)}", True
                if self._limited.cut:
                    why = "the collector did not answer in time"
            except requests.RequestException as error:
                raise NotTaken(f"the collector was not asked: {_cause(error)}") from error
            # At once the first time: commonest is a connection that the collector closed meanwhile.
            pause = 2 ** (tries - 1) * random.uniform(0.8, 1.2) if tries else 0.0
            pause = pause if asked is None else asked
            tries += 1
            if not again or last or time.monotonic() + pause >= end:
                raise NotTaken(why)
            closing.wait(pause)

    def _post(self, body: bytes, timeout: float) -> requests.Response:
        if self._request is None:  # an address that cannot be used is said like any other failure
            self._request = self._session.prepare_request(requests.Request("POST", self._to.url))
        request = self._request.copy()
        request.prepare_body(body, None)
        return self._session.send(
            request, timeout=timeout, stream=True, allow_redirects=False, verify=self._verify,
            cert=self._cert, proxies=self._session.proxies,
        )  # fmt: skip

    def close(self) -> None:
        """Let go of the connection."""
        self._session.close()


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        _ = parts.port  # which is read only when it is asked for
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def _compressed(message: bytes, how: str) -> bytes:
    if how == "gzip":
        return gzip.compress(message, compresslevel=1)
    return zlib.compress(message, level=1) if how == "deflate" else message


def _refused(response: requests.Response) -> int:
    """Read how many spans were refused of a message that was taken."""
    length = response.headers.get("content-length", "")
    if not length.isdecimal() or int(length) > _MOST_READ:
        return 0  # left unread, so that nothing that a collector sends takes memory
    try:
        answer = ExportTraceServiceResponse.FromString(response.raw.read(decode_content=False))
    except (DecodeError, HTTPError):
        return 0
    return answer.partial_success.rejected_spans


def _retry_after(text: str) -> float | None:
    """Read `Retry-After`: seconds from now on; None for none."""
    text = text.strip()
    if text.isdecimal():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def _cause(error: BaseException) -> str:
    """Say what went wrong beneath; the error's own text holds the address, and with it perhaps a key."""
    below: BaseException | None = error
    while below is not None:
        if isinstance(below, OSError) and below.strerror:
            return below.strerror
        below = below.__cause__ or below.__context__
    return type(error).__name__
