// The stream of what there is to see: opened, watched, and opened again when it is lost.

const WAITS_S = [1, 2, 4, 8, 15];
/** A stream that has said nothing for so many periods is dead, whatever the browser thinks of its connection. */
const SILENT_PERIODS = 6;

export class Stream {
  /** `hear` is given each message, `changed` the state: { link: "connecting" | "live" | "lost", since, again }. */
  constructor(hear, changed) {
    this.hear = hear;
    this.changed = changed;
    this.source = null;
    this.tries = 0;
    this.lostAt = null;
    this.againAt = null;
    this.timer = null;
    this.watch = null;
    this.silent_ms = 10_000;
  }

  open() {
    this.close();
    this.tell("connecting");
    const source = new EventSource("stream");
    this.source = source;
    source.addEventListener("message", (event) => {
      if (source !== this.source) return;
      const message = JSON.parse(event.data);
      if (message.kind === "opened") {
        this.silent_ms = SILENT_PERIODS * message.period_s * 1000;
        this.tries = 0;
        this.lostAt = null;
        this.tell("live");
      }
      this.wait();
      this.hear(message);
    });
    source.addEventListener("error", () => {
      if (source === this.source) this.lost();
    });
    this.wait();
  }

  /** Give it up, and do not come back. */
  close() {
    clearTimeout(this.timer);
    clearTimeout(this.watch);
    this.source?.close();
    this.source = null;
  }

  wait() {
    clearTimeout(this.watch);
    // A page that stood still has its timers run first, and then hears what has come meanwhile.
    this.watch = setTimeout(() => {
      this.watch = setTimeout(() => this.lost(), 1000);
    }, this.silent_ms);
  }

  lost() {
    this.close();
    this.lostAt ??= Date.now();
    const wait_s = WAITS_S[Math.min(this.tries, WAITS_S.length - 1)] * (0.8 + 0.4 * Math.random());
    this.tries += 1;
    this.againAt = Date.now() + wait_s * 1000;
    this.timer = setTimeout(() => this.open(), wait_s * 1000);
    this.tell("lost");
  }

  tell(link) {
    // While it is tried again it is lost still.
    this.changed({ link: link === "connecting" && this.lostAt ? "lost" : link, since: this.lostAt, again: this.againAt });
  }
}
