"""A labelled set for redaction: made-up values in everyday sentences, handwritten ones, and hard negatives.

Every value is random; none is a person's. A row is a text with the values that must not be stored.
"""

from __future__ import annotations

import random
import string
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """A text, and its values: `(kind, value)` in the order of the text."""

    text: str
    values: tuple[tuple[str, str], ...] = ()


_FIRST = [
    "anna",
    "ben",
    "chidi",
    "dana",
    "elif",
    "farid",
    "greta",
    "hugo",
    "ines",
    "jonas",
    "kavya",
    "liam",
    "mei",
    "noor",
    "olga",
    "paolo",
    "quinn",
    "rosa",
]
_LAST = [
    "abel",
    "berg",
    "costa",
    "dubois",
    "eze",
    "fischer",
    "garcia",
    "hansen",
    "ito",
    "jansen",
    "kim",
    "lopez",
    "moreau",
    "novak",
    "okafor",
    "popov",
]
_DOMAINS = (
    "example.com mail.example.org shop.example.co.uk web-host.example.de beispiel.example firma.example.io"
)

_SENTENCES = (
    "my {kind} is {v}, please update it", "{v} - that's the one on file", "please use {v} from now on",
    "hi, I ordered last week and gave {v}; did it arrive?", "can you check {v}? thanks", "{v}",
    "It should say {v}.", "Wrong details again!!! It's {v}, not the old one.", "(see {v})",
    "user said: '{v}' and then left", "contact={v};lang=en", "Guten Tag, hier ist {v}, bitte ändern",
    "bonjour, voici {v} merci", "I typed \"{v}\" and got error 500 at 12:30", "updated to {v}\nregards, team",
)  # fmt: skip
_NAMES = {
    "EMAIL": "email", "PHONE": "phone number", "CARD": "card", "IBAN": "IBAN", "IP": "address",
    "NATIONAL_ID": "id number", "SECRET": "key", "CREDENTIALS": "URL",
}  # fmt: skip


def _luhn_digit(body: str) -> str:
    total = sum(v - 9 if v > 9 else v for v in (int(d) * (2 - at % 2) for at, d in enumerate(reversed(body))))
    return str(-total % 10)


class _Maker:
    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)

    def digits(self, n: int) -> str:
        return "".join(self.rng.choice(string.digits) for _ in range(n))

    def email(self) -> str:
        rng = self.rng
        first, last = rng.choice(_FIRST), rng.choice(_LAST)
        user = rng.choice([
            f"{first}.{last}", f"{first[0]}{last}", f"{first}_{last}{self.digits(2)}", f"{first}+shop",
            f"{first.title()}.{last.title()}", f"{last}-{first}", "info", f"{first}{self.digits(4)}",
        ])  # fmt: skip
        return f"{user}@{rng.choice(_DOMAINS.split())}"

    def phone(self) -> str:
        d, rng = self.digits, self.rng
        return rng.choice([
            f"+49 {rng.choice(['30', '89', '171'])} {d(7)}", f"+44 20 {d(4)} {d(4)}", f"+1-{rng.randint(201, 989)}-{d(3)}-{d(4)}",
            f"({rng.randint(201, 989)}) {rng.randint(201, 989)}-{d(4)}", f"{rng.randint(201, 989)}-{rng.randint(201, 989)}-{d(4)}",
            f"{rng.randint(201, 989)}.{rng.randint(201, 989)}.{d(4)}", f"+33 6 {d(2)} {d(2)} {d(2)} {d(2)}", f"+91{rng.choice('6789')}{d(9)}",
            f"0{rng.choice(['30', '171', '89'])}/{d(7)}", f"07{d(3)} {d(6)}", f"0049 {rng.randint(151, 179)} {d(7)}", f"+55 (11) 9{d(4)}-{d(4)}",
        ])  # fmt: skip

    def card(self) -> str:
        rng = self.rng
        prefix, n = rng.choice(
            [
                ("4", 16),
                ("51", 16),
                ("55", 16),
                ("2221", 16),
                ("34", 15),
                ("37", 15),
                ("6011", 16),
                ("3530", 16),
            ]
        )
        body = prefix + self.digits(n - len(prefix) - 1)
        number = body + _luhn_digit(body)
        if n == 15:
            return rng.choice([number, f"{number[:4]} {number[4:10]} {number[10:]}"])
        groups = [number[i : i + 4] for i in range(0, n, 4)]
        return rng.choice([number, " ".join(groups), "-".join(groups)])

    def iban(self) -> str:
        rng = self.rng
        country, bban = rng.choice([
            ("DE", self.digits(18)), ("FR", self.digits(10) + "N" + self.digits(10) + self.digits(2)),
            ("GB", "WEST" + self.digits(14)), ("ES", self.digits(20)), ("NL", "ABNA" + self.digits(10)),
            ("IT", "X" + self.digits(22)), ("PL", self.digits(24)), ("CH", self.digits(17)), ("NO", self.digits(11)),
        ])  # fmt: skip
        turned = "".join(str(int(c, 36)) for c in bban + country + "00")
        compact = f"{country}{98 - int(turned) % 97:02d}{bban}"
        spaced = " ".join(compact[i : i + 4] for i in range(0, len(compact), 4))
        return rng.choice([compact, spaced, compact.lower(), spaced.lower()])

    def ip(self) -> str:
        rng = self.rng
        return rng.choice([
            ".".join(str(rng.randint(1, 254)) for _ in range(4)),
            ":".join(f"{rng.randrange(1, 65536):x}" for _ in range(8)), f"fe80::{rng.randrange(65536):x}:{rng.randrange(1, 65536):x}",
            f"2001:db8::{rng.randrange(1, 65536):x}",
        ])  # fmt: skip

    def national_id(self) -> str:
        d, rng = self.digits, self.rng
        dni = rng.randrange(10**7, 10**8)
        cpf = d(9)
        for n in (9, 10):
            cpf += str(sum(int(c) * (n + 1 - at) for at, c in enumerate(cpf)) * 10 % 11 % 10)
        nir = f"{rng.choice('12')}{rng.randint(40, 99)}{rng.randint(1, 12):02d}{rng.randint(1, 95):02d}{d(6)}"
        return rng.choice([
            f"{rng.randint(1, 665):03d}-{rng.randint(1, 99):02d}-{rng.randint(1, 9999):04d}",
            f"{rng.randint(1, 665):03d} {rng.randint(1, 99):02d} {rng.randint(1, 9999):04d}",
            f"{rng.choice('ABCEHJ')}{rng.choice('ABCEHJ')} {d(2)} {d(2)} {d(2)} {rng.choice('ABCD')}",
            f"{dni}{'TRWAGMYFPDXBNJZSQVHLCKE'[dni % 23]}",
            f"{cpf[:3]}.{cpf[3:6]}.{cpf[6:9]}-{cpf[9:]}", f"{nir}{97 - int(nir) % 97:02d}",
        ])  # fmt: skip

    def secret(self) -> str:
        letters = string.ascii_letters + string.digits
        token = "".join(self.rng.choice(letters) for _ in range(40))
        return self.rng.choice([
            f"sk-{token[:32]}", f"sk-proj-{token}", f"ghp_{token[:36]}", f"AKIA{token[:16].upper()}", f"xoxb-{self.digits(12)}-{token[:20]}",
            f"glpat-{token[:20]}", f"eyJhbGciOiJIUzI1NiJ9.{token[:30]}.{token[5:]}", f"AIza{token[:35]}", f"hf_{token[:34]}",
        ])  # fmt: skip

    def credentials(self) -> tuple[str, str]:
        user, word = self.rng.choice(_FIRST), self.digits(3) + self.rng.choice(_LAST)
        scheme, host = (
            self.rng.choice(["https", "postgres", "redis", "ftp"]),
            self.rng.choice(["db.local", "host:8080/x"]),
        )
        return f"{user}:{word}", f"{scheme}://{user}:{word}@{host}"


HANDWRITTEN: tuple[Row, ...] = (
    Row("pls mail me:jo.d@example.com.", (("EMAIL", "jo.d@example.com"),)),
    Row("<kim@example.org> wrote: where is it", (("EMAIL", "kim@example.org"),)),
    Row("MAX.MUSTERMANN@FIRMA.EXAMPLE and lea@example.net", (("EMAIL", "MAX.MUSTERMANN@FIRMA.EXAMPLE"), ("EMAIL", "lea@example.net"))),
    Row("mailto:help+vip@example.com?subject=hi", (("EMAIL", "help+vip@example.com"),)),
    Row("write to søren@example.dk", (("EMAIL", "søren@example.dk"),)),
    Row("bob at example dot com is my mail", (("EMAIL", "bob at example dot com"),)),
    Row("call me on 5551234567 after six", (("PHONE", "5551234567"),)),
    Row("my cell: 555 123 4567", (("PHONE", "555 123 4567"),)),
    Row("tel. 030 12345678 (office)", (("PHONE", "030 12345678"),)),
    Row("you can reach me at 07700 900123 any time", (("PHONE", "07700 900123"),)),
    Row("whatsapp +5511987654321 only", (("PHONE", "+5511987654321"),)),
    Row("phone number five five five one two three four", (("PHONE", "five five five one two three four"),)),
    Row("+1 (415) 555-0132 ext. 12", (("PHONE", "+1 (415) 555-0132"),)),
    Row("1-800-555-0199 is your hotline?", (("PHONE", "1-800-555-0199"),)),
    Row("card no 4111-1111-1111-1111, exp 04/27, cvv 123", (("CARD", "4111-1111-1111-1111"), ("SECRET", "123"))),
    Row("AMEX 378282246310005 declined", (("CARD", "378282246310005"),)),
    Row("4242424242424242/5555555555554444 both fail", (("CARD", "4242424242424242"), ("CARD", "5555555555554444"))),
    Row("IBAN: GB82 WEST 1234 5698 7654 32", (("IBAN", "GB82 WEST 1234 5698 7654 32"),)),
    Row("de89370400440532013000 ist mein konto", (("IBAN", "de89370400440532013000"),)),
    Row("transfer to NL91ABNA0417164300 today please", (("IBAN", "NL91ABNA0417164300"),)),
    Row("SSN 536-90-4399 on the form", (("NATIONAL_ID", "536-90-4399"),)),
    Row("my social security number is 536904399", (("NATIONAL_ID", "536904399"),)),
    Row("NI number QQ 12 34 56 C", (("NATIONAL_ID", "QQ 12 34 56 C"),)),
    Row("codice fiscale RSSMRA85T10A562S", (("NATIONAL_ID", "RSSMRA85T10A562S"),)),
    Row("DNI 12345678Z caducado", (("NATIONAL_ID", "12345678Z"),)),
    Row("login from 203.0.113.77:8443 blocked", (("IP", "203.0.113.77"),)),
    Row("ping 10.0.0.1 works, ::ffff:192.0.2.33 does not", (("IP", "10.0.0.1"), ("IP", "::ffff:192.0.2.33"))),
    Row("my password is Tr0ub4dor&3 and it fails", (("SECRET", "Tr0ub4dor&3"),)),
    Row("password: hunter2", (("SECRET", "hunter2"),)),
    Row("passwort ist Sommer2024!", (("SECRET", "Sommer2024!"),)),
    Row("export OPENAI_API_KEY=sk-abcdefghijklmnopqrstuv123456", (("SECRET", "sk-abcdefghijklmnopqrstuv123456"),)),
    Row("Authorization: Bearer a8f5f167f44f4964e6c998dee827110c", (("SECRET", "a8f5f167f44f4964e6c998dee827110c"),)),
    Row("api key = '9d3f0a7be1'", (("SECRET", "9d3f0a7be1"),)),
    Row("my pin is 4821", (("SECRET", "4821"),)),
    Row("git clone https://bot:ghx_12345abc@git.example.com/r.git", (("CREDENTIALS", "bot:ghx_12345abc"),)),
    Row("postgresql://app:s3cr3t@db:5432/prod", (("CREDENTIALS", "app:s3cr3t"),)),
)  # fmt: skip

HARD_NEGATIVES: tuple[str, ...] = (
    "order 4500123456789013 has not arrived", "tracking 1Z999AA10123456784", "parcel 00340434161094042557 lost",
    "invoice 2024-11-0042 is wrong", "ticket #123-45-678 still open", "RMA 555-1234", "sku 8806090572647 in black",
    "isbn 978-3-16-148410-0", "ean 4006381333931 not found", "part no. 12-3456-7890", "room 12.04.18", "case 00012345678",
    "update to v1.2.3.4 broke it", "version 10.0.19045.3693 of windows", "firmware 2.14.0.11", "release 4.3.2.1 notes",
    "section 3.2.1.4 says no", "it was 12:30:45 when it stopped", "mac 00:1b:44:11:3a:b7 is my router",
    "std::vector<int>::iterator fails", "ratio 16:9:4", "2001 a space odyssey", "on 2024-11-03 at 10:15:00", "03/11/2024 to 05/11/2024",
    "flight LH 454 on 12 Dec seat 23A", "booking ABC123 for 2 adults 3 kids", "train ICE 1234 at 18:07", "price is 1.299,00 EUR",
    "it costs $1,234,567.89 in total", "10 000 000 people", "coordinates 52.5200, 13.4050", "lat 48.137154 lon 11.576124",
    "pi is 3.14159265358979", "1234567890 results found", "order number 1234567890", "my order 9876543210 is late",
    "account balance 100000", "transfer 2500 to savings", "set alarm 0700", "page 1200-1234", "years 1999-2024", "2020 2021 2022 2023",
    "follow me @cascade on the app", "email me please", "what is an @ sign", "user@ is not complete", "@home by 5", "a@b",
    "meet @ 7pm at main st 12", "price @ 12.50 each", "I forgot my password", "my password is wrong", "password: required",
    "reset token please", "the token expired", "secret santa 2024", "api key rotation policy", "bearer of bad news", "pin it on the board 3 times",
    "the key is under mat 2", "task-based learning in 2024", "sk-learn 1.9 pipeline", "ski-resort-booking-number-one", "uuid 550e8400-e29b-41d4-a716-446655440000",
    "commit 9fceb02d0ae598e95dc970b74767f19372d61af8", "md5 d41d8cd98f00b204e9800998ecf8427e", "sha256 e3b0c44298fc1c149afbf4c8996fb924",
    "call me maybe", "call center closes at 22:00", "phone is broken since 2023", "mobile app version 4.12.0", "telefon 3 Tage kaputt",
    "play track 0 to 100", "add 555 to my list", "channel 101.5 fm", "highway 101 exit 23", "model 3500-1200", "size 38-40-42", "odds 5-2-1",
    "127.0.0.1 is localhost", "netmask 255.255.255.0", "0.0.0.0 listens everywhere", "DE is a country code", "GB00 is no iban start",
    "http://example.com:8080/path?x=1", "https://example.com/a@b/c", "see https://shop.example/item/12345678901234", "ftp://host/file_2024_11_03.zip",
    "chapter 1.2.3.4 verse", "add 12 34 56 78 and sum them", "numbers 4 8 15 16 23 42", "dial 911", "emergency 112 or 999", "pay 30 30 40 percent",
    "1-2-3 go", "score was 110-98-12", "2x4x8 lumber", "resolution 1920 1080 60", "vin 1HGCM82633A004352", "plate B-MW 1234", "zip 94103-1234",
    "10115 Berlin, Str. 12", "size 12345678 bytes", "error 0x80070057", "code E11000 dup key", "born in berlin", "article 8 gdpr",
)  # fmt: skip


def rows(n: int = 640, seed: int = 0) -> list[Row]:
    """Give the set: `n` generated rows with values, the handwritten ones, and the hard negatives."""
    maker = _Maker(seed)
    made: list[Row] = []
    kinds = list(_NAMES)
    for i in range(n):
        kind = kinds[i % len(kinds)]
        if kind == "CREDENTIALS":
            value, shown = maker.credentials()
        else:
            value = shown = str(getattr(maker, kind.lower())())
        sentence = maker.rng.choice(_SENTENCES)
        made.append(Row(sentence.format(v=shown, kind=_NAMES[kind]), ((kind, value),)))
    return made + list(HANDWRITTEN) + [Row(text) for text in HARD_NEGATIVES]
