"""From when until when certificates are valid, read from PEM without a library of certificates."""

from __future__ import annotations

import binascii
import re
from datetime import UTC, datetime
from typing import NamedTuple

_PEM = re.compile(
    rb"-----BEGIN ((?:X509 |TRUSTED )?CERTIFICATE)-----(.+?)-----END \1-----", re.DOTALL
)  # as OpenSSL takes them
_INTEGER, _UTC_TIME, _GENERALIZED_TIME, _SEQUENCE, _VERSION = 0x02, 0x17, 0x18, 0x30, 0xA0


class Period(NamedTuple):
    """When a certificate is valid, in Unix time; both ends belong to it."""

    begin: float
    end: float


def periods(pem: bytes) -> list[Period]:
    """Give the period of each certificate, in the order of the file.

    Raises
    ------
    ValueError
        One is not the DER of an X.509 certificate.
    """
    return [_period(binascii.a2b_base64(body)) for _, body in _PEM.findall(pem)]


def _period(der: bytes) -> Period:
    # RFC 5280, 4.1: Certificate { TBSCertificate { [0] version OPTIONAL, serial, signature, issuer,
    # validity { notBefore, notAfter }, ... } ... }
    at, _ = _inside(der, 0, _SEQUENCE)
    at, _ = _inside(der, at, _SEQUENCE)
    if der[at : at + 1] == bytes([_VERSION]):
        _, at = _inside(der, at, _VERSION)
    for tag in (_INTEGER, _SEQUENCE, _SEQUENCE):
        _, at = _inside(der, at, tag)
    at, _ = _inside(der, at, _SEQUENCE)
    begin, at = _time(der, at)
    end, _ = _time(der, at)
    return Period(begin, end)


def _inside(der: bytes, at: int, *tags: int) -> tuple[int, int]:
    """Give where the content of an element begins and ends."""
    if at + 2 > len(der) or der[at] not in tags:
        raise ValueError("no X.509 certificate")
    length, at = der[at + 1], at + 2
    if length >= 0x80:
        more = length & 0x7F
        length, at = int.from_bytes(der[at : at + more], "big"), at + more
    if at + length > len(der):
        raise ValueError("an X.509 certificate that is cut off")
    return at, at + length


def _time(der: bytes, at: int) -> tuple[float, int]:
    begin, end = _inside(der, at, _UTC_TIME, _GENERALIZED_TIME)
    text = der[begin:end].decode("ascii")
    if der[at] == _UTC_TIME:  # of two digits of the year, from 50 on those of the last century
        text = ("19" if text >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp(), end
