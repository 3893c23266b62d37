// What else there is to see: pools, statements, session state, reasons, workers, the query cache, and the figures on top.

import { byId, h, keep, mark, say, Table } from "./dom.js";
import { bytes, count, duration, NOTHING, percent, rate } from "./format.js";

/** A bar with its share in it, and text beside it: the bar says nothing that the text does not. */
function showBar(cell, share, text) {
  if (cell.children.length === 0) {
    cell.append(h("span", { class: "bar", "aria-hidden": "true" }, h("span")), h("span", { class: "bar-text" }));
  }
  cell.firstElementChild.firstElementChild.style.setProperty("width", `${Math.round(Math.min(1, share) * 100)}%`);
  say(cell.lastElementChild, text);
}

export class Tiles {
  constructor() {
    this.place = byId("tiles");
  }

  /** `longest`: how long the first of those who wait has. */
  show(snapshot, longest) {
    const { point, recently } = snapshot;
    const ratio = recently.hit_ratio === null ? "" : `, ${percent(recently.hit_ratio)} hits`;
    const time = (seconds) => (seconds === null ? NOTHING : duration(seconds));
    const tiles = [
      { name: "Reads", value: rate(point.reads), unit: "a second" },
      { name: "Writes", value: rate(point.writes), unit: "a second" },
      { name: "From the cache", value: rate(point.hits), unit: `a second${ratio}` },
      { name: "Query time p50", value: time(recently.query_p50_s), unit: "last minute" },
      { name: "Query time p99", value: time(recently.query_p99_s), unit: "last minute" },
      { name: "Clients", value: count(point.clients), unit: `of ${count(snapshot.clients_max)}` },
      {
        name: "Waiting",
        value: count(point.waiting),
        unit: longest ? `longest ${duration(longest)}` : "for a server",
        tone: point.waiting ? "warning" : "plain",
      },
      { name: "Servers lent", value: count(point.leased), unit: `of ${count(point.servers)} open` },
    ];
    keep(this.place, tiles, (tile) => tile.name,
      (tile) => h("div", {}, h("dt", {}, tile.name), h("dd", {}, h("span", { class: "value" }), " ", h("span", { class: "unit" }))),
      (element, tile) => {
        mark(element, "data-tone", tile.tone ?? "plain");
        say(element.querySelector(".value"), tile.value);
        say(element.querySelector(".unit"), tile.unit);
      });
  }
}

export class Cache {
  constructor(ask) {
    const place = byId("cache-body");
    this.list = h("dl", { class: "facts" });
    this.routes = h("div");
    const button = (action, label) =>
      h("button", { type: "button", "data-action": action, onclick: () => ask(action, "", this.snapshot) }, label);
    this.buttons = h("p", { class: "actions", role: "group", "aria-label": "Query cache" },
      button("cache_on", "On"), button("cache_hint", "Hint"), button("cache_off", "Off"),
      button("cache_default", "As in the settings"), button("cache_clear", "Clear"));
    place.append(this.list, this.buttons, this.routes);
    this.table = new Table(this.routes, "Query cache by rule", [
      { name: "Rule", kind: "free", text: (route) => route.name || "(all others)" },
      { name: "Cached", text: (route) => ({ on: "all that can be", hint: "what asks for it", off: "nothing" })[route.mode] },
      { name: "By", text: (route) => (route.by === "settings" ? "the settings" : "an operator") },
    ], (route) => route.name, "There are no rules.");
  }

  show(snapshot) {
    this.snapshot = snapshot;
    const { cache, recently } = snapshot;
    const asked = cache.hits + cache.misses;
    const facts = [
      ["State", { on: "on", off: "off", changing: "being switched" }[cache.state], cache.state === "on" ? "good" : "plain"],
      ["Hits, last minute", recently.hit_ratio === null ? NOTHING : percent(recently.hit_ratio)],
      ["Hits, since the start", asked ? `${percent(cache.hits / asked)} of ${count(asked)}` : NOTHING],
      ["Answers kept", `${count(cache.entries)}, ${bytes(cache.bytes)} of ${bytes(cache.bytes_max)}`],
      ["Invalidated", count(cache.invalidations)],
      ["Made room", count(cache.evictions)],
      ["Time saved", cache.saved_s ? duration(cache.saved_s) : NOTHING],
    ];
    keep(this.list, facts, ([name]) => name, ([name]) => h("div", {}, h("dt", {}, name), h("dd")),
      (element, [, text, tone]) => {
        say(element.lastElementChild, text);
        mark(element.lastElementChild, "data-tone", tone ?? null);
      });
    mark(byId("cache"), "data-state", cache.state);
    this.table.show(cache.routes);
  }
}

export function detailTables() {
  const pools = new Table(byId("pools-table"), "Pools", [
    { name: "Database", kind: "free", text: (pool) => pool.database },
    { name: "User", kind: "free", text: (pool) => pool.user },
    { name: "Node", kind: "free", text: (pool) => pool.node },
    { name: "Rule", kind: "free", text: (pool) => pool.route || NOTHING },
    { name: "Mode", text: (pool) => pool.mode },
    { name: "State", text: (pool) => pool.state },
    {
      name: "In use",
      kind: "number",
      show: (cell, pool) => showBar(cell, pool.active / Math.max(1, pool.size), `${pool.active} of ${pool.size}`),
    },
    { name: "Idle", kind: "number", text: (pool) => count(pool.idle) },
    { name: "Logging in", kind: "number", text: (pool) => count(pool.opening) },
    { name: "Waiting", kind: "number", text: (pool) => count(pool.waiting) },
    { name: "For", kind: "number", text: (pool) => (pool.waiting ? duration(pool.maxwait_s) : NOTHING) },
  ], (pool) => JSON.stringify([pool.database, pool.user, pool.route, pool.node]),
  "No pool has been used yet: one is made for each node, database and user when a client comes.");

  const digests = new Table(byId("digests-table"), "Statements that took longest", [
    { name: "Statement", kind: "code", show: showShape },
    { name: "Database", kind: "free", text: (digest) => digest.database },
    { name: "Calls", kind: "number", text: (digest) => count(digest.calls) },
    { name: "Mean", kind: "number", text: (digest) => duration(digest.mean_s) },
    { name: "Max", kind: "number", text: (digest) => duration(digest.max_s) },
    { name: "Total", kind: "number", text: (digest) => duration(digest.total_s) },
    { name: "Rows", kind: "number", text: (digest) => count(digest.rows) },
    { name: "Errors", kind: "number", text: (digest) => count(digest.errors) },
    {
      name: "On standbys",
      kind: "number",
      show: (cell, digest) => {
        const served = digest.on_primary + digest.on_standbys;
        const share = served ? digest.on_standbys / served : 0;
        showBar(cell, share, served ? percent(share) : NOTHING);
      },
    },
    { name: "Cached", kind: "number", text: (digest) => (digest.calls ? percent(digest.hits / digest.calls) : NOTHING) },
    { name: "Why on the primary", kind: "wide free", text: (digest) => digest.reason || NOTHING },
  ], (digest) => JSON.stringify([digest.database, digest.shape]), "No statement has been served yet.");
  return (details) => {
    pools.show(details.pools, details.pools_left);
    digests.show(details.digests, details.digests_left);
  };
}

function showShape(cell, digest) {
  if (cell.children.length === 0) {
    const button = h("button", {
      type: "button",
      class: "shape",
      "aria-expanded": "false",
      onclick: () => button.setAttribute("aria-expanded", button.getAttribute("aria-expanded") !== "true"),
    });
    cell.append(button);
  }
  say(cell.firstElementChild, digest.shape);
}

export function otherTables() {
  const states = new Table(byId("states-table"), "Session state left behind", [
    { name: "Application", kind: "free", text: (use) => use.application_name || "(no name)" },
    { name: "User", kind: "free", text: (use) => use.user },
    { name: "Database", kind: "free", text: (use) => use.database },
    { name: "What", text: (use) => use.state },
    { name: "Done about it", text: (use) => ({ track: "kept right", pin: "pinned", reject: "refused", allow: "allowed" })[use.action] ?? use.action },
    { name: "Statements", kind: "number", text: (use) => count(use.statements) },
  ], (use) => JSON.stringify([use.application_name, use.user, use.database, use.state, use.action]),
  "No statement has left any behind.");
  const reasons = new Table(byId("reasons-table"), "Why reads stayed on the primary", [
    { name: "Because", kind: "wide free", text: (reason) => reason.why },
    { name: "Reads", kind: "number", text: (reason) => count(reason.reads) },
    {
      name: "Of all reads",
      kind: "number",
      show: (cell, reason) => showBar(cell, reason.share, percent(reason.share)),
    },
  ], (reason) => reason.why, "No read has stayed there.");
  const workers = new Table(byId("workers-table"), "Workers", [
    { name: "Worker", text: (worker) => String(worker.worker) },
    { name: "Process", kind: "number", text: (worker) => (worker.pid === null ? "being started" : String(worker.pid)) },
    { name: "CPU", kind: "number", show: (cell, worker) => showBar(cell, worker.cpu, percent(worker.cpu)) },
    { name: "Memory", kind: "number", text: (worker) => (worker.rss_bytes ? bytes(worker.rss_bytes) : NOTHING) },
    { name: "Loop late by", kind: "number", text: (worker) => duration(worker.loop_lag_s) },
    { name: "Logging in", kind: "number", text: (worker) => count(worker.logins) },
    { name: "Answers", text: (worker) => worker.answers },
  ], (worker) => worker.worker, "No worker runs.");
  return (snapshot, silent) => {
    states.show(snapshot.offenders, snapshot.offenders_left);
    const reads = snapshot.on_standbys + snapshot.reasons.reduce((sum, one) => sum + one.reads, 0);
    reasons.show(snapshot.reasons.map((one) => ({ ...one, share: reads ? one.reads / reads : 0 })));
    workers.show(snapshot.workers.map((one) => ({
      ...one,
      answers: one.pid === null ? NOTHING : silent.includes(one.worker) ? "not in time" : "yes",
    })));
  };
}
