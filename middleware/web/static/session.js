// Logging in, and doing something: each button asks first what it means, and its answer is shown as the console has it.

import { byId, h, mark, say } from "./dom.js";

const MESSAGES_MAX = 4;
const GOOD_MS = 8_000;

export class Session {
  /** `changed` is called when what this browser may do is another. */
  constructor(changed) {
    this.changed = changed;
    this.told = { look: false, buttons: "none", csrf: "", full: false };
    byId("log-in").addEventListener("click", () => this.openLogin());
    byId("log-out").addEventListener("click", () => this.logOut());
    byId("login-cancel").addEventListener("click", () => byId("login").close());
    byId("login-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.logIn();
    });
    byId("read-only").addEventListener("click", () => {
      const why = byId("read-only-why");
      why.hidden = !why.hidden;
      mark(byId("read-only"), "aria-expanded", !why.hidden);
    });
  }

  /** Ask what this browser may do; false where nobody answers. */
  async ask() {
    try {
      const answer = await fetch("session");
      if (!answer.ok) return false;
      this.use(await answer.json());
      return true;
    } catch {
      return false;
    }
  }

  use(told) {
    this.told = told;
    mark(document.body, "data-buttons", told.buttons);
    byId("log-in").hidden = told.buttons !== "login";
    byId("log-out").hidden = told.buttons !== "here";
    byId("read-only").hidden = told.buttons !== "none";
    if (told.buttons !== "none") byId("read-only-why").hidden = true;
    this.changed(told);
  }

  openLogin() {
    say(byId("login-error"), "");
    byId("password").value = "";
    byId("login").showModal();
    byId("password").focus();
  }

  async logIn() {
    const answer = await this.post("login", { password: byId("password").value });
    byId("password").value = "";
    if (answer.ok) {
      byId("login").close();
      this.use(answer.body);
    } else {
      say(byId("login-error"), [answer.body.message, answer.body.hint].filter(Boolean).join(". "));
      byId("password").focus();
    }
  }

  async logOut() {
    await this.post("logout", {});
    await this.ask();
  }

  /** Have it done that a button says, once it is confirmed. */
  async act(action, node, snapshot) {
    const meaning = meaningOf(action, node, snapshot);
    if (meaning && !(await confirm(meaning))) return;
    const answer = await this.post("command", { do: action, node });
    if (answer.status === 202) return; // It is shown as under way, and its end comes with the stream.
    if (answer.ok) this.tell({ ...answer.body, ok: true });
    else this.tell({ ok: false, ...answer.body });
    if (answer.status === 401) await this.ask();
  }

  async cancel(command) {
    const answer = await this.post("cancel", { id: command.id });
    if (!answer.ok) this.tell({ ok: false, ...answer.body });
  }

  async post(path, body) {
    try {
      const answer = await fetch(path, {
        method: "POST",
        headers: { "Content-Type": "application/json", "X-Pointsman-Token": this.told.csrf },
        body: JSON.stringify(body),
      });
      const text = await answer.text();
      let found = { message: `the answer was ${answer.status} ${answer.statusText}` };
      if (answer.headers.get("Content-Type")?.startsWith("application/json")) found = JSON.parse(text);
      return { ok: answer.ok, status: answer.status, body: found };
    } catch {
      return { ok: false, status: 0, body: { message: "Pointsman does not answer" } };
    }
  }

  /** What has come of a command: good news goes by itself. */
  tell(outcome) {
    const lines = outcome.ok ? [outcome.message].filter(Boolean) : [
      outcome.sqlstate ? `ERROR ${outcome.sqlstate}: ${outcome.message}` : outcome.message,
      outcome.detail && `DETAIL: ${outcome.detail}`,
      outcome.hint && `HINT: ${outcome.hint}`,
    ].filter(Boolean);
    const note = h("div", { class: "message", role: outcome.ok ? "status" : "alert", "data-tone": outcome.ok ? "good" : "bad" },
      h("p", {}, h("b", {}, `${outcome.command ?? ""}${outcome.command ? (outcome.ok ? " is done." : " has failed.") : "Not done."}`)),
      ...lines.flatMap((text) => text.split("\n")).map((line) => h("p", {}, line)),
      h("button", { type: "button", "aria-label": "Close this message", onclick: () => note.remove() }, "✕"));
    const place = byId("messages");
    place.append(note);
    while (place.children.length > MESSAGES_MAX) place.firstElementChild.remove();
    if (outcome.ok) setTimeout(() => note.remove(), GOOD_MS);
  }
}

/** What a button does, for who is about to press it; null where there is nothing to lose. */
function meaningOf(action, node, snapshot) {
  const found = snapshot?.nodes.find((one) => one.name === node);
  const others = snapshot?.nodes.filter((one) => one.role === "standby" && one.used && one.name !== node) ?? [];
  const loss = [];
  if (found?.role === "primary") loss.push("It is the primary: until it is attached again writes wait, and fail after query_wait_timeout.");
  else if (found && others.length === 0) loss.push("It is the last standby in use: all reads go to the primary.");
  return {
    drain: {
      title: `Drain ${node}?`,
      yes: `Drain ${node}`,
      text: [`${node} is given nothing new. What is under way there may end; then its connections are closed.`,
        "It stays out of use until it is attached again.", ...loss],
    },
    detach: {
      title: `Detach ${node}?`,
      yes: `Detach ${node}`,
      text: [`${node} is given nothing new from now on; what is under way there may end.`,
        "It stays out of use until it is attached again.", ...loss],
    },
    switchover: {
      title: `Make ${node} the primary?`,
      yes: `Make ${node} the primary`,
      text: [`${snapshot?.primary ?? "The primary"} is stopped, and ${node} takes its place. Reads go on.`,
        "Writes are held meanwhile: what is open has switchover_timeout to end. If it does not end, or the standby does not come up to it, all is taken back.",
        "Clients whose session state keeps them on the old primary lose their connection."],
    },
    cache_on: { title: "Turn the query cache on?", yes: "Turn on", text: ["For all clients, all answers are kept that can be, whatever the settings say."] },
    cache_hint: { title: "Cache what asks for it?", yes: "Cache what asks", text: ["For all clients, answers are kept to statements that ask for it by a comment, whatever the settings say."] },
    cache_off: { title: "Turn the query cache off?", yes: "Turn off", text: ["No answer is given from it any more, to any client. The nodes get what it has kept from them."] },
    cache_default: null,
    cache_clear: { title: "Clear the query cache?", yes: "Clear", text: ["No answer is given again that is kept now. The nodes get what it has kept from them, until it is filled again."] },
    pause: {
      title: "Pause all databases?",
      yes: "Pause",
      text: ["No server is lent any more, and all are closed when they come back: clients wait, and fail after query_wait_timeout.",
        "It goes on until it is resumed."],
    },
    resume: null,
    reload: { title: "Read the settings again?", yes: "Reload", text: ["The settings and the files that they name are read again. A mistake in them changes nothing, and is told."] },
    attach: null,
  }[action];
}

function confirm(meaning) {
  const dialog = byId("confirm");
  say(byId("confirm-title"), meaning.title);
  byId("confirm-text").replaceChildren(...meaning.text.map((line) => h("p", {}, line)));
  say(byId("confirm-yes"), meaning.yes);
  return new Promise((resolve) => {
    const over = new AbortController();
    const end = (answer) => {
      over.abort();
      dialog.close();
      resolve(answer);
    };
    const { signal } = over;
    byId("confirm-yes").addEventListener("click", () => end(true), { signal });
    byId("confirm-no").addEventListener("click", () => end(false), { signal });
    dialog.addEventListener("close", () => end(false), { signal });
    dialog.showModal();
    byId("confirm-no").focus();
  });
}
