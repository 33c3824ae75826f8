// The inbox page: follows the sandbox's events and shows its messages.

import { fillCard } from "/assets/card.js";
import { byId, make } from "/assets/dom.js";
import { countdown, day, isFrozen, isSameDay, roughly, sandboxNow, setClock, timeOfDay, utc } from "/assets/times.js";

const SHOWN_AT_MOST = 1000;

const cards = new Map(); // omnimessage_id -> { message, node, item, picked, linked }
let knownRevision = 0;
let run = null;
let overview = null;
let filter = "all";
let searched = "";
let linkedId = null; // the message that the address of the page names
let fetching = false;
let fetchAgain = false;

function upsert(message, animate) {
  let card = cards.get(message.omnimessage_id);
  if (card && card.message.revision >= message.revision) return;
  if (!card) {
    const node = make("article", { id: message.omnimessage_id, "aria-label": `Message to ${message.to}` });
    card = { item: make("li", {}, node), node };
    cards.set(message.omnimessage_id, card);
  }
  const moved = card.message && card.message.state === "scheduled" && message.state !== "scheduled";
  const isNew = animate && (!card.message || moved);
  card.message = message;
  card.linked = message.omnimessage_id === linkedId;
  fillCard(card);
  if (isNew) card.node.classList.add("new");
}

// --- the board

const isScheduled = (message) => message.state === "scheduled";
const doneAt = (message) => message.cancelled_at || message.sent_at || "";

function matches(card) {
  const { message } = card;
  const group = filter === "all" || message.state === filter || (filter === "delivered" && message.state === "seen");
  if (!group) return false;
  if (!searched) return true;
  card.searchText ??= `${message.omnimessage_id} ${JSON.stringify(message.body)}`.toLowerCase();
  return card.searchText.includes(searched);
}

function order(target, entries) {
  let next = target.firstElementChild;
  for (const card of entries) {
    if (card.item === next) next = next.nextElementSibling;
    else target.insertBefore(card.item, next);
  }
  while (next) {
    const surplus = next;
    next = next.nextElementSibling;
    surplus.remove();
  }
}

function render() {
  if (cards.size > SHOWN_AT_MOST) {
    const oldest = [...cards.entries()].filter(([id]) => id !== linkedId).sort((a, b) => a[1].message.revision - b[1].message.revision);
    for (const [id] of oldest.slice(0, cards.size - SHOWN_AT_MOST)) {
      cards.get(id).item.remove();
      cards.delete(id);
    }
  }
  const shown = [...cards.values()].filter(matches);
  const waiting = shown.filter((card) => isScheduled(card.message))
    .sort((a, b) => Date.parse(a.message.time_to_send) - Date.parse(b.message.time_to_send));
  const done = shown.filter((card) => !isScheduled(card.message))
    .sort((a, b) => (Date.parse(doneAt(b.message)) - Date.parse(doneAt(a.message))) || b.message.revision - a.message.revision);
  // Moving a card between the columns must not lose the keyboard focus.
  const focused = document.activeElement;
  order(byId("scheduled"), waiting);
  order(byId("done"), done);
  if (focused && focused !== document.activeElement && focused.isConnected) focused.focus();

  const empty = overview !== null && overview.messages === 0;
  byId("empty").hidden = !empty;
  byId("board").hidden = byId("tools").hidden = empty || overview === null;
  const both = filter === "all";
  byId("board").classList.toggle("one", !both);
  byId("scheduled-column").hidden = !both && filter !== "scheduled";
  byId("done-column").hidden = filter === "scheduled";
  const nothing = searched || !both ? "No message matches." : null;
  byId("scheduled-nothing").hidden = waiting.length > 0;
  byId("done-nothing").hidden = done.length > 0;
  if (nothing) byId("done-nothing").textContent = byId("scheduled-nothing").textContent = nothing;
  else {
    byId("done-nothing").textContent = "Nothing has been sent yet.";
    byId("scheduled-nothing").replaceChildren("Nothing is scheduled. A message with ", make("code", {}, "time_to_send"), " counts down here.");
  }
  const hidden = overview ? overview.messages - cards.size : 0;
  byId("more").hidden = hidden <= 0;
  byId("more").textContent = `Showing the ${cards.size.toLocaleString()} most recently changed of ${overview?.messages.toLocaleString()} messages.`;
  tick();
}

const GROUPS = [["all", "All"], ["scheduled", "Scheduled"], ["in_progress", "In progress"], ["delivered", "Delivered"], ["failed", "Failed"], ["unknown", "Unknown"], ["cancelled", "Cancelled"]];

function countOf(group) {
  if (!overview) return 0;
  if (group === "all") return overview.messages;
  return overview.states[group] + (group === "delivered" ? overview.states.seen : 0);
}

function buildFilters() {
  byId("filters").append(...GROUPS.map(([group, label]) =>
    make("button", { type: "button", "aria-pressed": String(group === filter), "data-group": group,
      onclick: () => { filter = group; refreshFilters(); render(); } }, label, make("b", {}, "0"))));
}

function refreshFilters() {
  for (const button of byId("filters").children) {
    button.setAttribute("aria-pressed", String(button.dataset.group === filter));
    button.lastElementChild.textContent = countOf(button.dataset.group).toLocaleString();
  }
}

// --- the clock

function tick() {
  const now = sandboxNow();
  const date = new Date(now);
  const offset = Math.round((now - Date.now()) / 1000);
  byId("clock-local").textContent = timeOfDay(date);
  byId("clock-utc").textContent = utc(date);
  const difference = Math.abs(offset) >= 2 ? `${roughly(Math.abs(offset))} ${offset > 0 ? "ahead of" : "behind"} real time` : "";
  const shifted = isSameDay(date, new Date()) ? difference : `${day(date)}, ${difference}`;
  byId("clock-shift").textContent = [isFrozen() ? "frozen" : "", shifted].filter(Boolean).join(", ");
  for (const card of cards.values()) {
    if (!card.countdown || !card.item.isConnected) continue;
    const left = Date.parse(card.message.time_to_send) - now;
    card.countdown.textContent = left > 0 ? `in ${countdown(left)}` : "sending";
    card.countdown.classList.toggle("soon", left < 60000 && !isFrozen());
  }
}

async function moveClock(change) {
  const buttons = [...document.querySelectorAll(".moves button")];
  const focused = document.activeElement;
  for (const button of buttons) button.disabled = true;
  try {
    await fetch("/sandbox/clock", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(change) });
  } finally {
    for (const button of buttons) button.disabled = false;
    showClock();
    if (buttons.includes(focused) && !focused.disabled) focused.focus();
  }
}

function showClock() {
  if (!overview) return;
  byId("to-next").disabled = !overview.clock.next_time_to_send;
  byId("freeze").setAttribute("aria-pressed", String(overview.clock.frozen));
}

// --- events

async function fetchChanges() {
  if (fetching) { fetchAgain = true; return; }
  fetching = true;
  try {
    do {
      fetchAgain = false;
      const upTo = overview.revision;
      const first = knownRevision === 0;
      if (upTo > knownRevision) {
        const response = await fetch(`/sandbox/messages?changed_after=${knownRevision}&limit=${SHOWN_AT_MOST}`);
        const messages = await response.json();
        for (const message of messages.reverse()) upsert(message, !first && messages.length < 50);
        knownRevision = Math.max(upTo, ...messages.slice(-1).map((message) => message.revision));
      }
      render();
      if (first && overview.messages) await showLinkedMessage();
    } while (fetchAgain);
  } catch {
    knownRevision = 0; // the next event fetches everything
  } finally {
    fetching = false;
  }
}

function onEvent(latest) {
  if (latest.run !== run) {
    run = latest.run;
    knownRevision = 0;
    for (const card of cards.values()) card.item.remove();
    cards.clear();
  }
  overview = latest;
  setClock(latest.clock);
  showClock();
  refreshFilters();
  byId("traffic").textContent = `${latest.requests.toLocaleString()} API call${latest.requests === 1 ? "" : "s"} so far`
    + (latest.faults ? `, ${latest.faults} fault${latest.faults === 1 ? "" : "s"} set` : "");
  document.title = latest.states.scheduled ? `(${latest.states.scheduled}) Omnimessage sandbox` : "Omnimessage sandbox";
  fetchChanges();
}

function follow() {
  const source = new EventSource("/sandbox/events");
  const status = byId("link");
  source.addEventListener("open", () => {
    status.className = "live";
    status.textContent = "Connected. No real messages are sent.";
  });
  source.addEventListener("error", () => {
    status.className = "lost";
    status.textContent = "Disconnected. Reconnecting…";
    if (source.readyState === EventSource.CLOSED) setTimeout(follow, 2000);
  });
  source.addEventListener("message", (event) => onEvent(JSON.parse(event.data)));
}

async function showLinkedMessage() {
  const id = decodeURIComponent(location.hash.slice(1));
  for (const card of cards.values()) {
    card.linked = false;
    card.node.classList.remove("linked");
  }
  linkedId = /^[0-9a-f-]{36}$/.test(id) ? id : null;
  if (!linkedId) return;
  if (!cards.has(id)) {
    const response = await fetch(`/sandbox/messages/${id}`);
    if (!response.ok) return;
    upsert(await response.json(), false);
  }
  filter = "all";
  searched = byId("search").value = "";
  refreshFilters();
  render();
  const card = cards.get(id);
  const { node } = card;
  card.linked = true;
  node.classList.add("linked");
  node.tabIndex = -1;
  node.focus({ preventScroll: true });
  node.scrollIntoView({ block: "center" });
}

// --- the empty inbox, and the start

function shellQuoted(text) {
  return `'${text.replaceAll("'", "'\"'\"'")}'`;
}

async function copy(button, source) {
  try {
    await navigator.clipboard.writeText(source.textContent);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(source);
    button.textContent = "Press Ctrl+C";
  }
  setTimeout(() => { button.textContent = "Copy"; }, 2000);
}

async function showConnection() {
  const [connection, outcomes] = await Promise.all(
    ["/sandbox/connection", "/sandbox/outcomes"].map(async (path) => (await fetch(path)).json()));
  byId("export").textContent = `export AIRFLOW_CONN_OMNIMESSAGE_DEFAULT=${shellQuoted(JSON.stringify(connection))}`;
  const first = { to: "+37255555555", messages: [{ channel: "viber", text: "Hello!" }, { channel: "sms", text: "Hello!" }] };
  byId("curl").textContent = `curl -u ${shellQuoted(`${connection.login}:${connection.password}`)} -H 'Content-Type: application/json' `
    + `-d ${shellQuoted(JSON.stringify(first))} ${shellQuoted(`${connection.host}/omnimessage`)}`;
  byId("outcomes").append(...Object.entries(outcomes).flatMap(([digits, what]) =>
    [make("dt", { class: "mono" }, `…${digits}`), make("dd", {}, what)]));
}

buildFilters();
byId("search").addEventListener("input", (event) => { searched = event.target.value.trim().toLowerCase(); render(); });
byId("copy").addEventListener("click", () => copy(byId("copy"), byId("export")));
byId("copy-curl").addEventListener("click", () => copy(byId("copy-curl"), byId("curl")));
for (const button of document.querySelectorAll("[data-advance]")) {
  button.addEventListener("click", () => moveClock({ advance: Number(button.dataset.advance) }));
}
byId("to-next").addEventListener("click", () => moveClock({ to_next_message: true }));
byId("freeze").addEventListener("click", () => moveClock({ frozen: !overview?.clock.frozen }));
window.addEventListener("hashchange", showLinkedMessage);
setInterval(tick, 500);
showConnection();
follow();
