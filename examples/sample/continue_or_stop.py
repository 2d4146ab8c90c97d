"""Phrase tables of the node `continue-or-stop`: the last turns of a chat inside an agent's loop.

The notation is that of `support_intent.py`. A situation is a line: its turns are parted by ` > `, each
begins with `U:` (user) or `A:` (assistant). `{thing}` is what the task is about, `{did}` what doing it amounts to,
`{also}` another small task, `{tool}` a tool and `{err}` how it failed.
"""

# request // thing // did (past participle clause)
TASKS = """
(book|reserve) a table for {n} at {place} {day} // the table // reserved at {place} for {day}
(move|push) my meeting with {name} to {day} // the meeting // moved to {day}, {hour}
(find|get) me a flight to {city} {day} // the flight // booked, {city} {day}
(rename|sort) the files in the {folder} folder // the file job // done, {n}~ files renamed
send {name} the report on {topic} // the report // sent to {name}
(update|upgrade) the {lib} package in the {folder} project // the upgrade // merged, version {n}.~
(pay|settle) the bill of {amt} from {company} // the payment // submitted, {amt} to {company}
summarise the {n} documents on {topic} // the summary // written, {n} paragraphs
fix the failing test in {folder} // the test // green on the branch
(order|buy) {n} {item}s from {company} // the order // placed, number {order}
clean up duplicate contacts in {app} // the contact list // clean, {n}~ duplicates gone
(deploy|ship) the new version to staging // the deployment // live on staging
(export|download) the {month} figures from {app} // the export // saved as {month}.csv
translate the {topic} page into {lang} // the translation // finished in {lang}
set up a mailbox for {name} // the mailbox // created for {name}
check why {app} is slow // the slowdown // traced to {lib}
cancel my subscription at {company} // the cancellation // confirmed by {company}
change my address to {street} with {company} // the address // changed to {street}
back up the {folder} database // the backup // stored, {n}~ GB
write a reply to {name} about {topic} // the reply // drafted and sent
find three suppliers for {item}s // the list // ready with three suppliers
refund {name} {amt} for {order} // the refund // issued, {amt}
(arrange|plan) a visit to {company} in {city} // the visit // fixed for {day}
convert the {folder} images to webp // the conversion // complete, {n}~~ images"""

# The agent's turn before a situation that begins with the user.
BRIDGE = """
One moment. // Working on it. // I looked at {thing}. // I have {thing} in front of me. // {tool} is open. // Noted, {thing}. // {thing}: {did}, I believe. // I've started. // {thing} was {did} a minute ago.
{tool} {err} once. // I'd do this with {tool}. // Two steps done. // That may need {name}. // I'm nearly through. // It's {did}."""

# What may come between the request and the situation: it should not decide the answer, but it uses the same words.
MIDDLE = """
A: Which (day|one|account) should I use for {thing}? > U: (the usual one|take {day}|whatever is cheaper)
A: {tool} (failed|returned an error) at first, the retry worked. > U: (ok thanks|good|fine)
A: Step one is (done|complete). > U: (great|perfect, thanks|nice)
A: I'm (looking|working) on it. > U: (no hurry|take your time|thanks)
A: I found {n} (options|candidates). > U: (the second one|pick the best|show me the cheapest)
A: Do you also want me to {also}? > U: (no, just {thing}|not needed, thank you|no thanks)
A: I need access to {tool}. > U: (granted|you have it now|done, try it)
A: {tool} {err}. > U: (hm, try again please|that was me, fixed|please wait a minute and retry)
A: Should a colleague take over? > U: (no, you do it|no need for a human|please go on yourself)
A: Shall I stop here? > U: (no, carry on|not yet|keep going until {thing} is ready)
A: This will take a moment. > U: (ok|bye for now, I'll check later|talk later)
A: Everything prepared. > U: (wonderful|thanks a lot|looks good so far)
A: There's one problem left with {thing}. > U: (solve it|what problem|ok)
A: The first part is finished, {n} left. > U: (good work|cool|thanks, that's fine)"""

SITUATIONS = {
    "stop": """
A: (All done|Done|Finished): {thing} (is|has been) {did}. > U: (thanks|thank you|great, thanks)(, that's all|, that was everything|!)
A: (All done|Done), {did}. {tool} (confirmed it|returned success).
A: {thing} is {did}. Anything else? > U: (no|nope|no thanks|nothing else)
U: (never mind|forget it|leave it), I('ll do it myself| don't need it anymore) > A: (Understood|Okay, I leave {thing} as it is).
U: (stop|please stop|cancel that|abort)
U: I want to (talk|speak) to a (human|person|real person) > A: I'm (handing|passing) this to a colleague.
A: I (can't|am not allowed to) do this without (an approval|a signature) from {name}, who (must|has to) decide.
A: {tool} {err}. I've tried {n} times; (a person|someone with admin rights) has to (look at|repair) this.
U: (bye|goodbye|have a nice day|that's it for today)
A: Verified: {did}. The (check|test) (passed|is green).
U: (perfect|awesome|brilliant), (exactly what I wanted|you can close this)
A: The first try failed because {tool} {err}, the second went through and {thing} is now {did}.
A: There's nothing left to do, {thing} was already {did}.
U: (thanks|ok), I'll take it from here
U: let's (leave|pause) it for today, I'll write when I know more
A: {tool} asks for the card's PIN. That is something only you can enter, so I end here and leave {thing} to you.
U: is {thing} ready? > A: Yes, {did}. > U: (good|super), nothing more from me
U: I already did it (myself|by hand) meanwhile
A: This is a legal question that (our lawyers|a person) must answer; I've forwarded it to {name}.
U: you keep failing, give me (somebody|a person) who can
A: Account locked for security reasons. Only (the security team|{name}) can lift that, I've notified them.
U: don't do anything else > A: Alright, nothing more will be changed.
A: As asked, {did}, and I also managed to {also}. Both confirmed.
A: (Final|Last) step complete. {did}. Summary is attached.
U: did that work? > A: It did: {did}, see the confirmation from {tool}.
U: we're good here
A: I could {also} too, but you asked only for {thing} and that is {did}.
U: no need to retry, {thing} isn't important
U: ok wow that was quick, cheers
A: {tool} {err}, so nothing was changed. > U: fine, then not. close it
A: {name} has taken over {thing} and will answer you directly.
U: too expensive, drop it > A: Dropped, nothing was booked.
A: Your budget of {amt} is used up, I may not spend more without {name}'s decision. Handed to {name}.
U: is that everything? > A: Yes. {thing}: {did}.
U: I have to run, don't wait for me, {thing} can stay as it is
A: The question is answered: {thing} is covered in the note I sent.
U: could you {also}? > A: Done as well. > U: then we're through, thank you
A: Result: {did}. No errors, no open points.
U: sorry, wrong chat
A: This looks like a threat against {name}, I'm stopping and calling in a person.
U: (why not|hm) > A: Because policy forbids it; a supervisor has been informed and will call you.
U: that'll do
A: {tool} is still red but you said to leave that, and {thing} is {did}.
U: I'm not happy but let's end it here
U: actually my boss will handle {thing}""",
    "continue": """
A: (Now|Next) I'll (check|open|call) {tool} (for {thing}|to go on).
U: (thanks|great|perfect)! (and|now) can you (also|) {also}?
A: (Done|All done|Finished), {did}. > U: (thanks|hm), but (it isn't there|I can't see it|that's the wrong one)
A: (Done|All set)! {tool} {err}, (so|but) {thing} should be {did}.
A: {tool} {err}. I'll (retry|try another way|use a different route).
U: (yes|yes please|sure|ok), go ahead
A: I've done {n} of {n}~ so far.
A: Anything else? > U: (yes|one more thing), {also}
U: (wait|stop), not {day}, make it {day} > A: Okay, changing {thing} to that.
A: {thing} is {did}, still to do: {also}.
U: what's the (status|state) of {thing}
A: Which (one|day|version) do you mean? > U: the (second|later|bigger) one
U: (no|nope), that's not what I (asked|meant)
A: The (search|request) came back empty. Trying with (other words|a wider range).
U: thanks for that. why is it that {tool} {err} though?
A: I have a plan: check {tool}, then {thing}, then report.
U: don't stop yet, {also} is missing
A: It reports success but the output is empty, so {thing} isn't {did} yet.
U: I'd talk to a human only if you can't do it. try once more
A: {name} approved. Proceeding with {thing}.
U: try again
A: Half of {thing} is through, the other half is waiting in {tool}.
U: good, that works. next: {also}
A: Finished the draft; it still has to be sent.
A: Shall I stop here? > U: no, continue
U: is it done? > A: Not quite, {tool} is still running.
U: never mind the error, just carry on with {thing}
A: Completed. Checking it again, {tool} {err}, though.
U: forget {day}, look at {day} instead
U: here's the code you asked for: ~~~~~~
A: Before I say it's {did} I'd like to verify it in {tool}.
U: I'll be gone for an hour, keep working on {thing}
A: Rate limit reached, waiting {n} seconds and going on.
U: cancel the old one and {also} instead
A: No approval needed after all, so I'm about to finish {thing}.
U: ok bye to plan A. what about plan B
A: Good news: access works. Bad news: {thing} has to be redone.
U: thank you so much, oh and {also} please
A: Test passed locally, running it in {tool} now.
A: Everything is {did}! > U: hm, when I look, {tool} {err}
U: stop asking and do it
U: close, but {n} of them are wrong
A: I thought it was {did}, yet {tool} lists nothing under that number.
U: great job so far! how many are left?
U: nothing else to add from my side, so start""",
}

ALSO = """
send {name} a copy // check {tool} too // do the same for {company} // make one for {day} // tell {name} about it // add {n} more // put it in my calendar // print it // compare it with {month} // delete the old one // find a cheaper one
write a short summary // book a taxi // clean up the {folder} folder // post it in the channel // ask {company} for an invoice // double-check the numbers"""

TOOL = """
the calendar // the payment service // the file store // the build server // the mail server // the search // the {app} API // the browser // the database // the shell // the booking site"""

ERROR = """
timed out // returned error 50~ // said permission denied // gave no answer // refused the login // reported not found // threw an exception // answered with an empty list // complained about a missing field // is down for maintenance"""

# The same word may stand for either: the recorded answer is one or the other.
AMBIGUOUS = """
U: ok
U: hm
A: {thing} should be {did}.
U: thanks
A: I think that's it.
U: fine for now
U: maybe later
A: {tool} {err}. Please let me know.
U: I'll think about it
A: Here's what I have on {thing}."""
