"""Check digits and ranges: what tells a card number from an order number."""

from __future__ import annotations

import ipaddress

IBAN_LENGTHS = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BR": 29,
    "BY": 28, "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "DO": 28, "EE": 20, "EG": 29,
    "ES": 24, "FI": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28,
    "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20,
    "LB": 28, "LC": 32, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "MC": 27, "MD": 24, "ME": 22, "MK": 19,
    "MR": 27, "MT": 31, "MU": 30, "NL": 18, "NO": 15, "PK": 24, "PL": 28, "PS": 29, "PT": 25, "QA": 29,
    "RO": 24, "RS": 22, "SA": 24, "SC": 31, "SE": 24, "SI": 19, "SK": 24, "SM": 27, "TN": 24, "TR": 26,
    "UA": 29, "VA": 22, "VG": 24, "XK": 20,
}  # fmt: skip
"""Characters of an IBAN by country (SWIFT's IBAN registry)."""


def luhn(digits: str) -> bool:
    """Check a card number's last digit (ISO/IEC 7812-1).

    Examples
    --------
    >>> luhn("4111111111111111"), luhn("4111111111111112")
    (True, False)
    """
    total = 0
    for at, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + at % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def is_card(digits: str) -> bool:
    """Say whether digits are a payment card's: a known issuer's range, its length, and the check digit."""
    n, first, two, four = len(digits), digits[0], int(digits[:2]), int(digits[:4])
    known = (
        (first == "4" and n in {13, 16, 19})
        or ((51 <= two <= 55 or 2221 <= four <= 2720) and n == 16)
        or (two in {34, 37} and n == 15)
        or ((two in {36, 38, 39} or 3000 <= four <= 3059) and 14 <= n <= 19)
        or (3528 <= four <= 3589 and 16 <= n <= 19)
        or ((four == 6011 or two in {62, 64, 65} or two in {50, 56, 57, 58, 63, 67, 68}) and 13 <= n <= 19)
    )
    return known and luhn(digits)


def is_iban(compact: str) -> bool:
    """Check an IBAN without spaces, in upper case, by the remainder modulo 97 (ISO 13616).

    Examples
    --------
    >>> is_iban("DE89370400440532013000"), is_iban("DE89370400440532013001")
    (True, False)
    """
    if IBAN_LENGTHS.get(compact[:2]) != len(compact):
        return False
    turned = compact[4:] + compact[:4]
    return int("".join(str(int(c, 36)) for c in turned)) % 97 == 1


def is_us_ssn(digits: str) -> bool:
    """Say whether nine digits can be a US social security number or taxpayer number."""
    return digits[:3] not in {"000", "666"} and digits[3:5] != "00" and digits[5:] != "0000"


def is_spanish_id(compact: str) -> bool:
    """Check the letter of a DNI or NIE."""
    number = compact[:-1].translate(str.maketrans("XYZ", "012"))
    return number.isdigit() and "TRWAGMYFPDXBNJZSQVHLCKE"[int(number) % 23] == compact[-1]


def is_cpf(digits: str) -> bool:
    """Check a Brazilian CPF's two check digits."""
    if len(set(digits)) == 1:
        return False
    for n in (9, 10):
        total = sum(int(d) * (n + 1 - at) for at, d in enumerate(digits[:n]))
        if (total * 10 % 11) % 10 != int(digits[n]):
            return False
    return True


def is_nir(digits: str) -> bool:
    """Check a French NIR's key; Corsican departments are given as 19 and 18."""
    return 1 <= int(digits[0]) <= 4 and (97 - int(digits[:13]) % 97) == int(digits[13:15])


_ODD = dict(zip("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", (
    1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14,
    16, 10, 22, 25, 24, 23,
), strict=True))  # fmt: skip


def is_codice_fiscale(compact: str) -> bool:
    """Check an Italian codice fiscale's last letter."""
    if not compact.isascii():  # other scripts' digits, and letters that only resemble Latin ones without case
        return False
    total = sum(
        (_ODD[c] if at % 2 == 0 else int(c) if c.isdigit() else ord(c) - 65)
        for at, c in enumerate(compact[:15])
    )
    return chr(65 + total % 26) == compact[15]


def is_ip(text: str) -> bool:
    """Say whether a text is an IP address that names a machine: not all zeros, not the loopback, no mask."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return not (address.is_unspecified or address.is_loopback or text.startswith("255."))
