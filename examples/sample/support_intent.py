"""Phrase tables of the node `support-intent`: a fictitious web shop with customer accounts.

`(a|b|)` picks one branch, `{slot}` draws a filler, `~` is a digit; phrases are parted by line ends or ` // `.
`CORES` lists the common phrasings first: later ones are drawn less often (see `generate.rank_weights`).
"""

CORES = {
    "order_status": """
where is my (order|parcel|{item}) // (any news|any update|what's the latest) on {order} // when (will|is) (my order|the {item}|{order}) (arrive|going to arrive|get here)
has {order} (shipped|left your warehouse|gone out) yet // can you (check|look up) (how far along|where) {order} is // the tracking (hasn't moved|has been stuck|shows nothing new) since {when}
I'm still waiting for (the|my) {item} // what's the expected delivery (day|date) for {order} // I ordered {item} {when} and (heard nothing|nothing came) since
how (long|many days) until (my stuff|the {item}|the box) (is here|reaches me) // it still says "processing" (for|on) {order}, (is that normal|why) // is {order} coming (today|this week|before the weekend)
my tracking link (is dead|doesn't open|shows an error), where is the parcel // was (the|my) {item} handed to {carrier} already // {carrier} has no scan for {order}, did you (send|ship) it
(could|can) you tell me if (it|the {item}) is on its way // I need (it|the {item}) by {day}, will that (work|be possible) // the estimated date (passed|was {when}) and (no sign of it|still nothing)
whats taking so long with {order} // I was promised delivery {when}, what (happened|is going on) // do I have to be at home for {order}, which day
only half of {order} came, is the rest (coming|on its way) separately // which carrier (brings|has) {order} // did my order even go through to the warehouse, the app (says|shows) nothing
please give me an ETA for the {item} // the pre-ordered {item}, when does it get (dispatched|sent out) // stuck at the depot of {carrier} since {when}, what now""",
    "cancel_order": """
(please cancel|I want to cancel|can I cancel) {order} // (stop|cancel) my order for the {item} before it (ships|goes out) // I ordered {item} by mistake, (please call it off|don't send it)
(I've changed my mind|changed my mind) about the {item}, it (hasn't shipped|is not sent) yet // ordered twice by accident, (drop|remove) one of them // please don't ship {order}
is it too late to (cancel|stop|withdraw) {order} // I (no longer|don't) need the {item} I ordered {when}, can you stop it // (take|pull) {order} out of the queue
the cancel button (is greyed out|does nothing) for {order} // I'd like to withdraw (my|the) order from {when} // wrong size in the basket, kill the order (please|and I'll reorder)
my kid ordered a {item}, we don't want it sent // found it cheaper elsewhere, please void {order} // delivery takes too long, I'd rather (not have it|call the whole thing off)
scrap {order}, I'll (buy|get) it in town // please (undo|revoke) the purchase I made {when} // can you halt {order} before {carrier} collects it
forget the {item} I just bought // I pressed buy too early, (reverse|annul) it please // only the {item} of {order} should be cancelled, (keep|send) the rest
my pre-order of the {item}: take me off the list // I want out of {order} // please abort, the {item} was (meant|intended) for another shop
if {order} isn't packed yet then leave it // delete the order I placed (by mistake|tonight|{when}) // no need to send the {item} anymore""",
    "return_item": """
(how do I|how can I|where do I) (return|send back) the {item} // I (want|would like) to (return|send back) the {item} from {order} // can I get a return label for {order}
the {item} doesn't fit, (how does sending it back work|I want to send it back) // do I have to pay for the return // how many days do I have to (return|send back) something
the return label (won't print|is missing|has expired) // where do I drop off (the return|my return parcel) // I don't like the {item}, it's going back, what are the steps
can I hand (the {item}|it) back in a store // is the box needed when I send (the {item}|it) back // (please|kindly) arrange a pickup for the {item} I'm sending back
the return portal (says|claims) {order} isn't eligible // I opened the {item} already, will you still take it back // want to give the {item} back, bought {when}
it's not what I expected, how do I get it back to you // which address do returns go to // need the return form for {order}
can two orders go in one return parcel // return window for {item}, is it still open // the {item} was a gift, can my (sister|friend|dad) send it back
I've tried the {item} on and it's not for me, returning it // my return number isn't accepted at {carrier} // I kept one and want to ship the other back
what's your policy on sending things back after {n} days // the courier never came to collect my return // please issue an RMA for the {item}""",
    "refund_request": """
I want (my money back|a refund) for {order} // please refund (the {item}|{order}|me {amt}) // (can|could) I (get|have) a refund for the {item}
the {item} (stopped working|broke) after {n} days and I want my money back // I'd like to be reimbursed for (the shipping fee|{order}) // refund me the difference, the {item} is {amt} now
you sent it {n} days late, I expect the shipping cost back // please put {amt} back on my card // I demand a full refund (now|immediately|for {order})
the {item} never worked, give me back what I paid // I'm entitled to my money, {order} was not as described // can the {amt} be paid back instead of a voucher
I don't want store credit, I want the {amt} on my (card|account) // (who do I ask|how do I apply) for a refund on {order} // it's advertised falsely, pay me back
could you compensate me for (the late|the bad) delivery of {order} // please return the {amt} to my bank // I overpaid shipping on {order}, return it
I paid for express and got standard, refund the extra // I was sold the wrong {item}, money back please // price guarantee: you owe me {amt}
how do I claim my cash back for a {item} that failed // the (trial|membership) renewed without asking, give me the {amt} back // the warranty says you pay back, so please do
partial refund for {order}, one piece was (useless|poor) // the seller said you'd reimburse the {item}, here I am asking // open a refund case for {order}""",
    "refund_status": """
(where is|when do I get) my refund // I (returned|sent back) the {item} {when} and (the money isn't here|still no money) // has my refund for {order} been (processed|issued|sent)
how long (does|do) (a refund|refunds) take to (show up|arrive) // you (promised|confirmed) my refund {when}, nothing (came|arrived) yet // any update on the refund of {amt}
my bank (can't see|has no trace of) the {amt} you sent back // did my return reach you, I'm waiting for the money // the refund says completed but (I see nothing|my balance is the same)
what's happening with the money for {order}, it was approved {when} // refund still pending (after {n} days|since {when}), why // to which (card|account) did you pay the refund
the {amt} you owe me is overdue, when does it land // my card was replaced, did the refund go to the old one // was the {amt} for the {item} already transferred
only part of my refund arrived, where is the rest // I got the mail saying you paid me back but no {amt} // (check|look) whether the credit for {order} went out please
how come the refund is stuck on "initiated" // you have had my {item} back for {n} days, no payout yet // still waiting to be paid back for {order}
when will the reimbursement you granted hit my account // my return was accepted {when}; the payment? // is there a reference number for my refund so the bank can trace it
the cancelled order {order}: when does the {amt} come back // I was told 5 working days for the money, it's been {n} // refund tracker shows no date""",
    "change_address": """
(I moved|I've moved|we moved), please (update|change) my address // (can|could) you (change|update) the delivery address (of|for|on) {order} // I (entered|typed) the wrong address on {order}, please fix it before it ships
please send {order} to {place} instead // how do I change (the|my) (saved|default) address // new address is {street} from {day} on
I forgot the apartment number on {order} // the postcode on {order} is wrong, it should be {zip} // (redirect|reroute) my parcel to (my office|{place})
ship the {item} to my (parents|work|neighbour) rather than home // my account still has my old (street|flat), where can I edit it // the app won't let me save a new address
can {order} go to a pickup point instead // street name misspelled on my order, correct it to {street} // I'll be at {place} next week, can the delivery go there
please remove the old address from my (account|profile) // the house number should be {n} not {n} on {order} // add a second delivery address to my account
is it still possible to switch where {order} is delivered // checkout picked my ex's address, put mine: {street} // need to amend shipping info for {order}
we relocate on {day}, so deliver to {street} // update the place where you send my stuff // billing address is fine, delivery should be {street}
the address form rejects my zip {zip} // swap home and work address on my account please // put {street} on the label of {order} if it's not printed""",
    "wrong_address_delivery": """
my parcel was (delivered|brought) to the wrong address // {carrier} (left|delivered) {order} at (number|house) {n}, I don't live there // the delivery (photo|picture) shows (a different|someone else's) (door|house)
you (sent|shipped) {order} to my old address // {order} went to {street}, that's not (my address|me) // the {item} was delivered to a stranger
my order ended up in {place}, I live elsewhere // the courier dropped my {item} at a neighbour I don't know // my address was right but {carrier} took it to another street
I changed my address {when} and it still went to the old place // somebody at {street} signed for my {item} // {order} delivered to the wrong (city|town|building)
the tracking map shows the drop-off two streets away // my package is at the wrong house, get it back // I got a parcel that belongs to somebody else
{carrier} handed it to the wrong person // wrong flat got my {item} and they won't give it out // the label had a different street than the one I gave
delivered to (an office|a shop) I have never heard of // previous tenant's place got {order} // I gave {street} but your system printed something else and now it's there
why was {order} left at {place} when my address says otherwise // misdelivered again, third time my {item} goes next door // it's lying at my old flat since {when}
I received {order} but the name on it isn't mine // the driver confused the buildings and gave it to the (bakery|hotel|school) // parcel shop in another town has my {item}""",
    "missing_parcel": """
(tracking|the app|{carrier}) says delivered but (I have nothing|there is nothing here) // my parcel (never arrived|is lost|got lost) // {order} is marked as delivered, I (didn't|never) (get|receive) it
the package was (stolen|taken) from my (porch|hallway) // {carrier} says they (lost|can't find) my parcel // no card, no parcel, but status delivered
the box was empty when I opened it // the {item} is missing from (the box|{order}) // one of the {n} things in {order} wasn't inside
I got {order} without the {item} // nobody in the building has my delivery // it was supposedly left (in the garage|at the door|with a neighbour) {when}, not there
someone signed for it but not me and nobody here did // you forgot to pack the {item} // {order} vanished in transit
the accessories for the {item} weren't included // {carrier} has declared {order} lost // my delivery disappeared
how do I report a parcel that didn't turn up // the {item} isn't in the parcel, just paper // proof of delivery is signed with a scribble, it isn't mine
asked all the neighbours, nobody has the {item} // start a search with {carrier} for {order} // only {n} of {n} packages were handed over and it says complete
the bag arrived open and the {item} was gone // packing list shows a {item} that wasn't there // status: delivered. reality: nothing
gone without a trace since {when}, please investigate {order} // half the set of {item} is absent // the safe place was empty when I came home""",
    "damaged_item": """
the {item} arrived (broken|damaged|cracked|scratched) // my {item} (came|got here) with a (dent|crack|scratch|tear) // the box was (crushed|soaked) and the {item} is (broken|ruined)
{order} (contains|has) a defective {item} // the {item} (doesn't|won't) (turn on|work|charge) // (part|a piece) of the {item} is broken off
glass everywhere when I opened {order} // the {item} is faulty (out of the box|from day one) // the screen of the {item} is (cracked|black)
item smashed in transit // the {item} smells burnt and (makes noise|sparks) // the zipper on the {item} is (torn|broken) already
photo attached, look at the state of the {item} // it leaks, the {item} (is soaked|drips everywhere) // the {item} was clearly used and has stains
the {item} died after {n} days // one leg of the {item} is bent // paint is peeling off the new {item}
the seal was broken and the {item} looks (opened|used) // my {item} rattles, something is loose inside // {carrier} obviously threw the parcel, all in pieces
I want to report a defect on the {item} // the stitching came apart on first use // the {item} has a factory fault
button on the {item} stuck // quality is awful, handle fell off the {item} // arrived in two pieces and it should be one
the {item} overheats and shuts down // there's mould on the {item} // it's chipped at the edge, {order}""",
    "exchange_item": """
can I (exchange|swap) the {item} for (a bigger one|a smaller one|another colour) // I need (size {size}|a different size) instead // (please|could you) exchange {order} for {size}
wrong colour, can I get it in {colour} instead // I'd like to (trade|swap) the {item} for the {colour} one // you sent {colour}, I ordered {colour}, please swap
the {item} is too (big|small|tight), I want it one size (up|down) // how do exchanges work // can I exchange in a shop what I bought online
I'd rather have another {item}, same price, can we switch // please send me the right size and I send this one back // got the wrong model of {item}, want the correct one
replace the {item} with the {colour} version // is an exchange possible after {n} days // I want a replacement, not money, for the {item}
could you reserve a {size} while my {size} travels back // does swapping {item} cost anything // (send|ship) a new {item} in exchange for this one
gift was the wrong size, they want {size} // I'd like a like-for-like swap on {order} // the left one is {size} and the right one is {size}, need a matching pair
can the {item} be swapped against a different model // exchange form for {order} please // upgrade my {item} to the larger one and I pay the difference
pick up the wrong {item} and bring the right one // {colour} looks terrible, I'll have {colour} // {size} would fit, got {size}, what can we do""",
    "payment_failed": """
my (payment|card) (was declined|keeps failing|doesn't go through) // I can't (pay|check out), (it shows an error|error at checkout) // checkout (hangs|freezes|crashes) when I (press pay|enter my card)
the payment page (is blank|won't load) // why is my card (rejected|refused|not accepted) // I get "transaction failed" (every time|for {order})
(tried|I tried) {n} cards and none (works|is accepted) // the bank says it's fine but your site refuses // the 3D code never (comes|arrives) when I pay
paypal (throws me back|returns me) to the basket // order says unpaid though I entered everything // invoice payment isn't offered to me, card doesn't work either
it won't take my (visa|debit card|bank transfer) // payment (pending|stuck) for {order}, didn't succeed // can I retry the payment for {order}
my card expired, {order} couldn't be charged, how do I pay now // the pay button does nothing // apple pay isn't working in the app
payment error code {n}~~ // you say the amount couldn't be collected, my account has money // {order} was put on hold because of payment
instalments were refused, why // how can I pay {order} another way // bank authorisation times out at the end
the CVC field rejects my number // no confirmation after paying because it failed // my subscription payment bounced
verification of my card never finishes // I wanted to pay {amt} and got a red message // gift card plus card together fails at the last step""",
    "duplicate_charge": """
I was charged twice for {order} // (why did you|you) (take|took|charge) {amt} two times // there are two (payments|charges|debits) of {amt} on my (statement|card)
my card was (billed|debited) {n} times for one order // you charged me for something I (didn't|never) (buy|order) // I see (a|an unknown) charge of {amt} from you
double (booking|debit) of {amt} {when} // the amount on my statement is higher than {order} // paid once, booked twice
why is there another {amt} taken {when} // {order} cost {amt} but {amt} left my account // I don't recognise the {amt} from your shop
you charged me for a cancelled order // the same invoice was collected again // a second withdrawal for {order} appeared {when}
charged after I ended my membership // my bank shows you took the money on {day} and again on {day} // wrong amount debited for the {item}
I only have one order yet three bookings // unknown subscription fee of {amt} // express fee was charged though I picked standard
paypal AND card were both charged // why two lines with {amt} from you // somebody used my card at your shop, {amt}
one {item} ordered, two on the bill // please check my account, you deducted too much // a reservation of {amt} never got released besides the real one
extra {amt} on my bill, explain // my statement lists you twice // the deposit was taken a second time""",
    "invoice_copy": """
I need (an|the) invoice for {order} // (please send|can you send|could you email) me the (invoice|receipt|bill) for {order} // where can I (download|find) my (invoice|receipt)
the invoice (has the wrong company name|needs our VAT number) // I need a (receipt|proof of purchase) for (my taxes|the warranty|my employer) // no invoice came with {order}
could I get a VAT receipt for the {item} // the PDF of the bill won't open // please put my company on the bill for {order}
I lost the receipt for the {item} I bought {when} // our accounting needs all bills from {month} // invoice link is dead
resend the paperwork for {order} please // the bill lists a different amount from the shop page, need a corrected one // is there a paper copy of the invoice
I need the invoice number of {order} for my bank // how do I add a tax id to the invoice // can you split the bill over two documents
receipt went to the wrong mail address // a duplicate of the bill for the {item}, please // order confirmation isn't enough, finance wants the real document
my boss asks for documentation of {order} // need a yearly statement of purchases // invoice date is wrong on {order}
pro forma for customs for {order}? // the bill should be in my wife's name // can't find the document for the {item} in my account
warranty claim needs the purchase slip // send bill as pdf, {order} // e-invoice in xml form possible?""",
    "voucher_problem": """
my (voucher|coupon|promo code|discount code) (doesn't work|isn't accepted|is invalid) // the code {code} (gives an error|won't apply|is rejected) // I forgot to enter my (code|voucher) on {order}
can I (use|combine) two (codes|vouchers) // the {n}0% discount (wasn't|was not) applied to {order} // how do I redeem (a gift card|my points|a voucher)
when does the code {code} expire // I never got the newsletter (code|discount) // my gift card balance is (wrong|gone|zero)
the promo says free shipping but I was asked to pay it // apply {code} to {order} afterwards please // black friday price isn't showing in the basket
student discount, how do I get it // my loyalty points vanished // the voucher you gave me as an apology is expired
code {code} says already used, I haven't // is the {n}0% off valid for {item} // the welcome bonus never arrived
minimum order for {code}? // referral reward for my friend is missing // gift card scratched, can't read the number
I was promised {amt} off my next order // coupon only takes off {amt} instead of {amt} // does the sale apply to the {item}
points from {order} weren't added // {code} worked yesterday, today not // can a gift card be split over two orders
birthday discount didn't come this year // the app deal differs from the website deal // reactivate my voucher please""",
    "password_reset": """
I forgot my password // how do I (reset|change) my password // the (reset link|reset mail|password email) (never arrives|doesn't work|has expired)
I can't (log in|sign in), password (wrong|not accepted) // I don't (remember|know) my (password|login) // please send me a new (password|reset link)
my new password is (refused|not saved) // I want to set a stronger password // reset email goes to an (old|dead) mailbox
the page for choosing a new password (is blank|errors) // which password rules do you have, mine is always rejected // login data lost, how do I get back in
I no longer have the mail I registered with and need to log in // clicked "forgot" {n} times, no mail // the link says it was already used
I got a new phone and don't know the password // how can I recover my login // password manager saved the wrong one
change login credentials please // I registered {when} and can't remember what I typed // temporary password doesn't work
what was my username again // spam folder checked, no reset message // can you reset it by phone
login says wrong credentials, I'm sure they're right // is there a way in without the old password // the reset code of six digits is always wrong
sign-in with google stopped, want a normal password // how do I log in the first time, no password set // my wife changed the password and forgot it""",
    "account_locked": """
my account (is|has been) (locked|blocked|suspended) // why (did you|have you) (lock|block|suspend|disable) my account // I'm locked out (of my account|after too many attempts)
(please|can you) (unlock|unblock|reactivate) my account // it says "account (disabled|restricted)" when I (log in|sign in) // too many login attempts, now (nothing works|I'm blocked)
I think my account was hacked // someone (logged in|ordered) with my account // I got an alert about a login from {place}
my account is on hold for verification // two-factor code isn't accepted and now I'm shut out // I can't get past the security check
you froze my profile for no reason // lost the phone with the authenticator app // I uploaded my id {when} and it's still blocked
suspicious activity mail from you, is that real // password is right but access is denied // how long does a suspension last
my seller account got restricted // there are orders in my account that aren't mine // sms code never comes so I can't enter
banned? for what // an unknown device shows up in my profile // secure my account, somebody changed the email
after the update my account is deactivated // fraud check stopped my account on {day} // verification of identity failed
can't get in, message says contact support // wrong pin three times and out // appeal against the block of my account""",
    "close_account": """
(please|I want you to) (delete|close|remove) my account // how do I (delete|close) my account // I (want|wish) to (delete|have erased) (all my data|my profile)
(unsubscribe|remove) me from (everything|all mails) // stop sending me (newsletters|adverts|emails) // I don't want to be a customer anymore
GDPR request: erase my personal data // cancel my (membership|premium|subscription) // I'm leaving, shut (my account|it all) down
take my details off your system // end my membership (from|at the end of) {month} // the delete account option is missing
I have two accounts, remove one // please forget my card and my name // terminate my contract with you
how can I quit the premium plan // my late father's account should be closed // what happens to my points if I leave
confirm that my data is gone // I withdraw my consent to marketing // deregister me
opt out of sms messages // please wipe my purchase history and login // I created the account by accident, get rid of it
I ask for deletion under article 17 // not renewing, switch off auto renew // still getting your mails though I opted out
farewell, kill the account // stop the monthly box // goodbye, no further contact wanted""",
    "product_question": """
is the {item} (in stock|available) (again|) // does the {item} (come|fit) (with|in) {size} // (is|are) the {item} (waterproof|washable|vegan|suitable for kids)
what's the difference between the {item} and the {colour} one // how (big|heavy|long) is the {item} // when will the {item} be back in {colour}
does the {item} have a warranty // which batteries does the {item} need // can I use the {item} (outdoors|abroad|with my old charger)
is there a manual for the {item} // what material is the {item} made of // do you (sell|have|carry) spare parts for the {item}
do you ship to {place} // what does express delivery cost // do you have a shop in {place}
which size should I take, I'm usually {size} // is the {item} any good for beginners // how long does the battery last on a {item}
can the {item} be engraved // is assembly needed for the {item} // where is the {item} manufactured
will the price of the {item} drop soon // compatible with a 2019 model? // do you offer gift wrapping
can I buy the {item} without a membership // is {colour} more of a {colour} in real life // may the {item} go into the dishwasher
how do I clean a {item} // how do I set up the {item} // what's included with the {item}
is it allowed in hand luggage // do you plan a {colour} edition // does the {item} hold up to {n}0 kilos""",
}

# Noun phrases for mentioning an intent without asking for it: negations, background sentences.
NAMES = {
    "order_status": "the tracking // when my order comes // the delivery date",
    "cancel_order": "cancelling the order // a cancellation // an order I cancelled",
    "return_item": "sending it back // a return // a return label",
    "refund_request": "a refund // my money back // getting reimbursed",
    "refund_status": "the refund you already approved // a refund that was late // the pending refund",
    "change_address": "changing my address // my new address // an address update",
    "wrong_address_delivery": "a parcel at the wrong address // a misdelivery // the wrong house",
    "missing_parcel": "a lost parcel // a missing item // a package that never arrived",
    "damaged_item": "a broken {item} // a defect // something damaged",
    "exchange_item": "an exchange // swapping the size // a different colour",
    "payment_failed": "a declined card // a failed payment // an error at checkout",
    "duplicate_charge": "a double charge // a wrong amount on my card // being charged twice",
    "invoice_copy": "an invoice // a receipt // the bill",
    "voucher_problem": "a voucher // a discount code // my gift card",
    "password_reset": "my password // a reset link // a forgotten login",
    "account_locked": "a locked account // the account block // a hacked account",
    "close_account": "deleting my account // unsubscribing // closing my profile",
    "product_question": "how the {item} works // whether the {item} is in stock // the size chart",
}

# Short elliptical messages, not seldom close to those of a neighbour.
SHORT = {
    "order_status": "{order} when? // status {order}? // tracking? // still nothing // eta? // my parcel?? // delivery {day}?",
    "cancel_order": "cancel {order} // don't send it // cancel pls // stop {order}! // order by mistake // {item} no longer needed",
    "return_item": "return {order} // return label? // sending it back, how? // return address? // {item} going back // label",
    "refund_request": "refund please // money back {order} // refund {amt} // I want {amt} back // want my money",
    "refund_status": "refund? // where's the money // refund status {order} // still no refund // {amt}, when? // money not here",
    "change_address": "new address // address change {order} // {street} instead // other address please // wrong postcode",
    "wrong_address_delivery": "wrong address! // delivered to wrong house // at neighbour's, wrong street // old address {order} // not my door",
    "missing_parcel": "not received {order} // nothing arrived // says delivered, isn't // {item} missing // parcel gone",
    "damaged_item": "{item} broken // broken on arrival // doesn't work // damaged {order} // {item} kaput // defective",
    "exchange_item": "swap for {size}? // size {size} instead // wrong size // {colour} instead? // exchange {order}",
    "payment_failed": "card declined // can't pay // payment error // checkout broken // paying doesn't work",
    "duplicate_charge": "charged twice // {amt} twice?! // what is this {amt} // double debit // wrong amount",
    "invoice_copy": "invoice {order} // receipt? // bill please // vat invoice // need pdf bill",
    "voucher_problem": "{code} invalid // code not working // discount missing // voucher? // points gone",
    "password_reset": "forgot password // can't log in // reset link? // new password // login not working",
    "account_locked": "account locked // blocked, why // can't get in // unlock pls // hacked!",
    "close_account": "delete account // unsubscribe // close it // remove my data // no more mails",
    "product_question": "{item} in stock? // size of {item}? // waterproof? // ship to {place}? // {colour} {item}?",
}

# Truly ambiguous messages: the recorded answer is one or the other.
AMBIGUOUS = (
    (
        "cancel_order",
        "return_item",
        "I don't want the {item} (anymore|any more|after all) // please take the {item} back off me // {order} can go back",
    ),
    (
        "refund_request",
        "refund_status",
        "what about my money for {order} // I'm still missing {amt} // I want to finally see my {amt}",
    ),
    (
        "change_address",
        "wrong_address_delivery",
        "the address on {order} is wrong // {order} has my old address // wrong street for the {item}",
    ),
    (
        "missing_parcel",
        "order_status",
        "the {item} hasn't come // {order} not here since {when} // where on earth is my {item}, {carrier} knows nothing",
    ),
    (
        "exchange_item",
        "return_item",
        "the {item} doesn't fit // wrong size in {order} // {size} is too small, what do I do",
    ),
    (
        "damaged_item",
        "refund_request",
        "the {item} is junk and I paid {amt} // {item} broke, what do I get // this {item} isn't worth {amt}",
    ),
    (
        "password_reset",
        "account_locked",
        "I can't get into my account // login fails since {when} // the site won't let me in",
    ),
    (
        "payment_failed",
        "duplicate_charge",
        "something went wrong when I paid {amt} // problem with the payment of {order} // {amt} is gone but the order isn't there",
    ),
    (
        "wrong_address_delivery",
        "missing_parcel",
        "{carrier} delivered it somewhere but not here // {order} was left with whoever // someone has my {item}",
    ),
    (
        "close_account",
        "cancel_order",
        "cancel everything please // I want to cancel // please cancel it as of {day}",
    ),
    (
        "exchange_item",
        "damaged_item",
        "I need another {item}, this one isn't right // the {item} has to be replaced // {item} is wrong, new one please",
    ),
)

# Sentences that fit any intent.
DETAILS = """
the order number is {no} // it's about {order} // that was {when} // I bought it {when} for {amt} // I paid {amt} // it was a {item} in {colour}
I'm a customer since 201~ // the app wasn't any help // your chat bot sent me in circles // this is the {nth} time I write // nobody answers the phone
I'm travelling on {day} // my customer number is ~~~~~~ // I ordered as a guest // it's a present for my {person} // my {person} told me to ask you
I already checked the FAQ // screenshot follows // it's rather urgent // no rush though // I've been on hold for {n} minutes // the {item} was on sale"""

BACKGROUND = """
Last (month|year|time) I (had to ask|wrote) about {other} and that was (sorted|fine). // (My question about|The thing with) {other} is settled, thanks. // Your colleague only talked about {other}.
I (looked|searched) in the help pages and only found something on {other}. // I know you get a lot of mails about {other}. // First it was {other}, now this.
My {person} had trouble with {other} {when}, mine is a different matter. // After {other} {when} I hoped for better. // The bot offered me {other}, which is not it."""

NEGATION = """
(I'm not asking|this is not|it's not) about {other}, // (no need for|I don't want|forget) {other}, // not {other}! // (don't worry about|never mind) {other}, // I am not after {other}, I just want help with this:
before you ask, {other} isn't the point: // instead of {other}: // rather than {other},"""
