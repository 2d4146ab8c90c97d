"""Certificates for tests of TLS."""

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


def write_certificates(
    folder: Path,
    host: str = "127.0.0.1",
    days: tuple[float, float] = (-1, 1),
    ca_days: tuple[float, float] = (-1, 1),
) -> None:
    """Write ca.pem, and a certificate with its key for the server and for a client, all new; for one host.

    `days` says from when until when, from now, that of the server is valid; `ca_days` that of the authority.
    """

    def write(name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        (folder / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        (folder / f"{name}.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )

    now = datetime.datetime.now(datetime.UTC)
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test CA")])

    def issue(
        name: x509.Name, key: ec.EllipticCurvePrivateKey, ca: bool, days: tuple[float, float]
    ) -> x509.Certificate:
        begin, end = (now + datetime.timedelta(days=each) for each in days)
        numeric = host.replace(".", "").isdigit()
        address = x509.IPAddress(ipaddress.ip_address(host)) if numeric else x509.DNSName(host)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(ca_name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([address]), critical=False)
            .sign(ca_key, hashes.SHA256())
        )

    write("ca", issue(ca_name, ca_key, True, ca_days), ca_key)
    for who in ("server", "client"):
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, who)])
        write(who, issue(name, key, False, days if who == "server" else (-1, 1)), key)
