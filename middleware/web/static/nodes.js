// The nodes: a picture of who is served by whom, and a table that says the same with its figures and buttons.

import { byId, h, keep, mark, say, svg, Table } from "./dom.js";
import { ago, bytes, count, duration, NOTHING, rate } from "./format.js";

const ROW = 58;
const DRAWN_MAX = 9;

/** How a node is: what colour it has, which sign says the same, and the word for it. */
export function stateOf(node) {
  if (node.condition === "draining") return { tone: "warning", sign: "◐", word: "draining" };
  if (!node.used) return { tone: "bad", sign: "✕", word: node.condition === "up" ? "not used" : node.condition };
  if (node.condition === "suspect") return { tone: "warning", sign: "!", word: "suspect" };
  return { tone: "good", sign: "●", word: "up" };
}

const lagOf = (node) => {
  if (node.role !== "standby" || node.lag_bytes === null) return NOTHING;
  return node.lag_s ? `${bytes(node.lag_bytes)}, ${duration(node.lag_s)}` : bytes(node.lag_bytes);
};

export class Nodes {
  /** `ask(action, node, snapshot)` is called by the buttons. */
  constructor(ask) {
    this.ask = ask;
    this.snapshot = null;
    this.picture = svg("svg", { role: "img", class: "topology" });
    byId("topology").append(this.picture);
    this.width = 0;
    new ResizeObserver(([entry]) => {
      this.width = Math.floor(entry.contentRect.width);
      if (this.snapshot) this.draw(this.snapshot);
    }).observe(byId("topology"));
    this.table = new Table(byId("nodes-table"), "Nodes", [
      { name: "Node", kind: "free", show: (cell, node) => this.showName(cell, node) },
      { name: "Role", text: (node) => node.role },
      { name: "State", show: showState },
      { name: "Lag", kind: "number", text: lagOf },
      { name: "Reads/s", kind: "number", text: (node) => rate(node.reads_s) },
      { name: "Writes/s", kind: "number", text: (node) => rate(node.writes_s) },
      { name: "Servers lent/open", kind: "number", text: (node) => `${node.leased}/${node.servers}` },
      {
        name: "Connections",
        kind: "number",
        text: (node) => (node.max_connections ? `${node.connections}/${node.max_connections}` : NOTHING),
      },
      { name: "Timeline", kind: "number", text: (node) => String(node.timeline ?? NOTHING) },
      { name: "Since", kind: "number", text: (node) => (node.since ? ago(this.snapshot.at - node.since) : NOTHING) },
      { name: "Do", kind: "do", show: (cell, node) => this.showButtons(cell, node) },
    ], (node) => node.name, "No nodes are known yet.");
  }

  show(snapshot) {
    this.snapshot = snapshot;
    this.table.show(snapshot.nodes);
    for (const row of this.table.body.children) {
      const node = snapshot.nodes.find((one) => one.name === row.dataset.key);
      mark(row, "data-tone", stateOf(node).tone);
    }
    this.draw(snapshot);
  }

  showName(cell, node) {
    if (cell.children.length === 0) {
      cell.append(h("span", { class: "name" }), h("span", { class: "address" }), h("span", { class: "why" }));
    }
    const [name, address, why] = cell.children;
    say(name, node.name);
    say(address, node.address);
    say(why, node.why);
  }

  showButtons(cell, node) {
    if (cell.children.length === 0) {
      const button = (action, label) =>
        h("button", {
          type: "button",
          "data-action": action,
          "aria-label": `${label} ${node.name}`,
          onclick: () => this.ask(action, node.name, this.snapshot),
        }, label);
      cell.append(h("span", { class: "actions" }, button("switchover", "Make primary"), button("drain", "Drain"),
        button("detach", "Detach"), button("attach", "Attach")));
    }
    const out = !node.used || node.condition === "draining";
    for (const button of cell.firstElementChild.children) {
      const { action } = button.dataset;
      button.hidden = {
        switchover: node.role !== "standby" || !node.used,
        drain: out,
        detach: out,
        attach: !["detached", "draining"].includes(node.condition),
      }[action];
    }
  }

  draw(snapshot) {
    const nodes = snapshot.nodes.slice(0, DRAWN_MAX);
    const { width } = this;
    if (width <= 0 || nodes.length === 0) return;
    const height = Math.max(nodes.length * ROW, 110);
    const boxWidth = Math.min(230, Math.max(132, width * 0.34));
    const hubWidth = Math.min(150, width * 0.28);
    const hubX = Math.max((width - boxWidth - hubWidth) * 0.45, 0);
    const left = width - boxWidth - 1;
    const middle = height / 2;
    const { point } = snapshot;
    mark(this.picture, "height", height);
    mark(this.picture, "viewBox", `0 0 ${width} ${height}`);
    const said = nodes.map((node) => `${node.name}, ${node.role}, ${stateOf(node).word}`).join("; ");
    mark(this.picture, "aria-label", `${count(point.clients)} clients, through Pointsman, at ${said}`);
    const lines = nodes.flatMap((node, index) => {
      const y = index * ROW + (height - nodes.length * ROW) / 2 + ROW / 2;
      const flow = node.reads_s + node.writes_s;
      const from = hubX + hubWidth;
      const bend = (left - from) / 2;
      const drawn = [svg("path", {
        class: `flow ${node.role} ${stateOf(node).tone}`,
        "stroke-width": node.used ? Math.min(9, 1.5 + 2 * Math.log10(1 + flow)).toFixed(1) : 1.5,
        d: `M${from} ${middle}C${from + bend} ${middle} ${from + bend} ${y} ${left} ${y}`,
      })];
      return [...drawn, box(node, left, y, boxWidth)];
    });
    const clients = hubX > 66 ? [
      svg("path", { class: "flow clients", "stroke-width": 3, d: `M${0} ${middle}L${hubX} ${middle}` }),
      svg("text", { x: 0, y: middle - 10, class: "strong" }, count(point.clients)),
      svg("text", { x: 0, y: middle + 20, class: "small" }, point.clients === 1 ? "client" : "clients"),
    ] : [];
    this.picture.replaceChildren(...clients, ...lines,
      svg("g", { class: "hub" },
        svg("rect", { x: hubX, y: middle - 26, width: hubWidth, height: 52, rx: 8 }),
        svg("text", { x: hubX + hubWidth / 2, y: middle - 4, "text-anchor": "middle", class: "strong" }, "Pointsman"),
        svg("text", { x: hubX + hubWidth / 2, y: middle + 14, "text-anchor": "middle", class: "small" },
          hubX > 66 ? `${snapshot.workers.length === 1 ? "1 worker" : `${snapshot.workers.length} workers`}` :
            `${count(point.clients)} ${point.clients === 1 ? "client" : "clients"}`)));
  }
}

function box(node, x, y, width) {
  const state = stateOf(node);
  const fits = Math.floor((width - 40) / 7.6);
  const name = node.name.length > fits ? `${node.name.slice(0, fits - 1)}…` : node.name;
  const second = node.used ? `${rate(node.reads_s)} r/s · ${rate(node.writes_s)} w/s` : state.word;
  const third = node.role === "standby" && node.used ? `lag ${node.lag_bytes === null ? NOTHING : bytes(node.lag_bytes)}` : node.role;
  return svg("g", { class: `box ${node.role} ${state.tone}` },
    svg("rect", { x, y: y - ROW / 2 + 4, width, height: ROW - 8, rx: 7 }),
    svg("text", { x: x + 10, y: y - 8, class: "strong" }, `${name}`),
    svg("text", { x: x + width - 10, y: y - 8, "text-anchor": "end", class: "sign" },
      node.role === "primary" ? `P ${state.sign}` : `S ${state.sign}`),
    svg("text", { x: x + 10, y: y + 6, class: "small" }, second),
    svg("text", { x: x + 10, y: y + 19, class: "small" }, third));
}

function showState(cell, node) {
  if (cell.children.length === 0) {
    cell.append(h("span", { class: "badge" }, h("span", { "aria-hidden": "true" }), " ", h("span")));
  }
  const state = stateOf(node);
  const badge = cell.firstElementChild;
  mark(badge, "data-tone", state.tone);
  say(badge.firstElementChild, state.sign);
  say(badge.lastElementChild, state.word);
}
