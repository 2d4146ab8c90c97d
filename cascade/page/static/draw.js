// Elements, numbers and charts. Everything that comes from traffic is put in as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";

export function el(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

function svg(name, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

export const percent = (x, digits = 1) => (x === null || x === undefined ? "-" : (100 * x).toFixed(digits) + " %");

export function usd(x) {
  if (x === null || x === undefined) return "-";
  const size = Math.abs(x);
  const digits = size >= 100 ? 0 : size >= 1 ? 2 : 4;
  return (x < 0 ? "-$" : "$") + size.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

export const count = (n) => n.toLocaleString("en");

export function ms(x) {
  if (x === null || x === undefined) return "-";
  return x >= 1000 ? (x / 1000).toFixed(1) + " s" : x >= 10 ? x.toFixed(0) + " ms" : x.toFixed(1) + " ms";
}

export function when(time) {
  const at = new Date(time * 1000);
  const today = at.toDateString() === new Date().toDateString();
  return today ? at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }) : at.toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
}

export function ago(seconds) {
  if (seconds < 60) return "just now";
  const [size, unit] = seconds < 3600 ? [60, "min"] : seconds < 86400 ? [3600, "h"] : [86400, "d"];
  return Math.floor(seconds / size) + " " + unit + " ago";
}

// The bar as a line, the audited agreement as a point, its interval as a band.
export function agreementChart(bar, audited) {
  const low = Math.min(bar, audited ? audited.low : bar) - 0.02;
  const from = Math.max(0, Math.floor(low * 50) / 50);
  const x = (share) => (300 * (share - from)) / (1 - from);
  const parts = [svg("line", { x1: 0, x2: 300, y1: 26, y2: 26, class: "axis" })];
  if (audited) {
    parts.push(svg("rect", { x: x(audited.low), y: 15, width: Math.max(2, x(audited.high) - x(audited.low)), height: 12, class: "span" }));
    parts.push(svg("circle", { cx: x(audited.agreement), cy: 21, r: 5, class: "point" }));
  }
  parts.push(svg("line", { x1: x(bar), x2: x(bar), y1: 8, y2: 34, class: "barline" }));
  const end = svg("text", { x: 300, y: 46, "text-anchor": "end" }, "100 %");
  parts.push(svg("text", { x: 0, y: 46 }, percent(from, 0)), end);
  const label = audited
    ? `bar ${percent(bar)}, audited ${percent(audited.agreement)}, 95 % interval ${percent(audited.low)} to ${percent(audited.high)}`
    : `bar ${percent(bar)}, no audits yet`;
  return svg("svg", { viewBox: "0 0 300 50", role: "img", "aria-label": label }, ...parts);
}

export function rungClass(rung, ladder) {
  return rung === ladder[ladder.length - 1] ? "s-teacher" : "s-r" + Math.min(3, Math.max(0, ladder.indexOf(rung)));
}

// Stacked shares by rung, one column a bucket; its height is the share, so a quiet hour is as readable as a busy one.
export function sharesChart(overTime, ladder) {
  const width = 600, height = 120, gap = 2, step = width / overTime.length;
  const parts = [];
  overTime.forEach((bucket, at) => {
    const total = Object.values(bucket.by_rung).reduce((a, b) => a + b, 0);
    let y = height;
    for (const rung of ladder) {
      const size = total ? (height * (bucket.by_rung[rung] || 0)) / total : 0;
      if (!size) continue;
      y -= size;
      const column = svg("rect", { x: at * step, y, width: step - gap, height: size, class: rungClass(rung, ladder) });
      const when = new Date(bucket.from * 1000).toLocaleString([], { weekday: "short", hour: "2-digit", minute: "2-digit" });
      column.append(svg("title", {}, `${when}: ${rung} ${percent(bucket.by_rung[rung] / total, 0)} of ${count(total)}`));
      parts.push(column);
    }
  });
  parts.push(svg("line", { x1: 0, x2: width, y1: height, y2: height, class: "axis" }));
  return svg("svg", { viewBox: `0 0 ${width} ${height + 2}`, role: "img", "aria-label": "Share of decisions by rung over time; the legend gives the totals." }, ...parts);
}

export function timeAxis(hours) {
  const first = { 1: "1 hour ago", 24: "24 hours ago", 168: "7 days ago" }[hours] || "";
  return el("p", { class: "time", "aria-hidden": "true" }, el("span", {}, first), el("span", {}, "now"));
}

// Labels break after an underscore rather than in the middle of a word.
export const breakable = (text) => text.replaceAll("_", "_\u200b");

export function legend(byRung, ladder) {
  const total = Object.values(byRung).reduce((a, b) => a + b, 0);
  const items = ladder.map((rung) => {
    const swatch = svg("svg", { viewBox: "0 0 10 10", "aria-hidden": "true" }, svg("rect", { width: 10, height: 10, class: rungClass(rung, ladder) }));
    const n = byRung[rung] || 0;
    return el("li", {}, swatch, `${rung} ${total ? percent(n / total) : "-"} (${count(n)})`);
  });
  return el("ul", { class: "legend" }, ...items);
}
