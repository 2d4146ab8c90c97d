"""The page: figures from the store, guarded buttons, and the page itself in headless Chromium."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from cascade.ask import Ask, Attempt
from cascade.observe.rollouts import rollout_metrics
from cascade.page.guarding import CSRF, CSRF_HEADER
from cascade.page.interval import weighted_share
from cascade.policy.guard import Action, Raised
from cascade.rollout.records import Audit, AuditResult
from cascade.rollout.verbs import Verbs
from cascade.security.keys import create_key
from tests.conftest import NODE, ROOT
from tests.gateway_side import Side

Start = Callable[..., Side]


def audit(side: Side, decided: Any, right: bool, teacher: str) -> None:
    """Put the result of an audit into the shared state, as the auditor does."""
    drawn = Audit(decided.decision_id, NODE, decided.bundle_version, 5, time.time(), 0.5, decided.rung)
    side.engine.rollouts.store.add_audits([drawn], "test", time.time() + 60)
    side.engine.rollouts.store.finish_audits([AuditResult(drawn, time.time(), teacher, right, 0.001)])


@pytest.fixture
def side(start: Start, unseen: list[dict[str, Any]]) -> Side:
    """A node with traffic and audits, three of which found wrong answers."""
    return with_traffic(start(), unseen)


def with_traffic(made: Side, unseen: list[dict[str, Any]]) -> Side:
    decided = [made.engine.decide(Ask(NODE, record["text"])) for record in unseen[:120]]
    assert made.store.flush(10)
    local = [d for d in decided if d.rung != "frontier"]
    for index, each in enumerate(local[:60]):
        wrong = index < 3
        audit(made, each, not wrong, "missing_parcel" if wrong else each.output)
    return made


def figures(side: Side, **options: Any) -> Any:
    reply = httpx2.get(f"{side.url}/page/nodes", params={"hours": "24"}, **options)
    assert reply.status_code == 200, reply.text
    return reply.json()["nodes"][0]


def begin_rollout(side: Side) -> None:
    version = side.engine.nodes[NODE].bundle.version
    (side.config.models_path / NODE / "serving").unlink()
    verbs(side).start(NODE, "test", "a first look", version, percent=5, approval="manual")


def verbs(side: Side) -> Verbs:
    return Verbs(side.config, side.engine.rollouts.store)


def test_figures_are_those_of_the_traffic(side: Side, unseen: list[dict[str, Any]]) -> None:
    shown = figures(side)
    assert shown["traffic"]["decisions"] == 120
    assert sum(shown["traffic"]["by_rung"].values()) == 120
    assert sum(sum(b["by_rung"].values()) for b in shown["traffic"]["over_time"]) == 120
    by_teacher = shown["traffic"]["by_rung"]["frontier"]
    assert shown["traffic"]["settled"] == pytest.approx(1 - by_teacher / 120)
    usd = shown["traffic"]["usd"]
    assert shown["traffic"]["usd_if_teacher"] == pytest.approx(usd / by_teacher * 120)
    assert shown["money"]["audits"] == pytest.approx(0.06)
    assert shown["money"]["saved"] == pytest.approx(usd / by_teacher * 120 - usd - 0.06)
    assert shown["audited"]["n"] == 60
    assert shown["audited"]["agreement"] == pytest.approx(57 / 60)
    assert shown["audited"]["low"] < 57 / 60 < shown["audited"]["high"]
    assert sum(pair["count"] for pair in shown["confusions"]) == 3
    assert {pair["teacher"] for pair in shown["confusions"]} == {"missing_parcel"}
    assert shown["certificate"]["valid"]
    assert shown["traffic"]["latency"]["ladder"]["p50"] < shown["traffic"]["latency"]["teacher"]["p95"] * 10
    text = httpx2.get(f"{side.url}/metrics").text if side.http._observing else ""
    assert "cascade_audits_total" in text or not text


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = random.Random(0)
    covered = 0
    for _ in range(400):
        drawn = [rng.choice((0.2, 1.0)) for _ in range(150)]
        found = weighted_share([rng.random() < 0.95 for _ in drawn], drawn)
        assert found is not None
        covered += found[1] <= 0.95 <= found[2]
    assert covered / 400 > 0.92
    assert weighted_share([], []) is None


def test_changes_need_the_pages_own_cookie_and_no_other_site(side: Side) -> None:
    url = f"{side.url}/page/nodes/{NODE}/hold"
    token = httpx2.get(side.url).cookies[CSRF]
    good = {"cookie": f"{CSRF}={token}", CSRF_HEADER: token}
    for headers in (
        {},
        {"cookie": f"{CSRF}={token}"},
        {CSRF_HEADER: token},
        good | {CSRF_HEADER: "another"},
        good | {"origin": "https://evil.example"},
        good | {"sec-fetch-site": "cross-site"},
        good | {"host": "evil.example"},
    ):
        assert httpx2.post(url, headers=headers).status_code == 403, headers
    refused = httpx2.post(url, headers=good)
    assert refused.status_code == 422  # it came through: there is no rollout to hold
    assert refused.json()["error"]["code"] == "rollout_refused"
    assert httpx2.get(side.url, headers={"host": "evil.example:80"}).status_code == 403
    assert httpx2.get(f"{side.url}/page/nodes?hours=3").status_code == 400
    assert httpx2.get(f"{side.url}/page/../../../etc/passwd").status_code == 404


def test_with_keys_figures_and_changes_need_one_that_allows_admin(start: Start, tmp_path: Path) -> None:
    _, admin = create_key(tmp_path / "keys.json", "ops", verbs=("admin",))
    _, caller = create_key(tmp_path / "keys.json", "acme", verbs=("decide",))
    side = start(auth={"keys": "keys.json"})
    url = f"{side.url}/page/nodes"
    assert httpx2.get(side.url).status_code == 200
    assert httpx2.get(url).status_code == 401
    assert httpx2.get(url, headers={"authorization": f"Bearer {caller}"}).status_code == 403
    assert httpx2.get(url, headers={"authorization": f"Bearer {admin}"}).status_code == 200
    token = httpx2.get(side.url).cookies[CSRF]
    change = {"cookie": f"{CSRF}={token}", CSRF_HEADER: token}
    assert httpx2.post(f"{url}/{NODE}/hold", headers=change).status_code == 401


def test_with_an_address_for_admins_the_page_shows_and_changes_nothing(
    start: Start, tmp_path: Path, unseen: list[dict[str, Any]]
) -> None:
    _, admin = create_key(tmp_path / "keys.json", "ops", verbs=("admin",))
    side = start(auth={"keys": "keys.json"}, server={"admin_listen": "127.0.0.1:0"})
    begin_rollout(side)
    token = httpx2.get(side.url).cookies[CSRF]
    headers = {"cookie": f"{CSRF}={token}", CSRF_HEADER: token, "authorization": f"Bearer {admin}"}
    for verb in ("approve", "hold", "rollback"):
        refused = httpx2.post(f"{side.url}/page/nodes/{NODE}/{verb}", headers=headers)
        assert refused.status_code == 403
        assert "at `server.admin_listen` only" in refused.json()["error"]["message"]
    assert [event.what for event in verbs(side).history(NODE)] == ["start"]
    shown = httpx2.get(f"{side.url}/page/nodes", headers=headers).json()
    assert [node["node"] for node in shown["nodes"]] == [NODE]
    assert not shown["may_change"]


def test_the_page_asks_nobody_else(side: Side) -> None:
    page = httpx2.get(side.url)
    assert "default-src 'none'" in page.headers["content-security-policy"]
    size = len(page.content)
    for name in ("page.js", "draw.js", "page.css"):
        file = httpx2.get(f"{side.url}/page/{name}")
        assert file.status_code == 200
        assert "http" not in file.text.replace("http://www.w3.org/2000/svg", "")
        size += len(file.content)
    assert size < 40_000


@pytest.fixture
def browser() -> Iterator[Any]:
    selenium = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        assert not os.environ.get("CASCADE_REQUIRE_DATA"), "there is no browser, and this run must not skip"
        pytest.skip("chromium and chromedriver are not installed (apt install chromium chromium-driver)")
    options = selenium.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = selenium.Chrome(options=options, service=selenium.ChromeService(driver))
    yield opened
    opened.quit()


def tell_of_drift(side: Side) -> Raised:
    moved = Raised("drift of scores", "90 of 100 requests got a low confidence", Action.HOLD)
    side.engine.rollouts.watch._board.tell(NODE, {side.engine.nodes[NODE].bundle.version: [moved]})
    return moved


def raise_alarms(side: Side, bundle: Any) -> None:
    """Let the live requests of a bundle fail and escalate, as the guard counts them."""
    attempts = [Attempt("linear", 0.5, 0.5, reason="error: broken")]
    for i in range(400):
        for escalation in side.engine.rollouts.alarms.count(NODE, bundle, [attempts], [f"text {i}"], False):
            escalation.ended(True)
    side.engine.rollouts.watch.judge()


def test_an_alarm_is_shown_with_its_reason_and_since_when(side: Side) -> None:
    assert figures(side)["alarms"] == []
    rollouts, version = side.engine.rollouts, side.engine.nodes[NODE].bundle.version
    began = time.time()
    moved = tell_of_drift(side)
    time.sleep(1.1)  # the figures are at most a second old
    (alarm,) = figures(side)["alarms"]
    assert began <= alarm.pop("since") <= time.time()
    assert alarm == {
        "bundle": version, "name": moved.name, "action": "hold", "processes": 1, "reason": moved.reason,
    }  # fmt: skip
    rollouts.watch._board.tell(NODE, {})


def test_an_alarm_that_live_requests_raise_reaches_the_page_and_the_metrics(start: Start) -> None:
    side = start()
    begin_rollout(side)
    rollouts, bundle = side.engine.rollouts, side.engine.nodes[NODE].bundle
    rollouts.refresh()
    rng = random.Random(0)
    for batch in range(60):
        for i in range(50):
            score, text = rng.random() * (1.0 if batch < 30 else 0.3), f"text {batch} {i}"
            for escalation in rollouts.alarms.count(
                NODE, bundle, [[Attempt("linear", rng.random(), score)]], [text], rng.random() < 0.8
            ):
                escalation.ended(True)
        rollouts.watch.judge()
    (alarm,) = figures(side)["alarms"]
    assert (alarm["name"], alarm["bundle"], alarm["action"]) == ("drift of scores", bundle.version, "hold")
    assert "got a confidence of the first rung" in alarm["reason"]
    found = {metric.name: metric for metric in rollout_metrics(side.config, side.store)}
    (sample,) = found["cascade_alarms_raised"].samples
    assert (sample.labels["alarm"], sample.value) == ("drift of scores", 1)


def test_what_an_alarm_pulled_back_is_in_the_events_and_no_alarm_any_more(start: Start) -> None:
    side = start()
    bundle = side.engine.nodes[NODE].bundle
    begin_rollout(side)
    side.engine.rollouts.refresh()
    raise_alarms(side, bundle)
    shown = figures(side)
    assert shown["events"][0]["what"] == "rollback"
    assert "400 requests" in shown["events"][0]["why"]
    assert shown["alarms"] == []


def test_an_alarm_of_what_everybody_is_served_by_is_shown_and_pulls_nothing_back(start: Start) -> None:
    side = start()
    raise_alarms(side, side.engine.nodes[NODE].bundle)
    shown = figures(side)
    assert [(alarm["name"], alarm["action"]) for alarm in shown["alarms"]] == [
        ("errors", "hold"), ("storm", "hold"),
    ]  # fmt: skip
    assert not any(event["what"] == "rollback" for event in shown["events"])


AXE = ROOT / "build" / "axe" / "node_modules" / "axe-core" / "axe.min.js"


def test_axe_finds_nothing_that_keeps_people_out(
    start: Start, browser: Any, unseen: list[dict[str, Any]]
) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    if not AXE.exists():
        assert not os.environ.get("CASCADE_REQUIRE_DATA"), f"{AXE} is not there, and this run must not skip"
        pytest.skip("axe-core is not installed (npm install --prefix build/axe axe-core@4.10.3)")
    side = start()
    begin_rollout(side)
    with_traffic(side, unseen)
    tell_of_drift(side)
    browser.get(side.url)
    WebDriverWait(browser, 20).until(lambda b: "drift of scores" in b.page_source)
    browser.execute_script(AXE.read_text(encoding="utf-8"))
    run = "const done = arguments[0]; axe.run().then(r => done([r.passes.length, r.violations]))"
    for size in ((1280, 1100), (500, 900)):
        browser.set_window_size(*size)
        passes, violations = browser.execute_async_script(run)
        assert [(v["id"], v["nodes"][0]["html"]) for v in violations] == []
        assert passes > 10


def test_in_a_browser_figures_are_live_and_a_rollout_is_rolled_back_by_keyboard(
    start: Start,
    browser: Any,
    tmp_path: Path,
    unseen: list[dict[str, Any]],
) -> None:
    from selenium.common.exceptions import StaleElementReferenceException
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import WebDriverWait

    side = start()
    begin_rollout(side)
    with_traffic(side, unseen)
    shots = Path(os.environ.get("CASCADE_SCREENSHOTS", tmp_path))
    browser.set_window_size(1280, 1100)
    browser.get(side.url)
    # Cards are replaced while they are looked at, so each look begins at the document.
    wait = WebDriverWait(browser, 20, ignored_exceptions=[StaleElementReferenceException])

    def text(selector: str) -> str:
        return str(browser.execute_script("return document.querySelector(arguments[0]).innerText", selector))

    def press(selector: str) -> bool:
        browser.find_element(By.CSS_SELECTOR, selector).send_keys(Keys.ENTER)
        return True

    wait.until(lambda b: "119 decisions" in b.page_source or "120 decisions" in b.page_source)
    for said in ("rolling out, at 5 %", "95.0 %", "missing_\u200bparcel", "None is raised"):
        assert said in text("main")
    tell_of_drift(side)
    wait.until(lambda _: "1 alarm" in text(".top"))
    assert "90 of 100 requests got a low confidence; nothing is pulled back for it" in text("main")
    assert "drift of scores since " in text("main")
    browser.save_screenshot(str(shots / "page-desktop.png"))
    # It follows what happens, without being loaded again.
    side.engine.decide(Ask(NODE, unseen[0]["text"]))
    wait.until(lambda b: "121 decisions" in b.page_source)
    # Without a mouse: to the button, Enter, the reason, Enter.
    wait.until(lambda _: press('[data-verb="rollback"]'))
    reason = browser.switch_to.active_element
    assert reason.get_attribute("id") == "why"
    browser.save_screenshot(str(shots / "page-dialog.png"))
    reason.send_keys("answers look odd" + Keys.ENTER)
    wait.until(lambda _: "rolled back" in text(".badge"))
    assert "answers look odd" in text(".events")
    # The button is of no use now; the place is kept.
    wait.until(lambda _: text(":focus") == NODE)
    last = verbs(side).history(NODE)[-1]
    assert (last.what, last.who, last.why) == ("rollback", "page", "answers look odd")
    browser.set_window_size(500, 900)
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True},
    )
    wide = browser.execute_script("return document.documentElement.scrollWidth")
    assert wide <= 390
    browser.get_screenshot_as_png()
    (shots / "page-phone.png").write_bytes(browser.get_screenshot_as_png())
    severe = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert not severe
