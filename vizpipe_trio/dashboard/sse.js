// The event stream's format, as the HTML standard has it: 9.2.6 "Interpreting an event stream".
//
// The page reads its stream with fetch() and not with EventSource, since that keeps the token out
// of every address, tells why the server refuses, and hands over a whole chunk of events at once.

export class EventStreamParser {
  lastEventId = "";
  retryMs = null;
  #decoder = new TextDecoder(); // strips one leading BOM, as the standard asks
  #rest = "";
  #afterCr = false;
  #type = "";
  #data = [];
  #id = "";

  // Takes bytes as they come and returns the events that they complete.
  push(bytes) {
    let text = this.#decoder.decode(bytes, { stream: true });
    if (text === "") return [];
    // CRLF is one line end, also when a chunk ends between the two.
    if (this.#afterCr && text.startsWith("\n")) text = text.slice(1);
    this.#afterCr = text.endsWith("\r");
    const lines = (this.#rest + text).split(/\r\n|\n|\r/);
    this.#rest = lines.pop();
    const events = [];
    for (const line of lines) this.#interpret(line, events);
    return events;
  }

  #interpret(line, events) {
    if (line === "") {
      this.#dispatch(events);
      return;
    }
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon); // an empty name is a comment's
    let value = colon < 0 ? "" : line.slice(colon + 1);
    if (value.startsWith(" ")) value = value.slice(1);
    if (name === "data") this.#data.push(value);
    else if (name === "event") this.#type = value;
    else if (name === "id" && !value.includes("\0")) this.#id = value;
    else if (name === "retry" && /^[0-9]+$/.test(value)) this.retryMs = Number(value);
  }

  #dispatch(events) {
    this.lastEventId = this.#id;
    if (this.#data.length > 0) {
      events.push({ type: this.#type || "message", data: this.#data.join("\n"), id: this.#id });
    }
    this.#type = "";
    this.#data = [];
  }
}
