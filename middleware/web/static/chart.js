// Lines over the last minutes, drawn as SVG: colours and fonts are the style sheet's.

import { h, mark, say, svg } from "./dom.js";
import { moment } from "./format.js";

const HEIGHT = 132;
const TOP = 8;
const BOTTOM = 18;
const WINDOWS_S = [120, 300, 600];
/** Where two points are further apart, nothing is known of what was between them. */
const GAP_S = 4;

const STEPS = [1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10];

/** The least round number that is not below `value`. */
export function decimal(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1)));
  return STEPS.map((one) => one * power).find((one) => one >= value);
}

/** The least power of two: sizes are written in units of 1024. */
export const binary = (value) => 2 ** Math.ceil(Math.log2(Math.max(value, 1)));

export class Chart {
  /** `series`: points => [{ name, value: point => number or null }], in an order that stays. */
  constructor(place, title, series, write, least, nice = decimal) {
    this.nice = nice;
    this.series = series;
    this.write = write;
    this.least = least;
    this.top = least;
    this.points = [];
    this.under = null;
    this.legend = h("dl", { class: "legend" });
    this.at = h("span", { class: "at" });
    this.drawing = svg("svg", { class: "plot", role: "img", height: HEIGHT });
    this.grid = svg("g", { class: "grid" });
    this.lines = svg("g", { class: "lines" });
    this.cursor = svg("line", { class: "cursor", y1: TOP, y2: HEIGHT - BOTTOM, visibility: "hidden" });
    this.drawing.append(this.grid, this.lines, this.cursor);
    this.title = title;
    place.append(h("figure", { class: "panel chart" },
      h("figcaption", {}, h("span", { class: "title" }, title), this.at), this.legend, this.drawing));
    this.width = 0;
    new ResizeObserver(([entry]) => {
      this.width = Math.floor(entry.contentRect.width);
      this.draw();
    }).observe(this.drawing);
    this.drawing.addEventListener("pointermove", (event) => this.point(event.offsetX));
    this.drawing.addEventListener("pointerleave", () => this.point(null));
  }

  show(points) {
    this.points = points;
    this.draw();
  }

  point(x) {
    this.under = x;
    this.draw();
  }

  draw() {
    const { points, width } = this;
    if (width <= 0 || points.length === 0) return;
    const now = points.at(-1).at;
    const window_s = WINDOWS_S.find((one) => now - points[0].at <= one) ?? WINDOWS_S.at(-1);
    const seen = points.filter((point) => point.at >= now - window_s);
    const series = this.series(seen);
    const most = Math.max(0, ...seen.flatMap((point) => series.map((one) => one.value(point) ?? 0)));
    // A scale that follows each wave is read anew each second.
    if (most > this.top || most < 0.35 * this.top) this.top = Math.max(this.least, this.nice(most));
    const x = (at) => width - ((now - at) / window_s) * width;
    const y = (value) => HEIGHT - BOTTOM - (value / this.top) * (HEIGHT - BOTTOM - TOP);
    this.drawGrid(window_s, x, y, now);
    this.lines.replaceChildren(...series.flatMap((one, index) => {
      const path = pathOf(seen, one.value, x, y);
      const area = svg("path", { class: `area s${index % 6}`, d: areaOf(seen, one.value, x, y) });
      return index === 0 ? [area, svg("path", { class: `line s0`, d: path })] :
        [svg("path", { class: `line s${index % 6}`, d: path })];
    }));
    this.tell(series, seen, now, window_s, x);
  }

  drawGrid(window_s, x, y, now) {
    const steps = [0, 0.5, 1].map((share) => share * this.top);
    const minutes = window_s / 60;
    const times = [0, 0.5, 1].map((share) => share * minutes);
    this.grid.replaceChildren(
      ...steps.map((value) => svg("line", { x1: 0, x2: this.width, y1: y(value), y2: y(value) })),
      ...steps.slice(1).map((value) => svg("text", { x: 0, y: y(value) + 11 }, this.write(value))),
      ...times.map((back) => svg("text", {
        x: x(now - back * 60),
        y: HEIGHT - 4,
        "text-anchor": back === 0 ? "end" : back === minutes ? "start" : "middle",
      }, back === 0 ? "now" : `−${back} min`)),
    );
  }

  /** The legend: what is under the pointer, else what is now. */
  tell(series, seen, now, window_s, x) {
    let point = seen.at(-1);
    if (this.under !== null) {
      const at = now - (1 - this.under / this.width) * window_s;
      point = seen.reduce((best, one) => (Math.abs(one.at - at) < Math.abs(best.at - at) ? one : best));
      mark(this.cursor, "x1", x(point.at));
      mark(this.cursor, "x2", x(point.at));
    }
    mark(this.cursor, "visibility", this.under === null ? "hidden" : "visible");
    say(this.at, this.under === null ? "" : moment(point.at, now));
    while (this.legend.children.length > series.length) this.legend.lastElementChild.remove();
    series.forEach((one, index) => {
      let entry = this.legend.children[index];
      if (entry === undefined) {
        entry = h("div", {}, h("dt", {}, svg("svg", { class: "key", width: 16, height: 8, "aria-hidden": "true" },
          svg("line", { class: `line s${index % 6}`, x1: 1, x2: 15, y1: 4, y2: 4 })), h("span")), h("dd"));
        this.legend.append(entry);
      }
      say(entry.querySelector("span"), one.name);
      const value = one.value(point);
      say(entry.querySelector("dd"), value === null ? "–" : this.write(value));
    });
    const latest = series.map((one) => `${one.name} ${this.write(one.value(seen.at(-1)) ?? 0)}`).join(", ");
    mark(this.drawing, "aria-label", `${this.title}, the last ${window_s / 60} minutes; now: ${latest}`);
  }
}

/** The stretches of points without a gap in them. */
function* stretches(points, value) {
  let stretch = [];
  for (const point of points) {
    const last = stretch.at(-1);
    if (value(point) === null || (last && point.at - last.at > GAP_S)) {
      if (stretch.length) yield stretch;
      stretch = [];
    }
    if (value(point) !== null) stretch.push(point);
  }
  if (stretch.length) yield stretch;
}

function pathOf(points, value, x, y) {
  let path = "";
  for (const stretch of stretches(points, value)) {
    path += stretch.map((one, index) => `${index ? "L" : "M"}${x(one.at).toFixed(1)} ${y(value(one)).toFixed(1)}`).join("");
  }
  return path;
}

function areaOf(points, value, x, y) {
  let path = "";
  for (const stretch of stretches(points, value)) {
    path += `M${x(stretch[0].at).toFixed(1)} ${y(0)}`;
    path += stretch.map((one) => `L${x(one.at).toFixed(1)} ${y(value(one)).toFixed(1)}`).join("");
    path += `L${x(stretch.at(-1).at).toFixed(1)} ${y(0)}Z`;
  }
  return path;
}
