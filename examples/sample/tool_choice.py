"""Phrase tables of the node `tool-choice`: an agent's turn, which one of ten tools is called next.

The notation is that of `support_intent.py`. A phrase that starts with `!` is an instruction that can be
one step of several; the first step in time decides the label.
"""

CORES = {
    "search_orders": """
!(look up|find|pull up|search for) (order|orders) {ref} // !(find|list|show me) all orders (by|from|of) {name} (since {month}|in {month}|) // has {name} ordered anything (in {month}|since {when})
!check (the status|the state) of order {ref} // which orders are (still open|unpaid|delayed) for {company} // !see whether {ref} has shipped // did {ref} go out (yet|{when})
!get me the last {n} orders of {name} // how many {item}s did {company} buy in {month} // what was in order {ref} // !find the order with the tracking number ~~~~~~
{name} asks where the {item} is // !see if there's an open order for {email} // when was {ref} placed // !look for anything {company} bought with us
who bought the {item} {when} // is there an order above {amt} from {company} // {name} swears there is an order from {month}, can we confirm // !dig out what {name} purchased in {month}
!check if the {item} for {name} is on its way // !tell me which items are in {ref} // which address did {ref} go to // any returns registered on {ref}
what's the delivery date of {ref} // !go through {company}'s purchase history // is {ref} a duplicate of {ref} // !verify that {ref} exists""",
    "get_invoice": """
!(get|download|fetch|pull) the invoice (for|of) (order|) {ref} // {name} (needs|wants) a (receipt|copy of the bill) for {ref} // !(fetch|retrieve) invoice INV-~~~~
what does the bill for {ref} say about VAT // !get the (bill|invoice) we sent {company} in {month} // the accountant (wants|needs) the PDF of {ref} // !pull last month's billing document for {company}
is the amount on invoice INV-~~~~ {amt} // !open INV-~~~~ and read me the due date // !find the receipt for the {item} {name} bought // which tax number is printed on {company}'s bill
{company} lost the paperwork for {ref} // !bring up the credit note for {ref} // proof of purchase for {name}'s {item} please // how much did we bill {company} in {month}
!load the PDF for INV-~~~~ // was {ref} invoiced with or without VAT // !show the billing lines of {ref} // {name} can't open the bill, we need it again
what payment terms are on INV-~~~~ // !grab the document finance asked for, number INV-~~~~ // {company}'s auditor asks for INV-~~~~ // is INV-~~~~ marked as paid on the document
!give me the receipt from {when} for {email} // which items were billed on INV-~~~~ // !obtain the pro forma of {ref}""",
    "create_ticket": """
!(open|create|raise|file|log) a ticket: {problem} // !(escalate|hand) this to (engineering|second level|the warehouse): {problem} // {problem}, (someone has to|the tech team should) look into it
!report a bug, {problem} // !(put|write) this (down|up) for the (support|tech) team: {problem} // {problem}. that's a case for (the backlog|IT) // !start a case for {name}, {problem}
the customer {name} complains: {problem}. needs following up // !make an issue with high priority, {problem} // {problem} since {when}, please track it // !record a complaint from {company}
we need a case number for {name}, {problem} // !flag {problem} to the people on duty // {problem} and nobody owns it yet // !register an incident, {problem}
!pass on to the returns desk that {problem} // please get IT to fix this: {problem} // {problem}, I want a reference I can give {name} // !assign {problem} to whoever handles the shop
!note a defect for the {item}, reported by {name} // {company} says {problem}, can this be queued // another one for the support queue: {problem} // !submit a request for a replacement badge for {name}
this must be looked at by a technician: {problem} // !add to the helpdesk that {problem} // {problem}, severity two // !request access to the {app} for {name} through the helpdesk""",
    "update_contact": """
!(change|update|set) {name}'s (email|e-mail address) to {email} // {name} (moved|has moved) to {street} // !(change|update) the phone number of {name} to {phone}
!(save|store|add) {phone} as {name}'s (mobile|work number) // {name} (got married|changed her name), she's now {name} // !correct the spelling of {name} in our records // new contact at {company} is {name}, {email}
{name} no longer works at {company} // !remove the old number of {name} // !put {street} down as address for {company} // {name}'s mail bounces, the right one is {email}
!mark {name} as preferring calls // {email} is out of use, {name} now has {email} // !add {name} to {company} as purchasing manager // my number is now {phone}
!amend the record of {company}: they're in {city} now // {name} would like to be addressed as Dr // !swap primary and billing contact at {company} // !set {name}'s language to {lang}
please note that {name} can be reached under {phone} from now on // the birthday in {name}'s file is off by a year // !merge the two entries for {name} // !take {name} off the mailing list
{company} has renamed itself {company} // !enter {city} as {name}'s place // we have the wrong street for {name}, should be {street} // !edit the profile of {email}, surname is {name}""",
    "schedule_callback": """
!(schedule|book|arrange|set up) a (call|callback) with {name} (on|for) {day} at {hour} // {name} wants (to be called|a call) back (on {day}|at {hour}|tomorrow) // !have someone (ring|call|phone) {name} {day}
can (someone|a colleague) call me at {phone} {day} // !plan a phone call with {company} for {hour} // {name} is free {day} after {hour}, (wants to talk|would like to speak to us) // !move the call with {name} to {day}
I'd rather talk to a person on the phone, {day} suits me // !reserve {n}0 minutes on the phone with {name} // please ring back, {phone}, best {day} // {name} missed our call, try again at {hour}
!put a call into the calendar for {name}, {day} {hour} // !get {name} on the phone {day} // when can you phone me, I'm in after {hour} // !fix a time to speak with {company}
{company} asks for a telephone appointment {day} // {name} prefers to discuss it by voice {day} // !reschedule {name}'s callback from {day} to {day} // !line up a chat on the phone between {name} and {name}
a quick call {day} would do, number {phone} // !arrange that sales rings {company} at {hour} // {name} couldn't talk just now, says {hour} is fine // call me tomorrow about the {item}
ring {phone} before {hour} {day} // !set a slot for {name}, {day} morning // {name} won't write, only phone, {day} please""",
    "web_search": """
!(search|look|check) (the web|online) for {topic} // !(google|look up) {topic} // what (is|'s) the (latest|current news) on {topic} // !find out (online|) what people say about {topic}
!research {topic} // any recent articles about {topic} // what's the weather in {city} {day} // who is the CEO of {company}
is there a strike at {carrier} {day} // !find the opening hours of {place} in {city} // what are the customs rules for sending {item}s to {country} // !see what competitors charge for a {item}
!check today's exchange rate of the {cur} // is {day} a public holiday in {country} // !find me the homepage of {company} // what does the new law say about {topic}
!look for reviews of the {item} // which trains go to {city} {day} // has {company} been in the news // how late is the post office in {city} open
!get some background on {topic} // where can one buy a {item} in {city} // is {carrier} having an outage right now // !find the phone number of the town hall in {city}
what's trending about {topic} // !dig up the press release of {company} // any scam warnings on {topic} // how far is {city} from {city}""",
    "calculator": """
!(calculate|compute|work out) {n}~% of {amt} // what's {n}~ (times|x|multiplied by) {n}~ // how much is {amt} (plus|with) {n}% VAT // !add up {amt}, {amt} and {amt}
{n}~~ divided by {n}~ // if {n} {item}s cost {amt}, what does one cost // !(sum|total) these: {amt}, {amt}, {amt} // what is the net of {amt} at 19% tax
how many days are {n}~ weeks // !convert {n}~ miles to kilometres // !split {amt} between {n} people // {name} pays {amt} in {n} instalments, how much each
discount of {n}% on {amt}, what remains // square root of {n}~~ // !figure out the margin if we buy at {amt} and sell at {amt} // {n}~ hours at {amt} an hour makes
!subtract {amt} from {amt} // what percentage is {amt} of {amt} // {amt} minus a {n}% fee for {name} // interest on {amt} at {n}% for {n} years
!work out what {company} owes: {n} times {amt} less {amt} // average of {n}~, {n}~ and {n}~ // is {n} times {amt} above {amt} // how much is left of {amt} after the bill of {amt}
{n} boxes of {n}~ {item}s, how many altogether // !round {amt} times 1.~~ to full euros // per person for {n}: {amt} // half of {amt} and then a third of that
refund of {n}% on {ref} worth {amt}, how much is it // the bill is {amt}, tip {n}%, total""",
    "send_email": """
!(send|write) (an email|a mail) to {name} (saying|that) {msg} // !(email|mail) {email} that {msg} // !let {name} know by (email|mail) that {msg} // !(reply|answer) to {name}'s mail: {msg}
!forward {this} to {name} // !send {company} a reminder about {this} // !drop {name} a line, {msg} // !shoot {email} a quick note that {msg}
please inform {company} in writing that {msg} // !send {this} over to {email} // {name} should get a message that {msg} // !mail the team: {msg}
!notify {name} that {msg} // {msg}, can you tell {email} // !apologise to {name} for {this} by mail // !confirm to {company} that {msg}
!send {name} the attachment again // could {email} get a copy of {this} // {name} is waiting for our written answer: {msg} // !thank {name} at {company} and say {msg}
!write back that {msg} // {company} hasn't heard from us, tell them {msg} // !cc {name} and send {this} // !message {email} with the words: {msg}
put it in writing to {name}: {msg} // !pass {this} along to {email} // !circulate {this} to everyone at {company} // !ask {name} via mail whether {msg}""",
    "translate": """
!translate (this|the following) (to|into) {lang}: {msg} // how do you say "{msg}" in {lang} // !(put|turn) "{msg}" into {lang} // what does "{foreign}" mean
!(give|write) me the {lang} version of {this} // {name} only (reads|speaks) {lang}, "{msg}" // !render {this} in {lang} // {lang} please: {msg}
!translate the (mail|email|ticket) from {name} (to|into) {lang} // "{foreign}", what language is that and what does it say // !convert {this} into proper {lang} // I got "{foreign}" from {company}, can't read it
!make a {lang} copy of {this} // in {lang}: "{msg}" // the {lang} for "callback at {hour}" // {name} wrote "{foreign}", in English please
the invoice text has to be in {lang}: "{msg}" // !localise {this} for {country} // "{foreign}" // could I have the subject line "{msg}" in {lang}
!change the language of {this} to {lang} // I need the {lang} word for {item} // what would a {lang} speaker call a {item} // !give the meaning of "{foreign}"
!interpret "{foreign}" for {name} // {lang} to English: "{foreign}" // is "{foreign}" polite, what does it mean // !reword {this} in {lang}
what's "send me the invoice" in {lang} // my {lang} is bad, help me with "{msg}" // !transcribe {this} to {lang} for {name}""",
    "none": """
(thanks|thank you|cheers|great), (that's all|that was it|perfect) // (hi|hello|good morning) (there|), how are you // who are you (and what can you do|) // what (can|could) you help me with
can you explain what (VAT|a credit note|a callback|net and gross|a ticket) is // (write|give) me a (short|funny) poem about {item}s // what did I just ask you // tell me a joke (about invoices|about orders|)
(never mind|forget it), I (did it myself|found it) // wait, I need to (think|check something) first // which tools do you have for (orders|mails|translations) // summarise what you've done so far
is it better to (call|email) a customer who is angry // rephrase your last answer (more politely|in one sentence) // how should I word an apology, just as an idea // nothing to do (now|yet), {name} will get back to me
don't (search|send|book|open) anything yet, (I'm thinking|hold on) // shorten this: {msg} // what's your opinion on {topic} // ok // no
are you a robot // the email to {name} already went out, just so you know // can you keep {name} in mind for later // explain how you got that number
what would be a good subject line for {this} // I already called {name}, no callback needed // why did you open a ticket earlier // is "{msg}" good English
sorry, wrong window // brainstorm {n} names for our {item} // does sending mails cost anything here // invoice is here already, thanks // don't translate it, I speak {lang}
{name} says hello // what's the difference between an order and an invoice // good job // hmm // give me tips for a difficult phone call with {company} // which is older, email or fax""",
}

NAMES = {
    "search_orders": "order {ref} // {name}'s last order // the open orders",
    "get_invoice": "invoice INV-~~~~ // the bill of {company} // the receipt",
    "create_ticket": "the ticket // case T-~~~ // the bug report",
    "update_contact": "{name}'s new number // the contact data // the address {street}",
    "schedule_callback": "the callback {day} // the call with {name} // a phone appointment",
    "web_search": "the article on {topic} // what I read online // the search results",
    "calculator": "the sum of {amt} // the {n}% discount // the total",
    "send_email": "the mail to {name} // my email from {when} // the message to {email}",
    "translate": "the {lang} text // the translation // the {lang} version",
}

BACKGROUND = """
(Done|Already sorted|Taken care of): {other}. // I have {other} (in front of me|open here). // (It's about|This concerns) {other}. // {name} (mentioned|brought up) {other} {when}.
{other} came up in the meeting {when}. // Don't bother with {other}. // We talked about {other} before. // No need to touch {other}, (a colleague does that|that's finished)."""

CHAIN = """
first {a}, then {b} // {a} and (then|afterwards) {b} // {a}; once that's done {b} // {a} so that we can {b} // start by: {a}. next {b} // {a} before you {b}
before you {b}, {a} // {b}, but first {a} // {b} - only after that: no wait, {a} first // in the end I want you to {b}, to begin with {a} // once you've managed to {a}, {b} // {b} as soon as you {a}"""

PROBLEM = """
the (printer|scanner|label printer) in {city} (jams|is offline) // the {app} (crashes|freezes|logs people out) // the {item} page shows the wrong price // {name} can't log in to the {app} // returns aren't booked since {when}
emails to {company} bounce // invoices are printed without VAT // the calculator on the site adds shipping twice // the translation of the {item} page is garbage // search in the {app} finds nothing // {name} was charged {amt} too much
the phone line drops every call // {ref} is shown as paid but isn't // the address form rejects {city} // the {item} from {ref} arrived broken"""

MESSAGE = """
the order is on its way // we call back on {day} // the meeting is moved to {hour} // your invoice is attached // {ref} is delayed // we need the new address // the {item} is out of stock // the price is {amt} // please send the documents by {day}
the ticket is closed // we are sorry for the delay // the refund of {amt} was paid // {name} takes over from {day} // the offer holds until {day} // thank you for your patience // the search took longer than planned"""

FOREIGN = """
wo bleibt meine Rechnung // bitte rufen Sie mich am {day} an // je n'ai rien reçu // où est ma commande {ref} // quiero cancelar el pedido // mi dirección ha cambiado // la fattura è sbagliata
il pacco non è arrivato // waar blijft mijn bestelling // ik wil een terugbetaling // var är mitt paket // proszę o fakturę // jag vill prata med någon // pode ligar-me amanhã // können Sie das Ticket schließen"""

TOPIC = """
packaging tax // electric cargo bikes // parcel prices at {carrier} // AI in customer support // {company}'s new shop // supply delays for {item}s // the new VAT rules // phone scams // invoice fraud // email deliverability
order management software // translation apps // returns in {country} // {item} trends // the port strike in {city} // minimum wage in {country} // calculators for shipping costs"""
