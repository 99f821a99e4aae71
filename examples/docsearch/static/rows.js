// Rows of the live list. Everything that comes from an event goes into the page as text.

const template = document.getElementById("event");
const number = new Intl.NumberFormat("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const clock = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });

const REASONS = {
  slow: "this page was too slow",
  overload: "the pipe was full",
  history: "this page was not connected",
};

export function eventRow(event) {
  const row = template.content.cloneNode(true).firstElementChild;
  row.event = event;
  row.dataset.requestId = event.request_id;
  row.dataset.status = event.status;
  const when = row.querySelector("time");
  when.dateTime = event.ts;
  when.textContent = clock.format(new Date(event.ts));
  row.querySelector(".subject").textContent = event.subject;
  row.querySelector(".subject").title = `${event.subject} (${event.actor_type})`;
  row.querySelector(".status").textContent = event.status === "ALLOWED" ? "" : event.status.toLowerCase();
  row.querySelector(".total").textContent = duration(event.total_ms);
  const answered = row.querySelector(".answered");
  if (event.stages) {
    answered.textContent = event.stages.find((stage) => stage.hit)?.name ?? "";
    drawStages(row.querySelector(".stages"), event);
  } else {
    answered.textContent = "note";
    row.querySelector(".stages").remove();
  }
  return row;
}

// One segment for each stage that ran, as long as its part of the whole; the rest of the bar is
// what the request did between its stages.
function drawStages(bar, event) {
  const ran = event.stages.filter((stage) => stage.ms > 0);
  for (const stage of ran) {
    const segment = document.createElement("span");
    segment.className = stage.hit ? "ran hit" : "ran";
    segment.style.flexGrow = stage.ms;
    bar.append(segment);
  }
  const rest = document.createElement("span");
  rest.style.flexGrow = Math.max(event.total_ms - ran.reduce((sum, stage) => sum + stage.ms, 0), 0);
  bar.append(rest);
  const words = ran.map((stage) => `${stage.name} ${duration(stage.ms)}${stage.hit ? " (answered)" : ""}`);
  bar.title = words.join("\n");
  bar.setAttribute("aria-label", words.join(", "));
}

function duration(ms) {
  return ms < 1000 ? `${number.format(ms)} ms` : `${number.format(ms / 1000)} s`;
}

export function missedRow({ missed, reason }) {
  const row = document.createElement("li");
  row.className = "missed";
  const count = missed === null ? "Some events" : missed === 1 ? "1 event" : `${missed} events`;
  row.textContent = `${count} missed: ${REASONS[reason] ?? reason}`;
  return row;
}
