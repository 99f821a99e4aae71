// What the page is asked to show. It is kept in the address, so that a view can be shared; the token is not.

import { WINDOWS } from "./account.js";
import { FILTERS, VALUES } from "./hub.js";
import { make } from "./words.js";

const TOKEN = `vizpipe-token ${location.pathname}`; // what is behind another path may be another server

// The token lives no longer than the tab. The view takes it out of the address.
export function takeToken() {
  const token = new URLSearchParams(location.search).get("token");
  if (token === null) return storage()[TOKEN] ?? null;
  keepToken(token);
  return token;
}

export function keepToken(token) {
  storage()[TOKEN] = token;
}

function storage() {
  try {
    return sessionStorage;
  } catch {
    return {}; // this browser keeps nothing for this page
  }
}

// The form's state is the view: it is read from the address once, and written to it then and on each change.
export class View {
  chosen = 0; // filters, the text among them
  #form;
  #changed;

  // `changed` is called with what has changed: "filter", "text" or "window".
  constructor(form, changed) {
    this.#form = form;
    this.#changed = changed;
    for (const [name, values] of Object.entries(VALUES)) values.forEach((value) => this.#makeBox(name, value));
    for (const [name, value] of new URLSearchParams(location.search)) this.#set(name, value);
    form.addEventListener("submit", (event) => event.preventDefault());
    // On the document: the choice of a window belongs to the form, and stands elsewhere.
    document.addEventListener("change", ({ target }) => target.form === form && this.#hear(target));
    // Not yet the address, which browsers let a page change so many times and no more.
    form.addEventListener("input", ({ target }) => {
      if (target.name !== "text") return;
      this.#tidy();
      this.#changed("text");
    });
    form.querySelector("[data-part=clear]").addEventListener("click", () => this.#clear());
    this.#write();
  }

  // The server's part of it, as a query.
  get query() {
    const asked = [...new FormData(this.#form)].filter(([name]) => FILTERS.includes(name));
    return new URLSearchParams(asked).toString();
  }

  get text() {
    return this.#form.elements.text.value.trim();
  }

  get seconds() {
    return Number(this.#form.elements.window.value);
  }

  #clear() {
    const chosen = this.#form.querySelectorAll("input:checked");
    for (const box of chosen) box.checked = false;
    this.#form.elements.text.value = "";
    this.#change("text");
    if (chosen.length > 0) this.#change("filter");
  }

  #hear(input) {
    if (input.dataset.adds) {
      const value = input.value.trim();
      if (!value) return;
      input.value = "";
      this.#add(input.dataset.adds, value);
      this.#change("filter");
    } else this.#change(FILTERS.includes(input.name) ? "filter" : input.name);
  }

  #set(name, value) {
    if (name === "text") this.#form.elements.text.value = value;
    else if (name === "window" && WINDOWS.includes(Number(value))) this.#form.elements.window.value = value;
    else if (FILTERS.includes(name) && value) this.#add(name, value);
  }

  // Checks the box of a value, which is made if there is none: the server says whether there is such a value.
  #add(name, value) {
    const boxes = [...this.#form.querySelectorAll(`input[name="${name}"]`)];
    (boxes.find((box) => box.value === value) ?? this.#makeBox(name, value)).checked = true;
  }

  #makeBox(name, value) {
    const fieldset = this.#form.querySelector(`[data-filter="${name}"]`);
    const box = Object.assign(make("input", ""), { type: "checkbox", name, value });
    const label = make("label", "", box, make("span", "", value));
    fieldset.insertBefore(label, fieldset.querySelector("[data-adds]"));
    return box;
  }

  #change(what) {
    this.#write();
    this.#changed(what);
  }

  #write() {
    this.#tidy();
    const address = new URL(location.href);
    address.search = this.query;
    if (this.text) address.searchParams.set("text", this.text);
    if (this.seconds !== WINDOWS[0]) address.searchParams.set("window", this.seconds);
    history.replaceState(null, "", address);
  }

  // A value that somebody typed is a box only as long as it is chosen.
  #tidy() {
    for (const box of this.#form.querySelectorAll("input[type=checkbox]:not(:checked)")) {
      if (!VALUES[box.name]?.includes(box.value)) box.parentElement.remove();
    }
    this.chosen = new URLSearchParams(this.query).size + (this.text ? 1 : 0);
    this.#form.querySelector("[data-part=clear]").hidden = this.chosen === 0;
  }
}
