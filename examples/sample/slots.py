"""Slot fillers and the small talk around a message; the notation is that of `support_intent.py`."""

import continue_or_stop as chats
import tool_choice as tools


def phrases(block: str) -> list[str]:
    """Split a table's block at line ends and ` // `."""
    return [
        part.strip() for line in block.strip().splitlines() for part in line.split(" // ") if part.strip()
    ]


SLOTS: dict[str, list[str]] = {
    name: phrases(block)
    for name, block in {
        "item": "kettle // rucksack // desk lamp // running shirt // headset // rain jacket // coffee grinder // office chair // phone case // blender // tent // winter coat // keyboard // bike lock // frying pan // yoga mat // watch // toaster // suitcase // rug // drill // denim jacket // speaker // tablet sleeve // garden hose // bookcase",
        "order": "order ~~~~~ // #~~~~~ // A-~~~~~~ // order no. ~~~~~~ // NW~~~~~ // my order // the order from last {wday} // order #~~~~~~",
        "no": "~~~~~ // #~~~~~~ // A-~~~~~~ // NW~~~~~",
        "ref": "order ~~~~~ // order #~~~~~ // #~~~~~~ // A-~~~~~~ // NW~~~~~",
        "wday": "Monday // Tuesday // Wednesday // Thursday // Friday // Saturday",
        "when": "yesterday // last week // last {wday} // {n} days ago // two weeks ago // the other day // early {month} // a while ago // this morning",
        "day": "Monday // Tuesday // Wednesday // Thursday // Friday // Saturday // tomorrow // the ~th // the 1~th",
        "month": "January // March // April // June // July // August // September // October",
        "n": "2 // 3 // 4 // 5 // 6 // 7 // 8 // 9 // 12 // 14",
        "nth": "second // third // fourth // fifth",
        "amt": "~~ euros // ~~.~0 // €~~ // €~~~ // ~~,90 EUR // £~~ // ~~~ bucks // ~~ quid // $~~.~~",
        "carrier": "Postline // the courier // Swiftbox // GoParcel // the post // Hermelin",
        "colour": "black // navy // green // grey // red // white // mustard // teal",
        "size": "M // L // XL // 38 // 42 // 44 // S // 40",
        "place": "Lakeside // Brunswick Road // my office // Nordhafen // the Harbour Inn // Elmford // Casa Verde // Westfield",
        "city": "Lisbon // Leeds // Graz // Ghent // Turin // Malmö // Lyon // Porto // Kiel // Gdansk",
        "country": "Norway // Switzerland // Canada // Portugal // Japan // Poland",
        "street": "~~ Mill Lane // Birkenweg ~ // {n} Station Road // ~~ Orchard Close // Rue du Pont ~~ // {n}b King's Walk",
        "zip": "~~~~~ // ~~~~ // LS~ ~QT",
        "code": "WELCOME~0 // SAVE~~ // AUTUMN~0 // FRIEND~~ // VIP~~~ // HELLO~",
        "person": "sister // dad // wife // husband // flatmate // boss // neighbour // daughter",
        "name": "Mara Lind // Mr Okafor // Jonas // Ms Petrov // Priya // Tom Hale // Mrs Vance // Dr Iwata // Selin // Carlos Mota // Ana // Bert",
        "company": "Northwind Bikes // Tallow & Co // Brightfen // Kessler GmbH // Oakline // Marlowe Foods // Pixelhof // Duna Textiles",
        "email": "m.lind@example.com // office@brightfen.example // jonas~~@example.org // info@oakline.example // priya@example.net",
        "phone": "0~~~ ~~~~~~ // +49 30 ~~~~~~ // +44 ~~~~ ~~~~~~ // 555-01~~",
        "hour": "{n} pm // 10:30 // noon // half past {n} // 9 am // 15:30",
        "lang": "German // French // Spanish // Polish // Dutch // Italian // Swedish // Portuguese",
        "cur": "franc // yen // krona // dollar // zloty",
        "app": "shop app // CRM // portal // time tracker // warehouse tool // wiki",
        "folder": "billing // drafts // legacy // photos // reports // checkout // intern",
        "lib": "parser // http // numpy // logging // auth // cache",
        "this": "the offer // my note // the summary // this text // the contract // the answer above // the price list // the invoice // the order confirmation // the meeting notes",
        "problem": tools.PROBLEM,
        "msg": tools.MESSAGE,
        "foreign": tools.FOREIGN,
        "topic": tools.TOPIC,
        "also": chats.ALSO,
        "tool": chats.TOOL,
        "err": chats.ERROR,
    }.items()
}

GREETINGS = phrases(
    "hi // hello // hey // good morning // hello team // dear support // hi there // good evening // hey guys // Dear Sir or Madam // moin // yo"
)
OPENERS = phrases(
    "quick question: // sorry to bother you, but // I hope you can help me. // I have a problem: // so // listen, // just wondering, // I was wondering: // ok so // well, // excuse me, // please help: // to be honest, // one question - // I'm writing because"
)
CLOSERS = phrases(
    "thanks // thank you in advance // please help // cheers // best regards, {name} // thx // kind regards // thanks a lot for your help // please get back to me soon // this is getting ridiculous // not impressed // appreciate it // hope to hear from you // :-/ // let me know // ty!!"
)
AGENT_OPENERS = phrases(
    "please // could you // can you // hey, // ok, // next: // I need you to // now // go and // hi, please // for {name}: // quick one: // would you // urgent: // when you have a second,"
)
AGENT_CLOSERS = phrases(
    "thanks // please // asap // it's for {company} // {name} is waiting // before {hour} if possible // no rush // thx // that's for the meeting {day} // the customer is {name} // I promised it to {company} by {day} // don't take too long // from {city}, as you know // we spoke about it {when} // {name} in {city} is impatient // file it under {no}"
)
