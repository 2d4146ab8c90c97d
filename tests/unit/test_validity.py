"""When certificates are valid is read as a library of certificates reads it."""

import base64
import datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes

from cascade.server.validity import periods


def made(
    begin: datetime.datetime,
    end: datetime.datetime,
    key: CertificateIssuerPrivateKeyTypes | None = None,
    issuer: str = "an authority",
) -> x509.Certificate:
    key = key or ec.generate_private_key(ec.SECP256R1())
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")]))
        .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, issuer)] * 3))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .sign(key, hashes.SHA256())
    )


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def utc(*numbers: int) -> datetime.datetime:
    return datetime.datetime(*numbers, tzinfo=datetime.UTC)  # type: ignore[arg-type,misc]


@pytest.mark.parametrize(
    ("begin", "end"),
    [
        (utc(2026, 1, 2, 3, 4, 5), utc(2027, 12, 31, 23, 59, 59)),
        (utc(1970, 1, 1), utc(1999, 12, 31)),  # before the turn of the century
        (
            utc(2049, 12, 31, 23, 59, 59),
            utc(2050, 1, 1),
        ),  # on either side of where the way to write it changes
        (utc(2026, 1, 1), utc(9999, 12, 31, 23, 59, 59)),  # "has no end", RFC 5280
    ],
)
def test_both_ends_are_those_that_a_library_reads(begin: datetime.datetime, end: datetime.datetime) -> None:
    certificate = made(begin, end)
    ((found_begin, found_end),) = periods(pem(certificate))
    assert found_begin == certificate.not_valid_before_utc.timestamp()
    assert found_end == certificate.not_valid_after_utc.timestamp()


def test_a_file_has_all_of_its_certificates_in_order_whatever_else_is_in_it() -> None:
    first = made(utc(2020, 1, 1), utc(2021, 1, 1), rsa.generate_private_key(65537, 4096), "o" * 60)
    second = made(utc(2022, 1, 1), utc(2023, 1, 1))
    text = (
        b"# \xc3\xa9\r\n"
        + pem(first).replace(b"\n", b"\r\n")
        + b"subject=x\n"
        + pem(second)
        + b"-----BEGIN X"
    )
    assert [found.begin for found in periods(text)] == [
        each.not_valid_before_utc.timestamp() for each in (first, second)
    ]
    assert periods(b"") == []


def test_the_authorities_of_this_machine_are_read_alike() -> None:
    bundle = Path("/etc/ssl/certs/ca-certificates.crt")
    if not bundle.exists():
        pytest.skip("this machine has no file of authorities")
    raw = bundle.read_bytes()
    expected = [
        (each.not_valid_before_utc.timestamp(), each.not_valid_after_utc.timestamp())
        for each in x509.load_pem_x509_certificates(raw)
    ]
    assert len(expected) > 10
    assert [tuple(found) for found in periods(raw)] == expected


def test_what_is_cut_off_or_changed_gives_a_wrong_value_at_most_and_no_other_error() -> None:
    der = made(utc(2026, 1, 1), utc(2027, 1, 1)).public_bytes(serialization.Encoding.DER)
    for at in range(len(der)):
        for broken in (der[:at], der[:at] + bytes([der[at] ^ 0xFF]) + der[at + 1 :]):
            text = (
                b"-----BEGIN CERTIFICATE-----\n" + base64.b64encode(broken) + b"\n-----END CERTIFICATE-----\n"
            )
            try:
                periods(text)
            except ValueError:
                continue
