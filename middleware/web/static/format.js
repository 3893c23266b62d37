// Numbers, sizes, durations and moments, as this page writes them.

const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const ONE = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const DAY = new Intl.DateTimeFormat("en-GB", { month: "short", day: "numeric" });

export const NOTHING = "–";

/** A count: 12,345; from a million on, 1.2 M. */
export function count(value) {
  if (value >= 1e9) return `${ONE.format(value / 1e9)} G`;
  if (value >= 1e6) return `${ONE.format(value / 1e6)} M`;
  return WHOLE.format(value);
}

/** A rate: below ten with a tenth, so that a trickle is no 0. */
export function rate(value) {
  if (value === 0) return "0";
  return value < 9.95 ? ONE.format(Math.max(value, 0.1)) : count(value);
}

/** Bytes, as PostgreSQL writes them. */
export function bytes(value) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 || value >= 99.95 ? WHOLE.format(value) : ONE.format(value)} ${units[unit]}`;
}

/** Seconds, to two or three digits: 340 µs, 12.3 ms, 4.0 s, 3 min, 2 h, 5 d. */
export function duration(seconds) {
  if (seconds === 0) return "0 s";
  if (seconds < 0.001) return `${WHOLE.format(seconds * 1e6)} µs`;
  if (seconds < 1) return `${seconds < 0.0995 ? ONE.format(seconds * 1e3) : WHOLE.format(seconds * 1e3)} ms`;
  if (seconds < 60) return `${ONE.format(seconds)} s`;
  return ago(seconds);
}

/** Whole seconds, minutes, hours or days. */
export function ago(seconds) {
  if (seconds < 60) return `${WHOLE.format(Math.max(0, Math.floor(seconds)))} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} d`;
}

export function percent(share) {
  // What is not all is not 100 %.
  const value = share < 1 ? Math.min(share * 100, 99.9) : 100;
  return `${(value > 0 && value < 9.95) || (value > 99 && value < 100) ? ONE.format(value) : WHOLE.format(value)} %`;
}

/** A moment in this browser's time zone; with its day where that is another one than `now`'s. */
export function moment(seconds, now) {
  const date = new Date(seconds * 1000);
  const clock = CLOCK.format(date);
  return date.toDateString() === new Date(now * 1000).toDateString() ? clock : `${DAY.format(date)} ${clock}`;
}

export function plural(number, one, many) {
  return `${WHOLE.format(number)} ${number === 1 ? one : many}`;
}
