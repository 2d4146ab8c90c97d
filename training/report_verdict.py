"""The verdict of a report: whether it is safe to turn on, in the words of whoever decides that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cascade.manifest import settled_share
from training.certificate import Certificate
from training.document import Block, Facts, Text
from training.expected_cost import expected
from training.node_report import NodeReport
from training.wording import dollars, sentence

CERTIFICATE_FIELDS = (
    "valid", "bar", "delta", "threshold", "n_held_out", "n_settled", "n_wrong", "agreement_lower",
    "more_records", "reason",
)  # fmt: skip


def certificate_of(manifest: Mapping[str, Any]) -> Certificate:
    """Read the node's certificate out of a manifest."""
    found = manifest["certificate"]
    return Certificate(**{name: found[name] for name in CERTIFICATE_FIELDS})


def headline(report: NodeReport) -> list[Block]:
    """Give the verdict, what is to be said with it, and the few numbers that matter."""
    verdict, tone = _verdict(report, certificate_of(report.manifest))
    said_with_it = [Text(line, "bad") for line in report.caveats]
    place = [Text(" ".join(report.place))] if report.place else []
    return [Text(verdict, "good" if tone else "bad"), *said_with_it, *place, Facts(_facts(report, tone))]


def _facts(report: NodeReport, settles: bool) -> list[tuple[str, str]]:
    """Give the numbers under the verdict; what does not hold now is told as what would, or was."""
    proof = certificate_of(report.manifest)
    if not proof.valid:
        return [("0%", "of requests answered locally"), (f"{proof.bar:.1%}", "is the bar, not proven")]
    share = f"{settled_share(dict(report.manifest)):.0%}"
    overall = (report.manifest["certificate"].get("end_to_end") or {}).get("disagreement")
    differ = None if overall is None else f"{1000 * overall:.0f} in 1,000"
    money = expected(report)
    saved = None if money is None else dollars(1000 * money.cost.net)
    bar, sure = f"{proof.bar:.1%}", f"at confidence {1 - proof.delta:.0%}"
    facts: list[tuple[str | None, str]]
    if settles:
        facts = [
            (share, "of requests answered locally"),
            (bar, f"agreement proven, {sure}"),
            (differ, "of all answers differ from the teacher's"),
            (saved, "saved per 1,000 requests, net"),
        ]
    else:
        facts = [
            ("0%", "of requests answered locally now"),
            (share, "of the held-out records it would have answered locally"),
            (bar, f"agreement was proven for traffic like them, {sure}"),
            (differ, "of all answers to them would have differed from the teacher's"),
            (saved, "would be saved per 1,000 requests like them, net"),
        ]
    return [(number, what) for number, what in facts if number is not None]


def _verdict(report: NodeReport, proof: Certificate) -> tuple[str, bool]:
    """Say it in a sentence, and whether it settles anything where it serves."""
    economy = report.manifest.get("economy") or {}
    if not proof.valid:
        return f"No: {proof.reason}. The teacher answers everything.", False
    back = report.pulled_back
    if back is not None:
        begin = "No: the guard pulled it back" if back.by_guard else f"Not now: {back.who} pulled it back"
        return sentence(f"{begin}: {back.why}" if back.why else begin), False
    if report.standing.fences:
        return f"Not now: {'; '.join(report.standing.fences)}. The teacher answers everything.", False
    if economy.get("too_dear"):
        return (
            f"It is proven, but it does not pay, so the teacher answers everything: {economy['too_dear']}.",
            False,
        )
    return (
        f"Yes, within what was proven: of the answers that it gives itself, at least {proof.bar:.1%} are "
        "what the teacher would have said.",
        True,
    )


def tried_on(found: Mapping[str, Any], proof: Certificate) -> str:
    """Say on how many records a bundle was tried, and how many groups they are where that is fewer."""
    records = found.get("held_out_records", proof.n_held_out)
    if records == proof.n_held_out:
        return f"{records:,} records that no model had seen"
    return (
        f"{proof.n_held_out:,} records that no model had seen: one, drawn at random, of each group of near "
        f"copies and sessions among {records:,} held-out records, since the others of a group prove nothing "
        "new"
    )


def safety(report: NodeReport) -> list[Block]:
    """Say in plain words what was proven, on what, and when it no longer holds."""
    found = report.manifest["certificate"]
    blocks = _proven(report) if certificate_of(report.manifest).valid else _not_proven(report)
    noise = found.get("teacher_noise")
    if noise:
        blocks.append(
            Text(
                f"Asked twice, the teacher contradicted itself on {noise['disagreed']:,} of "
                f"{noise['repeated']:,} repeated inputs. No model can agree with it on more than about "
                f"{noise['ceiling']:.1%}."
            )
        )
    live = found.get("live_sample")
    if live and (live["audited"] or live["escalated"]):
        blocks.append(
            Text(
                f"Of the held-out records {live['audited']:,} are answers that a serving ladder settled and "
                f"an audit checked, {live['escalated']:,} were escalated by it and drawn as seldom as audits "
                f"are, and {live['unselected']:,} are from traffic that the teacher answered all. "
                f"{live['only_learned_from']:,} further answers were learned from and prove nothing."
            )
        )
    alike = found.get("exchangeability")
    if alike:
        blocks.append(Text(f"Is the traffic still the same? {sentence(alike['reason'])}"))
    blocks += [
        Text(f"It {reason}.", "bad") for reason in report.standing.lines() if reason.startswith("settles")
    ]
    blocks += [Text(sentence(line)) for line in report.standing.lines() if not line.startswith("settles")]
    if not certificate_of(report.manifest).valid:
        return blocks
    teacher = found.get("teacher")
    named = f" than {teacher['model']}" if isinstance(teacher, dict) and teacher.get("model") else ""
    blocks.append(
        Text(
            "It holds while traffic is like the traffic it was proven on. It says nothing about traffic of "
            f"another kind, another teacher{named}, another prompt or other labels: audits and the guard "
            "watch for the first, and the others void it.",
            "note",
        )
    )
    return blocks


def _not_proven(report: NodeReport) -> list[Block]:
    proof = certificate_of(report.manifest)
    return [
        Text(
            f"It was tried on {tried_on(report.manifest['certificate'], proof)}, and the bar of "
            f"{proof.bar:.1%} could not be proven on them. So it may answer none itself: all go to the "
            "teacher, as before."
        )
    ]


def _proven(report: NodeReport) -> list[Block]:
    proof = certificate_of(report.manifest)
    wrong = 100 * proof.n_wrong / max(proof.n_settled, 1)
    blocks: list[Block] = [
        Text(
            f"It was tried on {tried_on(report.manifest['certificate'], proof)}. It would have answered "
            f"{proof.n_settled:,} of them itself, and {proof.n_wrong:,} of those ({wrong:.1f} in 100) were "
            "not what the teacher said. All the others go to the teacher, as before."
        ),
        Text(
            f"From that follows, with confidence {1 - proof.delta:.0%}, an agreement of at least "
            f"{proof.agreement_lower:.2%} among the answers that it gives itself; the bar is {proof.bar:.1%}."
        ),
    ]
    overall = report.manifest["certificate"].get("end_to_end")
    if overall:
        blocks.append(
            Text(
                f"Over everything, the teacher's own answers included, {overall['disagreement']:.1%} of the "
                f"answers would differ from the teacher's ({overall['low']:.1%} to {overall['high']:.1%})."
            )
        )
    return blocks
