// The page: what comes by the stream is shown by the parts; what their buttons say goes to the session.

import { binary, Chart } from "./chart.js";
import { byId, h, keep, mark, say } from "./dom.js";
import { bytes, moment, plural, rate } from "./format.js";
import { Nodes } from "./nodes.js";
import { Session } from "./session.js";
import { Stream } from "./stream.js";
import { Cache, detailTables, otherTables, Tiles } from "./tables.js";
import { Timeline } from "./timeline.js";

const session = new Session(maySeeAnother);
const stream = new Stream(hear, linkChanged);
const act = (action, node, snapshot) => session.act(action, node, snapshot);
const tiles = new Tiles();
const nodes = new Nodes(act);
const cache = new Cache(act);
const timeline = new Timeline((command) => session.cancel(command));
const showDetails = detailTables();
const showOthers = otherTables();
const charts = [
  new Chart(byId("charts"), "Statements per second", () => [
    { name: "reads", value: (point) => point.reads },
    { name: "writes", value: (point) => point.writes },
    { name: "cached", value: (point) => point.hits },
  ], rate, 10),
  new Chart(byId("charts"), "Servers, and who waits for one", () => [
    { name: "lent", value: (point) => point.leased },
    { name: "open", value: (point) => point.servers },
    { name: "waiting", value: (point) => point.waiting },
  ], rate, 10),
  new Chart(byId("charts"), "Replay lag", (points) => standbysOf(points).map((name) => (
    { name, value: (point) => point.lags[name] ?? null })), bytes, 64 * 1024, binary),
];

let latest = null;
let points = [];
let pointsMax = 0;
let silent = [];
let longest = 0;
let alarmed = null;

function standbysOf(seen) {
  return [...new Set(seen.flatMap((point) => Object.keys(point.lags)))].sort();
}

const pointOf = ([at, reads, writes, hits, clients, waiting, leased, servers, lags]) => (
  { at, reads, writes, hits, clients, waiting, leased, servers, lags });

function hear(message) {
  switch (message.kind) {
    case "opened":
      points = message.points.map(pointOf);
      pointsMax = message.points_max;
      timeline.begin(message.events);
      break;
    case "snapshot":
      see(message);
      break;
    case "details":
      silent = message.silent;
      longest = Math.max(0, ...message.pools.map((pool) => (pool.waiting ? pool.maxwait_s : 0)));
      showDetails(message);
      break;
    case "events":
      timeline.add(message.events);
      timeline.show(Date.now() / 1000);
      break;
    case "outcome":
      session.tell(message);
      break;
    default:
  }
}

function see(message) {
  const point = pointOf(message.point);
  latest = { ...message, point };
  // The last point of those that came first is of the snapshot that came with them.
  if (point.at > (points.at(-1)?.at ?? 0)) points = [...points, point].slice(-pointsMax);
  tiles.show(latest, longest);
  nodes.show(latest);
  cache.show(latest);
  showOthers(latest, silent);
  timeline.show(latest.at);
  timeline.showUnderWay(latest.under_way, latest.at);
  for (const chart of charts) chart.show(points);
  showAlarms(latest.alarms);
  say(byId("footer"), `Pointsman ${latest.version}, failover ${latest.failover}, topology ${latest.topology_version}`);
}

function showAlarms(alarms) {
  keep(byId("alarms"), alarms, (alarm) => alarm.text,
    (alarm) => h("li", { "data-tone": alarm.severity }, h("span", { class: "sign", "aria-hidden": "true" }, "▲ "),
      h("span")),
    (element, alarm) => say(element.lastElementChild, alarm.text));
  const bad = alarms.some((alarm) => alarm.severity === "bad");
  const badge = byId("summary").firstElementChild;
  mark(badge, "data-tone", bad ? "bad" : alarms.length ? "warning" : "good");
  say(badge, alarms.length ? plural(alarms.length, "thing is wrong", "things are wrong") : "All is well");
  document.title = alarms.length ? `(${alarms.length}) Pointsman` : "Pointsman";
  const texts = alarms.map((alarm) => alarm.text);
  if (alarmed !== null) {
    const news = texts.filter((text) => !alarmed.includes(text));
    if (news.length) say(byId("announcement"), news.join(" "));
    else if (alarmed.length && !texts.length) say(byId("announcement"), "All is well again.");
  }
  alarmed = texts;
}

let link = { link: "connecting" };

function linkChanged(now) {
  const was = link;
  link = now;
  mark(document.body, "data-link", link.link);
  byId("retry").hidden = link.link !== "lost";
  showLink();
  if (link.link === "lost" && was.link !== "lost") say(byId("announcement"), "Disconnected: what is shown is old.");
  if (link.link === "live" && was.link === "lost") say(byId("announcement"), "Connected again.");
  if (link.link === "lost") {
    // It may be that this browser may not look any more, or that others took all places.
    session.ask();
  } else if (link.link === "live" && was.link === "lost") {
    session.ask();
  }
}

function showLink() {
  const text = byId("link-text");
  if (link.link !== "lost") {
    say(text, link.link);
    return;
  }
  const wait_s = Math.ceil((link.again - Date.now()) / 1000);
  const since = moment(link.since / 1000, Date.now() / 1000);
  const next = wait_s > 0 ? `next try in ${wait_s} s` : "trying …";
  say(text, session.told.full ? `too many dashboards are open, ${next}` : `disconnected since ${since}, ${next}`);
}

setInterval(showLink, 1000);

let looks = null;

function maySeeAnother(told) {
  byId("locked").hidden = told.look;
  byId("shown").hidden = !told.look;
  say(byId("locked-how"), told.buttons === "none" ?
    "It allows nobody who comes from elsewhere without a login, and dashboard_password is not set." :
    "It allows who is logged in.");
  if (told.look !== looks) {
    looks = told.look;
    if (told.look) stream.open();
    else {
      stream.close();
      mark(document.body, "data-link", "locked");
      say(byId("summary").firstElementChild, "Locked");
      say(byId("link-text"), "");
      byId("retry").hidden = true;
    }
  }
}

byId("retry").addEventListener("click", () => stream.open());
byId("all").append(
  ...[["pause", "Pause"], ["resume", "Resume"], ["reload", "Reload the settings"]].map(([action, label]) =>
    h("button", { type: "button", "data-action": action, onclick: () => act(action, "", latest) }, label)));

async function begin() {
  // A page that was opened while Pointsman is away waits for it.
  if (!(await session.ask())) setTimeout(begin, 2000);
}

begin();
