import { ago, agreementChart, breakable, count, el, legend, ms, percent, sharesChart, timeAxis, usd, when } from "./draw.js";

const EVERY = 3000;
const byId = (id) => document.getElementById(id);
const shown = new Map(); // node: the JSON that its card was made of
let key = sessionStorage.getItem("cascade-key") || "";
let timer = 0;

const VERBS = {
  approve: ["Approve", "The rollout goes on to its next step once the evidence is there."],
  hold: ["Hold", "The rollout stays at its step; the guard may still roll it back."],
  rollback: ["Roll back", "The bundle stops serving everywhere at once and is barred."],
};

function headers(more = {}) {
  return key ? { authorization: "Bearer " + key, ...more } : more;
}

async function load() {
  clearTimeout(timer);
  try {
    const reply = await fetch("page/nodes?hours=" + byId("hours").value, { headers: headers() });
    const data = await reply.json();
    if (reply.status === 401 || reply.status === 403) return needKey(data.error.message);
    if (!reply.ok) throw new Error(data.error.message);
    byId("key").hidden = true;
    draw(data);
    say(`updated ${new Date(data.time * 1000).toLocaleTimeString()}`, false, true);
  } catch (error) {
    say(`not updated: ${error.message}`, true);
  }
  timer = setTimeout(load, document.hidden ? 10 * EVERY : EVERY);
}

function say(text, bad = false, quiet = false) {
  const state = byId("state");
  // A screen reader is told of what changed, not of every look.
  state.setAttribute("aria-live", quiet ? "off" : "polite");
  state.className = bad ? "state bad" : "state";
  state.textContent = text;
}

function needKey(why) {
  say(key ? why : "", Boolean(key));
  byId("key").hidden = false;
  byId("nodes").replaceChildren();
  byId("sum").textContent = "";
  shown.clear();
}

function draw(data) {
  const main = byId("nodes");
  const good = data.nodes.filter((node) => !node.error);
  const decisions = good.reduce((sum, node) => sum + node.traffic.decisions, 0);
  const local = good.reduce((sum, node) => sum + node.traffic.decisions * (node.traffic.settled || 0), 0);
  const saved = good.reduce((sum, node) => sum + (node.money.saved || 0), 0);
  const whose = data.tenant ? `of ${data.tenant}: ` : "";
  byId("sum").textContent = data.nodes.length
    ? whose + `${data.nodes.length === 1 ? "1 node" : count(data.nodes.length) + " nodes"}, ${count(decisions)} decisions, ${percent(decisions ? local / decisions : null)} settled locally, ${usd(saved)} saved`
    : "No node is configured yet: calls are captured for discovery.";
  for (const node of data.nodes) {
    const text = JSON.stringify({ ...node, hours: data.hours, may_change: data.may_change });
    if (shown.get(node.node) === text) continue;
    const old = document.getElementById("node-" + node.node);
    const focus = old && old.contains(document.activeElement) ? document.activeElement.dataset.verb : null;
    const fresh = node.error ? broken(node) : card(node, data);
    if (old) old.replaceWith(fresh);
    else main.append(fresh);
    // Where the button can do nothing any more, the place is kept all the same.
    if (focus) (fresh.querySelector(`[data-verb="${focus}"]:enabled`) || fresh.querySelector("h2"))?.focus();
    shown.set(node.node, text);
  }
}

function broken(node) {
  return el("article", { class: "card", id: "node-" + node.node }, el("h2", {}, node.node), el("p", { class: "bad" }, node.error));
}

function status(node) {
  const { rollout, traffic } = node;
  const at = rollout.shadow ? "in shadow" : `at ${rollout.percent} %`;
  const words = {
    "none": rollout.stable ? ["live for everyone", "good"] : ["the teacher answers everything", ""],
    "running": rollout.full ? ["live for everyone", "good"] : ["rolling out, " + at, "good"],
    "held": ["held, " + at, "wait"],
    "awaiting-approval": ["waits for approval, " + at, "wait"],
    "rolled-back": ["rolled back", "bad"],
  };
  return words[rollout.status] || [rollout.status.replaceAll("-", " ") + ", " + at, traffic ? "" : "wait"];
}

function card(node, data) {
  const [words, tone] = status(node);
  const moving = Boolean(node.rollout.candidate);
  const buttons = Object.entries(VERBS).map(([verb, [label]]) => {
    const can = data.may_change && (verb === "rollback" ? moving || Boolean(node.rollout.stable) : moving);
    const button = el("button", { type: "button", "data-verb": verb, class: verb === "rollback" ? "danger" : "", disabled: !can, "aria-label": `${label} ${node.node}` }, label);
    button.addEventListener("click", () => change(node, verb));
    return button;
  });
  return el("article", { class: "card", id: "node-" + node.node, "aria-labelledby": "name-" + node.node },
    el("div", { class: "top" },
      el("h2", { id: "name-" + node.node, tabindex: "-1" }, node.node),
      el("span", { class: "badge " + tone }, words),
      node.alarms.length ? el("span", { class: "badge " + alarmTone(node) }, node.alarms.length === 1 ? "1 alarm" : count(node.alarms.length) + " alarms") : null,
      node.version ? el("span", { class: "soft" }, "bundle " + node.version) : null,
      el("div", { class: "buttons" }, ...buttons)),
    el("div", { class: "grid" },
      agreement(node), shares(node, data.hours), alarms(node, data.time), money(node), latency(node), certificate(node), confusions(node), events(node, data.time)));
}

function part(title, ...children) {
  return el("section", {}, el("h3", {}, title), ...children);
}

function agreement(node) {
  const { audited, bar } = node;
  const said = audited ? percent(audited.agreement) : "no audits yet";
  const note = audited
    ? `95 % interval ${percent(audited.low)} to ${percent(audited.high)}, ${count(audited.n)} audits; the bar is ${percent(bar.agreement)}`
    : `the bar is ${percent(bar.agreement)} at confidence ${percent(bar.confidence, 0)}`;
  const unjudged = audited?.without_verdict ? `; ${count(audited.without_verdict)} more without a verdict, since the teacher broke the contract` : "";
  const tone = !audited ? "" : audited.high < bar.agreement ? " bad" : audited.agreement >= bar.agreement ? " good" : " wait";
  return part("Audited agreement with the teacher", el("p", { class: "big" + tone }, said), agreementChart(bar.agreement, audited), el("p", { class: "soft" }, note + unjudged));
}

function shares(node, hours) {
  const { traffic } = node;
  const section = part("Decisions by rung",
    el("p", { class: "big" }, traffic.settled === null ? "no traffic" : percent(traffic.settled) + " settled locally"),
    sharesChart(traffic.over_time, node.ladder), timeAxis(hours), legend(traffic.by_rung, node.ladder));
  section.className = "wide";
  if (traffic.errors) section.append(el("p", { class: "bad" }, `${count(traffic.errors)} requests had no answer`));
  return section;
}

function money(node) {
  const { money: { saved, audits }, traffic } = node;
  const tone = saved === null ? "" : saved >= 0 ? " good" : " bad";
  return part("Net money saved", el("p", { class: "big" + tone }, usd(saved)),
    el("p", { class: "soft" }, `always the teacher ${usd(traffic.usd_if_teacher)}, paid ${usd(traffic.usd)}, audits ${usd(audits)}`));
}

function latency(node) {
  const { ladder, teacher } = node.traffic.latency;
  const row = (name, at) => el("tr", {}, el("th", { scope: "row" }, name), el("td", { class: "n" }, ms(at?.p50)), el("td", { class: "n" }, ms(at?.p95)));
  const head = el("tr", {}, el("th", { scope: "col" }, "latency"), el("th", { scope: "col", class: "n" }, "p50"), el("th", { scope: "col", class: "n" }, "p95"));
  const shift = node.shift === null ? "not enough answers to say" : `${percent(node.shift, 0)} of the newest answers are others than before`;
  return part("Latency and drift", el("table", {}, el("thead", {}, head), el("tbody", {}, row("ladder", ladder), row("teacher", teacher))), el("p", { class: "soft" }, shift));
}

function certificate(node) {
  const c = node.certificate;
  if (!c) return part("Certificate", el("p", { class: "big" }, "none"), el("p", { class: "soft" }, "Without one, the teacher answers everything."));
  return part("Certificate", el("p", { class: "big " + (c.valid ? "good" : "bad") }, c.valid ? `at least ${percent(c.agreement_lower)}` : "refused"), el("p", { class: "soft" }, c.reason));
}

function alarmTone(node) {
  return node.alarms.some((alarm) => alarm.action === "roll back") ? "bad" : "wait";
}

function alarms(node, now) {
  if (!node.alarms.length) return part("Alarms of the guard", el("p", { class: "soft" }, "None is raised: escalations, errors, latency and drift are as expected."));
  const does = { "roll back": "it rolls back", hold: "nothing is pulled back for it; while the bundle is on its way up, its rollout does not go on" };
  return part("Alarms of the guard", el("ul", { class: "alarms" }, ...node.alarms.map((alarm) =>
    el("li", {}, el("strong", { class: alarm.action === "hold" ? "wait" : "bad" }, alarm.name), ` since ${when(alarm.since)} (${ago(now - alarm.since)}), bundle ${alarm.bundle}: ${alarm.reason}; ${does[alarm.action] || alarm.action}`))));
}

function confusions(node) {
  if (!node.confusions.length) return part("Worst confusions", el("p", { class: "soft" }, "No audit has found a wrong answer."));
  const rows = node.confusions.map((c) => el("tr", {}, el("td", {}, breakable(c.answer)), el("td", {}, breakable(c.teacher)), el("td", { class: "n" }, count(c.count))));
  const head = el("tr", {}, el("th", { scope: "col" }, "answered"), el("th", { scope: "col" }, "teacher says"), el("th", { scope: "col", class: "n" }, "audits"));
  return part("Worst confusions", el("table", {}, el("thead", {}, head), el("tbody", {}, ...rows)));
}

function events(node, now) {
  if (!node.events.length) return part("Last events", el("p", { class: "soft" }, "Nothing has happened yet."));
  return part("Last events", el("ul", { class: "events" }, ...node.events.map((event) =>
    el("li", {}, el("strong", {}, event.what), ` ${event.bundle} by ${event.who}, ${ago(now - event.time)}: ${event.why}`))));
}

function change(node, verb) {
  const [label, what] = VERBS[verb];
  const dialog = byId("ask");
  byId("ask-title").textContent = `${label}: ${node.node}`;
  byId("ask-what").textContent = what;
  byId("ask-yes").textContent = label;
  byId("ask-yes").className = verb === "rollback" ? "danger" : "";
  byId("why").value = "";
  dialog.returnValue = "no";
  dialog.onclose = async () => {
    document.querySelector(`#${CSS.escape("node-" + node.node)} [data-verb="${verb}"]`)?.focus();
    if (dialog.returnValue === "yes") await send(node.node, verb, byId("why").value, label);
  };
  dialog.showModal();
  byId("why").focus();
}

async function send(node, verb, why, label) {
  const token = document.cookie.match(/(?:^|; )cascade_csrf=([^;]+)/)?.[1] || "";
  const reply = await fetch(`page/nodes/${encodeURIComponent(node)}/${verb}`, { method: "POST", body: why, headers: headers({ "x-cascade-csrf": token }) });
  if (reply.ok) await load();
  const failure = reply.ok ? "" : (await reply.json()).error.message;
  say(reply.ok ? `${label} ${node}: done` : `${label} ${node}: ${failure}`, !reply.ok);
}

byId("hours").addEventListener("change", load);
byId("options").addEventListener("submit", (event) => event.preventDefault());
byId("key").addEventListener("submit", (event) => {
  event.preventDefault();
  key = byId("secret").value.trim();
  sessionStorage.setItem("cascade-key", key);
  byId("secret").value = "";
  load();
});
// In the dialog's text field Enter means yes, not the first button.
byId("why").addEventListener("keydown", (event) => {
  if (event.key === "Enter") {
    event.preventDefault();
    byId("ask").close("yes");
  }
});
document.addEventListener("visibilitychange", () => document.hidden || load());
load();
