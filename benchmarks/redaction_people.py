"""A labelled set for names of persons and postal addresses: made-up ones in everyday sentences, and hard negatives.

First and last names, streets and towns are put together at random; none is meant to be a person's. Half of the
generated rows are written without capitals, as people write to an assistant. A town or a country alone is no
address, a brand is no person, and neither is a day, a month or a word that is a name as well.
"""

from __future__ import annotations

import random

from benchmarks.redaction_set import Row

_FIRST = (
    "Anna Benjamin Chidi Dana Elif Farid Greta Hugo Ines Jonas Kavya Liam Mei Noor Olga Paolo Rosa Samuel Tunde "
    "Yuki Margaret José Björn Aisha Wei Priya Kwame Siobhán Dmitri Fatima Carlos Emily Mohammed Sophie Thomas Zoë"
).split()
_LAST = (
    "Abel Berg Costa Dubois Eze Fischer García Hansen Ito Jansen Kim Lopez Moreau Novak Okafor Popov Quispe Rossi "
    "Schmidt Tanaka Usman Vargas Weber Xu Yilmaz Zhang O'Brien McAllister Johnson Patel Nguyen Andersson Müller"
).split()
_PERSON = (
    "my name is {v}, I need help", "this is {v} speaking", "Hi, I'm {v} and my parcel is late", "{v}",
    "please add {v} as a second driver", "the account is held by {v}", "send it to {v} instead",
    "I talked to {v} yesterday and nothing happened", "thanks, {v}", "Kind regards,\n{v}", "Dear {v}, your refund is here",
    "is {v} still working for you?", "Mr. {v} asked for a callback", "can you transfer 50 euros to {v}", "name: {v}",
    "the ticket was booked for {v} and two children", "{v} can't log in since Monday", "cc {v} on that please",
    "change the surname, it should be {v}", "my husband {v} will pick it up",
)  # fmt: skip
_ADDRESS = (
    "my address is {v}", "please deliver to {v}", "I moved to {v} last month", "{v}", "ship it to {v}, thanks",
    "I live at {v} and the courier can't find it", "billing address: {v}", "the taxi should come to {v} at 8",
    "change the delivery address from {v} please", "we are at {v}, second floor", "pick me up at {v}",
    "is {v} in your service area?",
)  # fmt: skip
_STREETS = (
    "Main Oak Maple Cedar Hillside Washington Victoria Church Station Kings Mill Lakeview Elm Park".split()
)
_US_TOWNS = (
    "Springfield, IL|Austin, TX|Portland, OR|Salem, MA|Denver, CO|Madison, WI|Boise, ID|Tampa, FL".split("|")
)
_UK_TOWNS = (
    "Leeds LS1 4AP|Bristol BS1 5TR|London SW1A 2AA|Manchester M4 5JD|York YO1 7HH|Cardiff CF10 1EP".split("|")
)
_DE_STREETS = (
    "Hauptstraße Lindenweg Bahnhofstr. Goethestraße Kirchgasse Schillerplatz Gartenweg Bergstrasse".split()
)
_DE_TOWNS = "10115 Berlin|80331 München|50667 Köln|20095 Hamburg|04109 Leipzig|1010 Wien|8001 Zürich".split(
    "|"
)
_FR_STREETS = "rue de la Paix|avenue Victor Hugo|boulevard Voltaire|rue des Lilas|place de la Mairie".split(
    "|"
)
_FR_TOWNS = "75002 Paris|69003 Lyon|13001 Marseille|31000 Toulouse|1000 Bruxelles".split("|")
_ES_STREETS = "Calle Mayor|Calle de Alcalá|Avenida de la Constitución|Via Roma|Via Garibaldi".split("|")
_ES_TOWNS = "28013 Madrid|41001 Sevilla|00184 Roma|20121 Milano|08002 Barcelona".split("|")


def _person(rng: random.Random) -> str:
    first, last = rng.choice(_FIRST), rng.choice(_LAST)
    return rng.choice(
        [f"{first} {last}"] * 4
        + [f"{first} {rng.choice('ABDEJMR')}. {last}", f"{first} {last}-{rng.choice(_LAST)}"]
    )


def _address(rng: random.Random) -> str:
    n, street = rng.randint(1, 240), rng.choice(_STREETS)
    kind = rng.choice(["St", "Street", "Ave", "Avenue", "Road", "Rd", "Lane", "Drive", "Blvd", "Court"])
    return rng.choice([
        f"{n} {street} {kind}, {rng.choice(_US_TOWNS)} {rng.randint(10000, 99999)}",
        f"{rng.randint(100, 9999)} {rng.choice(['N', 'W', 'E', 'S'])} {street} {kind} Apt {rng.randint(1, 40)}, {rng.choice(_US_TOWNS)} {rng.randint(10000, 99999)}",
        f"{n} {street} {rng.choice(['Road', 'Street', 'Lane', 'Close'])}, {rng.choice(_UK_TOWNS)}",
        f"Flat {rng.randint(1, 30)}, {n} {street} Road, {rng.choice(_UK_TOWNS)}",
        f"{rng.choice(_DE_STREETS)} {n}, {rng.choice(_DE_TOWNS)}",
        f"{rng.choice(_DE_STREETS)} {n}{rng.choice('abc')}, {rng.choice(_DE_TOWNS)}",
        f"{n} {rng.choice(_FR_STREETS)}, {rng.choice(_FR_TOWNS)}",
        f"{rng.choice(_ES_STREETS)} {n}, {rng.choice(_ES_TOWNS)}",
        f"{n} {street} {kind}",
    ])  # fmt: skip


HANDWRITTEN: tuple[Row, ...] = (
    Row("hi its priya from accounts, can you reset my pin", (("PERSON", "priya"),)),
    Row("Tell Maria I'll be late", (("PERSON", "Maria"),)),
    Row("I'd like to speak with Ms. Okonkwo about my mortgage", (("PERSON", "Okonkwo"),)),
    Row("passenger names: John Whitfield, Ana Whitfield", (("PERSON", "John Whitfield"), ("PERSON", "Ana Whitfield"))),
    Row("the doctor was Dr. Lindqvist at the north clinic", (("PERSON", "Lindqvist"),)),
    Row("WHITFIELD/JOHN MR booked the wrong date", (("PERSON", "WHITFIELD/JOHN"),)),
    Row("Ich heiße Katharina Vogt und warte auf mein Paket", (("PERSON", "Katharina Vogt"),)),
    Row("je m'appelle Lucie Bernard, je n'ai rien reçu", (("PERSON", "Lucie Bernard"),)),
    Row("me llamo Andrés Molina", (("PERSON", "Andrés Molina"),)),
    Row("my daughter Leila lost her card", (("PERSON", "Leila"),)),
    Row("remind me to call grandma Edith tomorrow", (("PERSON", "Edith"),)),
    Row("text Hassan that dinner is at eight", (("PERSON", "Hassan"),)),
    Row("the seller 'Igor Petrenko' never answered", (("PERSON", "Igor Petrenko"),)),
    Row("Invoice for Wanjiru Kamau, due Friday", (("PERSON", "Wanjiru Kamau"),)),
    Row("PO Box 1187, Anchorage, AK 99510 is where I get mail", (("ADDRESS", "PO Box 1187, Anchorage, AK 99510"),)),
    Row("c/o Harbor House, 17 Quay Street, Galway H91 XY12", (("ADDRESS", "17 Quay Street, Galway H91 XY12"),)),
    Row("house no 12, MG Road, Bengaluru 560001", (("ADDRESS", "12, MG Road, Bengaluru 560001"),)),
    Row("deliver to Karl-Marx-Allee 34 in Berlin please", (("ADDRESS", "Karl-Marx-Allee 34"),)),
    Row("we live on 221b Baker Street", (("ADDRESS", "221b Baker Street"),)),
    Row("Rua Augusta 1500, São Paulo 01304-001", (("ADDRESS", "Rua Augusta 1500, São Paulo 01304-001"),)),
)  # fmt: skip

FRESH: tuple[Row, ...] = (
    Row("good evening, Ferdinand Achterberg here", (("PERSON", "Ferdinand Achterberg"),)),
    Row("can I add my wife Joanna as a joint holder", (("PERSON", "Joanna"),)),
    Row("the agent called Brandon was rude to me", (("PERSON", "Brandon"),)),
    Row("i paid rashida mensah by mistake", (("PERSON", "rashida mensah"),)),
    Row("Cheque made out to H. J. Pemberton", (("PERSON", "H. J. Pemberton"),)),
    Row("Signed: Xiaoming Liu, tenant", (("PERSON", "Xiaoming Liu"),)),
    Row("please cancel for Mrs Delacroix-Hahn", (("PERSON", "Delacroix-Hahn"),)),
    Row("reservation under Castellanos at 7pm", (("PERSON", "Castellanos"),)),
    Row("my son Arjun Mehta and I travel together", (("PERSON", "Arjun Mehta"),)),
    Row("hey, kevin again. still nothing", (("PERSON", "kevin"),)),
    Row("new place: 5521 Sycamore Ridge Dr, Plano, TX 75024", (("ADDRESS", "5521 Sycamore Ridge Dr, Plano, TX 75024"),)),
    Row("The Old Vicarage, Nether Wallop, SO20 8ES", (("ADDRESS", "The Old Vicarage, Nether Wallop, SO20 8ES"),)),
    Row("ich wohne in der Rosenstraße 19, 70182 Stuttgart", (("ADDRESS", "Rosenstraße 19, 70182 Stuttgart"),)),
    Row("apt 4c, 77 west 3rd street, new york", (("ADDRESS", "apt 4c, 77 west 3rd street"),)),
    Row("Kerkstraat 12, 1017 GL Amsterdam", (("ADDRESS", "Kerkstraat 12, 1017 GL Amsterdam"),)),
    Row("15 chemin des Vignes 1803 Chardonne", (("ADDRESS", "15 chemin des Vignes 1803 Chardonne"),)),
    Row("send the engineer to unit 9 Brookfield Business Park", (("ADDRESS", "unit 9 Brookfield Business Park"),)),
    Row("my place is at 8 Rowan Close, thanks", (("ADDRESS", "8 Rowan Close"),)),
    Row("collect from 300 Queen St W, Toronto ON M5V 2A2", (("ADDRESS", "300 Queen St W, Toronto ON M5V 2A2"),)),
    Row("Paseo de la Reforma 222, 06600 Ciudad de México", (("ADDRESS", "Paseo de la Reforma 222, 06600 Ciudad"),)),
)  # fmt: skip
"""Written after the detectors were, and not looked at while they were changed."""

HARD_NEGATIVES: tuple[str, ...] = (
    "book a flight from Berlin to Paris on May 4", "I paid with Apple Pay and Visa", "will my card work in Jordan",
    "the Victoria line is closed", "play some Mozart for the kids' room at 7", "my Dell laptop won't start", "order 12 Main dishes",
    "what's the weather in San Francisco", "is the Hilton at Gatwick open", "transfer money to my Santander account",
    "Mercedes C 180, 2019", "the Robin Hood stop", "I want the Lincoln edition in blue", "chase the refund please",
    "mark it as done", "bill me later", "frank answer please: is it in stock", "grace period of 14 days", "the April statement is wrong",
    "room 12 on floor 3", "exit 14 on Highway 9", "route 66 is long", "5 star hotels near the lake", "size 10 in the Main store",
    "gate 22, terminal 5, London", "set an alarm for 6 30", "how do I get to the airport", "Amazon says it left Leipzig on Tuesday",
    "the Black Friday offer ended", "do you ship to Switzerland or Austria", "contact customer service", "Dear Sir or Madam",
    "Kind regards, your support team", "Hello, my order is late", "Thank you so much", "my name is on the card", "Good morning", "HELP ME",
    "I'm Sorry", "this is Urgent", "I am Very disappointed", "ask Google", "Alexa, turn off the light", "Netflix charged me twice",
    "Top up my Revolut", "the PIN was blocked in Barcelona", "3 Days Drive time", "100 Park tickets", "12 Court fees were charged",
    "24 Street Food stalls", "the 9 Lane highway", "exchange 200 Swiss francs", "June bill", "why was I charged in Euros",
)  # fmt: skip


def rows(n: int = 400, seed: int = 1) -> list[Row]:
    """Give `n` generated rows, half of them names, half addresses, each half of it without capitals."""
    rng = random.Random(seed)
    made = []
    for i in range(n):
        kind, make, sentences = (("PERSON", _person, _PERSON), ("ADDRESS", _address, _ADDRESS))[i % 2]
        value, text = make(rng), rng.choice(sentences)
        if i % 4 > 1:
            value, text = value.lower(), text.lower()
        made.append(Row(text.format(v=value), ((kind, value),)))
    return made
