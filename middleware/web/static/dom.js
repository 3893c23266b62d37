// Elements made and changed in place. All text is text: nothing on this page is made from markup, so what a client calls
// itself stays a name.

const SVG = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "onclick") element.addEventListener("click", value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

export const h = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
export const svg = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

/** Say it, where it is not said already: what has not changed is not drawn again, nor read out. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function mark(element, name, value) {
  if (value === null) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

/** Have one child of `parent` for each item, in their order; those that stay keep their focus. */
export function keep(parent, items, keyOf, make, show) {
  const known = new Map();
  for (const child of parent.children) known.set(child.dataset.key, child);
  let place = parent.firstElementChild;
  const taken = new Map();
  for (const item of items) {
    // Two of one key are told by their order.
    const same = taken.get(keyOf(item)) ?? 0;
    taken.set(keyOf(item), same + 1);
    const key = same ? `${keyOf(item)} ${same}` : String(keyOf(item));
    let child = known.get(key);
    if (child === undefined) {
      child = make(item);
      child.dataset.key = key;
    }
    known.delete(key);
    show(child, item);
    if (child === place) place = place.nextElementSibling;
    else parent.insertBefore(child, place);
  }
  for (const child of known.values()) child.remove();
}

/**
 * A table of named columns. On a narrow screen its rows become cards (style.css), and then the roles of its elements are
 * what tells that it is a table.
 */
export class Table {
  /** Each column: { name, text(item) or show(cell, item), kind: any of "number", "code", "wide", "free" (text of others, which may be long) } */
  constructor(place, label, columns, keyOf, empty) {
    this.columns = columns;
    this.keyOf = keyOf;
    this.body = h("tbody", { role: "rowgroup" });
    const heads = columns.map((column) =>
      h("th", { role: "columnheader", scope: "col", class: column.kind ?? "" }, column.name));
    this.table = h("table", { role: "table", "aria-label": label },
      h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, ...heads)), this.body);
    this.empty = h("p", { class: "empty" }, empty);
    this.more = h("p", { class: "more", hidden: true });
    place.replaceChildren(this.table, this.empty, this.more);
    this.show([]);
  }

  show(items, left = 0) {
    this.table.hidden = items.length === 0;
    this.empty.hidden = items.length > 0;
    this.more.hidden = left === 0;
    if (left) say(this.more, `and ${left} more: see the console`);
    keep(this.body, items, this.keyOf, () => this.row(), (row, item) => {
      this.columns.forEach((column, index) => {
        const cell = row.children[index];
        if (column.show) column.show(cell, item);
        else say(cell, column.text(item));
      });
    });
  }

  row() {
    return h("tr", { role: "row" }, ...this.columns.map((column, index) =>
      h(index === 0 ? "th" : "td", {
        role: index === 0 ? "rowheader" : "cell",
        scope: index === 0 ? "row" : null,
        class: column.kind ?? "",
        "data-label": column.name,
      })));
  }
}
