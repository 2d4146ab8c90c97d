"""The alerts, played by promtool on series as the service gives them."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT

RULES = ROOT / "deploy" / "prometheus" / "cascade.yaml"
PROMTOOL = shutil.which("promtool")
pytestmark = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed")


def series(name: str, values: str) -> dict[str, str]:
    return {"series": name, "values": values}


def play(
    folder: Path,
    given: list[dict[str, str]],
    alert: str,
    *moments: tuple[str, list[dict[str, str]]],
    severity: str = "ticket",
) -> None:
    """Check with which labels an alert fires at some moments."""
    tests: dict[str, Any] = {"interval": "1m", "input_series": given, "alert_rule_test": []}
    for at, fires in moments:
        expected = [{"exp_labels": {"severity": severity} | labels} for labels in fires]
        tests["alert_rule_test"].append({"eval_time": at, "alertname": alert, "exp_alerts": expected})
    rules = yaml.safe_load(RULES.read_text())
    for rule in rules["groups"][0]["rules"]:
        rule["annotations"] = {}  # labels are what is compared here
    (folder / "rules.yaml").write_text(yaml.safe_dump(rules))
    (folder / "play.yaml").write_text(yaml.safe_dump({"rule_files": ["rules.yaml"], "tests": [tests]}))
    assert PROMTOOL is not None
    done = subprocess.run(
        [PROMTOOL, "test", "rules", "play.yaml"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_node_whose_bundle_went_is_told_and_one_that_was_given_another_is_not(tmp_path: Path) -> None:
    given = [
        series('up{job="cascade"}', "1x90"),
        series('cascade_bundle_info{node="gone", version="1"}', "1x9 0x80"),
        series('cascade_bundle_info{node="renewed", version="1"}', "1x9 0x80"),
        series('cascade_bundle_info{node="renewed", version="2"}', "_x9 1x80"),
    ]
    play(tmp_path, given, "CascadeServesNoBundle", ("8m", []), ("25m", [{"node": "gone"}]))


def test_a_service_without_any_bundle_is_told_where_it_is_up(tmp_path: Path) -> None:
    play(tmp_path, [series('up{job="cascade"}', "1x30")], "CascadeServesNoBundle", ("5m", []), ("15m", [{}]))
    play(tmp_path, [series('up{job="cascade"}', "0x30")], "CascadeServesNoBundle", ("15m", []))


def test_who_is_refused_for_too_much_load_is_told_and_who_asks_beyond_its_own_limit_is_not(
    tmp_path: Path,
) -> None:
    said = 'cascade_call_errors_total{method="%s", code="RESOURCE_EXHAUSTED", reason="%s"}'
    given = [
        series(said % ("Decide", "overloaded"), "0+300x30"),
        series(said % ("ModelInfer", "overloaded"), "0+6x30"),
        series(said % ("BatchDecide", "quota_exceeded"), "0+300x30"),
    ]
    sheds = [{"method": "Decide"}]
    play(tmp_path, given, "CascadeSheds", ("4m", []), ("15m", sheds), severity="page")


def test_calls_that_a_busy_worker_does_not_look_at_are_told_and_what_a_scanner_asks_is_not(
    tmp_path: Path,
) -> None:
    unseen = 'cascade_call_errors_total{instance="%s", method="unseen", code="CANCELLED", reason="unseen"}'
    spent = 'cascade_worker_cpu_seconds_total{instance="%s", worker="0"}'
    given = [
        series(unseen % "busy", "0+300x30"),
        series(spent % "busy", "0+58x30"),
        series(unseen % "scanned", "0+300x30"),
        series(spent % "scanned", "0+3x30"),
        series(unseen % "fine", "0+6x30"),
        series(spent % "fine", "0+58x30"),
    ]
    told = [{"instance": "busy"}]
    play(tmp_path, given, "CascadeEndsUnseen", ("4m", []), ("15m", told), severity="page")


def test_a_few_calls_that_were_left_unseen_are_a_ticket_for_a_quarter_of_an_hour(tmp_path: Path) -> None:
    unseen = 'cascade_call_errors_total{instance="%s", method="unseen", code="CANCELLED", reason="unseen"}'
    given = [series(unseen % "stalled", "0x4 30x40"), series(unseen % "fine", "0x4 5x40")]
    told = [{"instance": "stalled"}]
    play(tmp_path, given, "CascadeLeftUnseen", ("3m", []), ("10m", told), ("30m", []))


def test_a_worker_whose_loop_stands_still_is_told_and_one_that_ended_is_not(tmp_path: Path) -> None:
    given = [
        series('cascade_worker_seen_timestamp_seconds{worker="0", pid="7"}', "0+60x30"),
        series('cascade_worker_seen_timestamp_seconds{worker="1", pid="8"}', "0+60x10 600x20"),
        series('cascade_worker_seen_timestamp_seconds{worker="2", pid="9"}', "0+60x10 stale"),
    ]
    hangs = [{"worker": "1", "pid": "8"}]
    play(tmp_path, given, "CascadeWorkerHangs", ("11m", []), ("13m", hangs), severity="page")


def test_a_worker_that_was_replaced_is_told_and_one_that_a_reload_started_is_not(tmp_path: Path) -> None:
    given = [
        series('cascade_worker_starts_total{worker="0", after="start"}', "1x40"),
        series('cascade_worker_starts_total{worker="0", after="reload"}', "0x5 1x35"),
        series('cascade_worker_starts_total{worker="0", after="hang"}', "0x5 1x35"),
        series('cascade_worker_starts_total{worker="0", after="death"}', "0x40"),
    ]
    replaced = [{"worker": "0", "after": "hang"}]
    play(tmp_path, given, "CascadeWorkerReplaced", ("4m", []), ("8m", replaced), ("30m", []))


def test_a_rollback_is_told_for_an_hour(tmp_path: Path) -> None:
    given = [
        series('cascade_rolled_back_timestamp_seconds{node="n", version="2"}', "_x9 540x200"),
        series('cascade_rolled_back_timestamp_seconds{node="n", version="1"}', "_x79 4740x130"),
    ]
    second, first = ({"node": "n", "version": version} for version in "21")
    told = ("12m", [second]), ("85m", [first]), ("200m", [])
    play(tmp_path, given, "CascadeRolledBack", ("8m", []), *told)


def test_a_certificate_that_ends_is_a_ticket_for_two_weeks_and_a_page_on_the_last_day(tmp_path: Path) -> None:
    ends = 'cascade_certificate_expiry_timestamp_seconds{instance="%s", file="cert"}'
    day = 86_400
    given = [
        series(ends % "soon", f"{10 * day}x60"),
        series(ends % "over", f"{day // 48}x60"),  # half an hour after the beginning
        series(ends % "renewed", f"{10 * day}x20 {90 * day}x40"),
        series(ends % "fine", f"{90 * day}x60"),
    ]
    told = [{"instance": name, "file": "cert"} for name in ("soon", "over")]
    renewed = {"instance": "renewed", "file": "cert"}
    moments = ("8m", list[dict[str, str]]()), ("15m", [*told, renewed]), ("25m", told)
    play(tmp_path, given, "CascadeCertificateEnds", *moments)
    over = [told[1]]
    play(tmp_path, given, "CascadeCertificateEnded", ("5m", over), ("45m", over), severity="page")
