// What has happened, the latest first; and which commands are under way.

import { byId, h, keep, mark, say } from "./dom.js";
import { ago, moment } from "./format.js";

const SHOWN_MAX = 200;

export class Timeline {
  constructor(cancel) {
    this.events = [];
    this.list = byId("events");
    this.underWay = byId("under-way");
    this.cancel = cancel;
    this.show(0);
  }

  /** All there are: a stream was opened. */
  begin(events) {
    this.events = events;
  }

  add(events) {
    const last = this.events.at(-1)?.seq ?? 0;
    this.events = [...this.events, ...events.filter((event) => event.seq > last)].slice(-SHOWN_MAX);
  }

  show(now) {
    const shown = this.events.length ? this.events.toReversed() : [{ seq: 0, what: "", text: "Nothing has happened yet.", node: "", at: 0, bad: false }];
    keep(this.list, shown, (event) => event.seq,
      (event) => h("li", { class: event.bad ? "bad" : "" },
        h("time"), h("span", { class: "sign", "aria-hidden": "true" }, event.seq ? (event.bad ? "▲" : "•") : ""),
        h("span", { class: "text" }, ...textOf(event))),
      (element, event) => say(element.firstElementChild, event.seq ? moment(event.at, now) : ""));
  }

  showUnderWay(commands, now) {
    this.underWay.hidden = commands.length === 0;
    keep(this.underWay, commands, (command) => command.id,
      (command) => h("li", {}, h("span", { class: "spinner", "aria-hidden": "true" }), h("span", { class: "text" }),
        h("span", { class: "actions" }, h("button", {
          type: "button",
          "aria-label": `Cancel ${command.command}`,
          onclick: () => this.cancel(command),
        }, "Cancel"))),
      (element, command) =>
        say(element.querySelector(".text"),
          `${command.command}: under way for ${ago(now - command.since)}${command.waits && `; ${command.waits}`}`));
    mark(this.underWay, "data-count", commands.length);
  }
}

function textOf(event) {
  const parts = [];
  if (event.bad) parts.push(h("span", { class: "unseen" }, "Bad: "));
  if (event.node) parts.push(h("b", {}, event.node), " ");
  parts.push(event.text);
  if (event.what) parts.push(" ", h("code", {}, event.what));
  return parts;
}
