// The search side of the page.

import { markAsMine, startLive } from "./live.js";
import { takeToken } from "./token.js";

const form = document.getElementById("search");
const query = document.getElementById("query");
const actor = document.getElementById("actor");
const summary = document.getElementById("summary");
const results = document.getElementById("results");
const template = document.getElementById("result");

// Answers may come in another order than they were asked for; only the last question counts.
let asked = 0;

async function search() {
  const question = (asked += 1);
  summary.textContent = "Searching…";
  let answer;
  try {
    const response = await fetch(`/search?${new URLSearchParams({ q: query.value })}`, {
      headers: { "X-Actor-Type": actor.value },
    });
    answer = await response.json();
  } catch {
    answer = { error: "The app doesn’t answer. Is it still running?" };
  }
  if (question !== asked) return;
  show(answer);
}

function show(answer) {
  if (answer.request_id) markAsMine(answer.request_id);
  summary.textContent = summaryOf(answer);
  const terms = (answer.query ?? "").toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? [];
  results.replaceChildren(...(answer.results ?? []).map((result) => resultItem(result, terms)));
}

function summaryOf(answer) {
  if (answer.error) return answer.error;
  if (answer.status === "DENIED") return `Denied: ${answer.reason}.`;
  const count = answer.results.length;
  const found = count === 0 ? "Nothing found" : count === 1 ? "1 result" : `${count} results`;
  const filtered = answer.status === "FILTERED" ? "; policy left some out" : "";
  return `${found} by ${answer.answered_by} in ${answer.total_ms.toFixed(2)} ms${filtered}`;
}

function resultItem(result, terms) {
  const item = template.content.cloneNode(true);
  item.querySelector("h3").textContent = result.title;
  item.querySelector(".snippet").append(...marked(result.snippet, terms));
  for (const label of result.labels) {
    const entry = document.createElement("li");
    entry.textContent = label;
    item.querySelector(".labels").append(entry);
  }
  return item;
}

// The text with the words that were asked for, and words that begin like them, in <mark>.
function marked(text, terms) {
  return text.split(/([\p{L}\p{N}]+)/u).map((piece) => {
    const word = piece.toLowerCase();
    if (!terms.some((term) => term.length > 2 && word.startsWith(term))) return piece;
    const mark = document.createElement("mark");
    mark.textContent = piece;
    return mark;
  });
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  search();
});

actor.addEventListener("change", () => {
  if (query.value.trim()) search();
});

for (const example of document.querySelectorAll("#examples button")) {
  example.addEventListener("click", () => {
    query.value = example.textContent;
    search();
  });
}

const token = takeToken();
if (token) {
  // The dashboard takes its token from the address too. Set on the click, so that it is in no link.
  document.getElementById("dashboard").addEventListener("click", (event) => {
    event.preventDefault();
    location.assign(`/viz/?${new URLSearchParams({ token })}`);
  });
}
startLive(token);
query.focus();
