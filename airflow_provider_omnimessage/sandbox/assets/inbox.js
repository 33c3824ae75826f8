// The inbox page: follows the sandbox's events and shows its messages. All content goes in as text, never as markup.
"use strict";

const SHOWN_AT_MOST = 1000;
const CHANNELS = { sms: "SMS", viber: "Viber", whatsapp: "WhatsApp", rcs: "RCS" };
const STATES = {
  scheduled: "Scheduled", in_progress: "In progress", delivered: "Delivered", seen: "Seen", failed: "Failed", cancelled: "Cancelled",
};
const WORDS = {
  null: "trying", ACK: "acknowledged", ACCEPTD: "accepted", DELIVRD: "delivered", SEEN: "seen",
  UNDELIV: "not delivered", EXPIRED: "expired", DELETED: "taken out of the queue",
};
const STEPS = [null, "ACK", "ACCEPTD", "DELIVRD"];

const byId = (id) => document.getElementById(id);
const cards = new Map(); // omnimessage_id -> { message, node, picked }
let known = 0;
let run = null;
let overview = null;
let filter = "all";
let wanted = "";
let aimed = null; // the message that the address names
let fetching = false;
let again = false;
let clock = { base: Date.now(), at: performance.now(), frozen: false };

// --- building blocks

function make(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "class") node.className = value;
    else if (name === "onclick") node.addEventListener("click", value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

const list = (value) => (Array.isArray(value) ? value : []);

function sandboxNow() {
  return clock.frozen ? clock.base : clock.base + (performance.now() - clock.at);
}

const two = (number) => String(number).padStart(2, "0");
const time = (date) => `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
const timeUtc = (date) => date.toISOString().slice(11, 19);
const sameDay = (a, b) => a.toDateString() === b.toDateString();

function day(date) {
  const options = { weekday: "short", day: "numeric", month: "short" };
  if (date.getFullYear() !== new Date(sandboxNow()).getFullYear()) options.year = "numeric";
  return date.toLocaleDateString(undefined, options);
}

function local(date) {
  return sameDay(date, new Date(sandboxNow())) ? time(date) : `${day(date)}, ${time(date)}`;
}

function utc(date) {
  const other = date.toISOString().slice(0, 10);
  const here = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return other === here ? `${timeUtc(date)} UTC` : `${other} ${timeUtc(date)} UTC`;
}

function span(milliseconds) {
  const seconds = Math.max(0, Math.ceil(milliseconds / 1000));
  const days = Math.floor(seconds / 86400);
  const clockPart = `${two(Math.floor(seconds / 3600) % 24)}:${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}`;
  return days ? `${days} d ${clockPart}` : clockPart;
}

function roughly(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 360) / 10} h`;
  return `${Math.round(seconds / 8640) / 10} days`;
}

// --- content of a message, one kind at a time

function textPart(text) {
  const long = text.length > 600 || text.split("\n").length > 10;
  const node = make("p", { class: long ? "text folded" : "text", dir: "auto" }, text);
  if (!long) return [node];
  const more = make("button", { type: "button", class: "unfold", "aria-expanded": "false" }, "Show all");
  more.addEventListener("click", () => {
    const folded = node.classList.toggle("folded");
    more.textContent = folded ? "Show all" : "Show less";
    more.setAttribute("aria-expanded", String(!folded));
  });
  return [node, more];
}

function mediaPart(glyph, what, where, small) {
  return make("div", { class: small ? "media small" : "media" },
    make("span", { class: "glyph", "aria-hidden": "true" }, glyph), make("span", {}, what),
    where ? make("span", { class: "where" }, where) : null);
}

function filePart(glyph, what, where) {
  return make("div", { class: "media file" }, make("span", { class: "glyph", "aria-hidden": "true" }, glyph),
    make("span", {}, what, make("span", { class: "where" }, where ? ` ${where}` : "")));
}

function buttonPart(label, url) {
  return make("div", { class: "cta", dir: "auto" }, label, url ? make("small", {}, url) : null);
}

function suggestionPart(suggestions) {
  if (!list(suggestions).length) return null;
  return make("div", { class: "suggestions" }, ...suggestions.map((each) => {
    const inner = each.reply || each.action || {};
    return make("span", { dir: "auto" }, `${each.action ? "↗ " : "↩ "}${inner.text || ""}`);
  }));
}

function facts(pairs) {
  const rows = pairs.flatMap(([key, value]) => [make("dt", {}, key), make("dd", { dir: "auto" }, value)]);
  return rows.length ? make("dl", {}, ...rows) : null;
}

function templatePart(name, language, pairs) {
  return make("div", { class: "template" },
    make("span", { class: "quiet" }, `Template, ${language || "no language"}`), make("span", { class: "name" }, name || ""), facts(pairs));
}

function viberParts(message) {
  const parts = [];
  if (message.image_url) parts.push(mediaPart("🖼", "Image", message.image_url));
  if (message.video) {
    const { duration, file_size: size, url } = message.video;
    parts.push(mediaPart("▶", `Video, ${Math.floor(duration / 60)}:${two(duration % 60)}, ${(size / 1048576).toFixed(1)} MB`, url));
  }
  if (message.text) parts.push(...textPart(message.text));
  if (message.button_text) parts.push(buttonPart(message.button_text, message.button_url));
  if (message.carousel) {
    parts.push(make("div", { class: "carousel", tabindex: "0", role: "group", "aria-label": "Carousel" },
      ...list(message.carousel.items).map((item) => make("div", { class: "tile" },
        mediaPart("🖼", "Image", item.image_url, true), make("strong", { dir: "auto" }, item.title),
        buttonPart(item.primary_button.label, null),
        item.secondary_button ? make("div", { class: "suggestions" }, make("span", { dir: "auto" }, item.secondary_button.label)) : null))));
  }
  if (message.template) {
    parts.push(templatePart(message.template.id, message.template.lang, Object.entries(message.template.params || {})));
  }
  return parts;
}

function whatsappParts(message) {
  const from = (media) => media.link || (media.id ? `id ${media.id}` : "");
  const parts = [];
  if (message.text) parts.push(...textPart(message.text.body));
  if (message.image) parts.push(mediaPart("🖼", "Image", from(message.image)));
  if (message.video) parts.push(mediaPart("▶", "Video", from(message.video)));
  if (message.sticker) parts.push(mediaPart("★", message.sticker.animated ? "Animated sticker" : "Sticker", from(message.sticker)));
  if (message.audio) parts.push(filePart("♪", "Audio", from(message.audio)));
  if (message.document) parts.push(filePart("📄", message.document.file_name || "Document", from(message.document)));
  for (const media of [message.image, message.video, message.document]) {
    if (media && media.caption) parts.push(...textPart(media.caption));
  }
  if (message.template) {
    const pairs = list(message.template.components).flatMap((component) =>
      list(component.parameters).map((parameter) => {
        const inner = parameter.text ?? parameter.payload ?? parameter.coupon_code
          ?? parameter.currency?.fallback_value ?? parameter.date_time?.fallback_value
          ?? parameter.image?.link ?? parameter.video?.link ?? parameter.document?.link ?? "";
        return [`${component.type}${component.sub_type ? ` ${component.sub_type}` : ""}`, `${inner || parameter.type}`];
      }));
    parts.push(templatePart(message.template.name, message.template.language.code, pairs));
  }
  return parts;
}

function cardPart(content) {
  return make("div", { class: "tile" },
    content.media ? mediaPart("🖼", "Media", content.media.content_info.file_url, true) : null,
    content.title ? make("strong", { dir: "auto" }, content.title) : null,
    content.description ? make("p", { class: "text", dir: "auto" }, content.description) : null,
    suggestionPart(content.suggestions));
}

function rcsParts(message) {
  const parts = [];
  if (message.text) parts.push(...textPart(message.text));
  if (message.content_info) parts.push(mediaPart("📎", "File", message.content_info.file_url));
  if (message.rich_card) {
    const { standalone_card: single, carousel_card: several } = message.rich_card;
    if (single) parts.push(cardPart(single.card_content));
    if (several) {
      parts.push(make("div", { class: "carousel", tabindex: "0", role: "group", "aria-label": "Carousel" },
        ...list(several.card_contents).map(cardPart)));
    }
  }
  parts.push(suggestionPart(message.suggestions));
  return parts;
}

const PARTS = { sms: (message) => textPart(message.text), viber: viberParts, whatsapp: whatsappParts, rcs: rcsParts };

// --- one message

const failed = (status) => ["UNDELIV", "EXPIRED"].includes(status);
const arrived = (status) => ["DELIVRD", "SEEN"].includes(status);

function mark(status) {
  if (status === "SEEN") return "✓✓";
  if (status === "DELIVRD") return "✓";
  if (failed(status)) return "✕";
  return status === "DELETED" ? "–" : "…";
}

function progress(message, position) {
  const entry = message.statuses[position];
  if (!entry || message.state === "scheduled" || message.state === "cancelled") {
    const words = message.state === "cancelled" ? "never sent"
      : message.state === "scheduled" ? (position ? "fallback" : "tried first") : message.state === "in_progress" ? "fallback, if needed" : "fallback, not needed";
    return make("div", { class: "progress" }, make("span", {}, words), lifetime(message.body.messages[position]));
  }
  const { status } = entry;
  const channel = message.body.messages[position].channel;
  const steps = channel === "sms" ? STEPS : [...STEPS, "SEEN"];
  const reached = failed(status) ? 3 : steps.indexOf(status);
  const track = make("span", { class: "track", "aria-hidden": "true" }, ...steps.slice(0, failed(status) ? 4 : undefined).map((_, index) => {
    if (index > reached) return make("i");
    if (index < 3) return make("i", { class: index === reached ? "on now" : "on" });
    return make("i", { class: failed(status) ? "bad" : "good" });
  }));
  const word = make("span", { class: failed(status) ? "word bad" : arrived(status) ? "word good" : "word" }, WORDS[status] || status);
  const price = entry.price_info
    ? `${entry.price_info.parts_count} part${entry.price_info.parts_count === 1 ? "" : "s"}, €${entry.price_info.total_price}` : null;
  return make("div", { class: "progress" }, track, word,
    status ? make("code", {}, status) : null,
    make("span", {}, time(new Date(`${entry.timestamp}Z`))), price ? make("span", {}, price) : null);
}

function lifetime(content) {
  if (content.ttl) return make("span", {}, `ttl ${content.ttl} s`);
  if (content.validity) return make("span", {}, `validity ${content.validity} min`);
  return null;
}

function whenPart(message) {
  if (message.state === "scheduled") {
    const date = new Date(message.time_to_send);
    return make("div", { class: "when" }, make("span", { class: "countdown", role: "timer" }),
      make("span", {}, `${day(date)}, ${time(date)} here, ${utc(date)}`));
  }
  const date = new Date(message.cancelled_at || message.sent_at);
  const verb = message.cancelled_at ? "cancelled" : "sent";
  const planned = message.time_to_send ? new Date(message.time_to_send) : null;
  const tail = message.cancelled_at && planned ? `, was due ${local(planned)}` : "";
  return make("div", { class: "when" }, `${verb} ${local(date)}, ${utc(date)}${tail}`);
}

function postsPart(message) {
  const posts = message.posts;
  if (!posts.length) {
    return message.body.dlr_url ? make("p", {}, `Delivery reports go to ${message.body.dlr_url}`) : null;
  }
  const last = posts[posts.length - 1];
  const good = posts.filter((post) => !post.problem).length;
  const line = make("p", {}, `${good} of ${posts.length} report post${posts.length === 1 ? "" : "s"} received by ${last.url}`);
  if (last.problem) line.append(make("span", { class: "problem" }, ` ${last.status}, attempt ${last.attempt}: ${last.problem}`));
  return line;
}

function fill(card) {
  const { message, node } = card;
  const contents = message.body.messages;
  const current = Math.max(0, message.statuses.length - 1);
  const picked = card.picked ?? current;
  const focus = node.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  node.className = `card ${message.state}${message.omnimessage_id === aimed ? " aim" : ""}`;
  const route = make("div", { class: "route", role: "group", "aria-label": "Channels" });
  contents.forEach((content, position) => {
    if (position) route.append(make("span", { class: "then", "aria-hidden": "true" }, "then"));
    const entry = message.statuses[position];
    const tried = entry && message.state !== "scheduled";
    route.append(make("button", {
      type: "button", class: `channel ${content.channel}`, "aria-pressed": String(position === picked), "data-key": `channel-${position}`,
      onclick: () => { card.picked = position; fill(card); },
    }, make("i", { "aria-hidden": "true" }), CHANNELS[content.channel],
    tried ? make("span", { "aria-label": WORDS[entry.status] }, mark(entry.status)) : null));
  });
  const content = contents[picked];
  const sender = content.sender ? `from ${content.sender}` : null;
  const flags = [sender, message.body.priority ? `priority ${message.body.priority}` : null, message.body.text_store ? `text store ${message.body.text_store}` : null].filter(Boolean);
  node.replaceChildren(
    make("div", { class: "top" }, make("span", { class: "to" }, message.to),
      make("span", { class: `pill ${message.state}` }, STATES[message.state])),
    whenPart(message), route,
    make("div", { class: `bubble ${content.channel}` }, ...PARTS[content.channel](content).filter(Boolean)),
    progress(message, picked),
    make("div", { class: "under" },
      ...message.notes.map((note) => make("p", { class: "note" }, note)), postsPart(message),
      flags.length ? make("p", {}, flags.join(", ")) : null,
      make("a", { class: "mono", href: `#${message.omnimessage_id}`, "data-key": "anchor", title: "Link to this message" }, message.omnimessage_id)));
  card.countdown = node.querySelector(".countdown");
  card.haystack = null;
  if (focus) node.querySelector(`[data-key="${focus}"]`)?.focus();
}

function take(message, fresh) {
  let card = cards.get(message.omnimessage_id);
  if (card && card.message.revision >= message.revision) return;
  if (!card) {
    const node = make("article", { id: message.omnimessage_id, "aria-label": `Message to ${message.to}` });
    card = { item: make("li", {}, node), node };
    cards.set(message.omnimessage_id, card);
  }
  const moved = card.message && card.message.state === "scheduled" && message.state !== "scheduled";
  const arrives = fresh && (!card.message || moved);
  card.message = message;
  fill(card);
  if (arrives) card.node.classList.add("new");
}

// --- the board

const isScheduled = (message) => message.state === "scheduled";
const doneAt = (message) => message.cancelled_at || message.sent_at || "";

function matches(card) {
  const { message } = card;
  const group = filter === "all" || message.state === filter || (filter === "delivered" && message.state === "seen");
  if (!group) return false;
  if (!wanted) return true;
  card.haystack ??= `${message.omnimessage_id} ${JSON.stringify(message.body)}`.toLowerCase();
  return card.haystack.includes(wanted);
}

function order(target, entries) {
  let next = target.firstElementChild;
  for (const card of entries) {
    if (card.item === next) next = next.nextElementSibling;
    else target.insertBefore(card.item, next);
  }
  while (next) {
    const gone = next;
    next = next.nextElementSibling;
    gone.remove();
  }
}

function arrange() {
  if (cards.size > SHOWN_AT_MOST) {
    const oldest = [...cards.entries()].filter(([id]) => id !== aimed).sort((a, b) => a[1].message.revision - b[1].message.revision);
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
  // A card that moves between the columns keeps the keyboard's place.
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
  const nothing = wanted || !both ? "No message matches." : null;
  byId("scheduled-nothing").hidden = waiting.length > 0;
  byId("done-nothing").hidden = done.length > 0;
  if (nothing) byId("done-nothing").textContent = byId("scheduled-nothing").textContent = nothing;
  else {
    byId("done-nothing").textContent = "Nothing has been sent yet.";
    byId("scheduled-nothing").replaceChildren("Nothing is waiting. A message with ", make("code", {}, "time_to_send"), " counts down here.");
  }
  const hidden = overview ? overview.messages - cards.size : 0;
  byId("more").hidden = hidden <= 0;
  byId("more").textContent = `These are the ${cards.size.toLocaleString()} that changed last, of ${overview?.messages.toLocaleString()}.`;
  tick();
}

const GROUPS = [["all", "All"], ["scheduled", "Scheduled"], ["in_progress", "In progress"], ["delivered", "Delivered"], ["failed", "Failed"], ["cancelled", "Cancelled"]];

function countOf(group) {
  if (!overview) return 0;
  if (group === "all") return overview.messages;
  return overview.states[group] + (group === "delivered" ? overview.states.seen : 0);
}

function buildFilters() {
  byId("filters").append(...GROUPS.map(([group, label]) =>
    make("button", { type: "button", "aria-pressed": String(group === filter), "data-group": group,
      onclick: () => { filter = group; refreshFilters(); arrange(); } }, label, make("b", {}, "0"))));
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
  const away = Math.round((now - Date.now()) / 1000);
  byId("clock-local").textContent = time(date);
  byId("clock-utc").textContent = utc(date);
  const moved = Math.abs(away) >= 2 ? `${roughly(Math.abs(away))} ${away > 0 ? "ahead of" : "behind"} real time` : "";
  const shifted = sameDay(date, new Date()) ? moved : `${day(date)}, ${moved}`;
  byId("clock-shift").textContent = [clock.frozen ? "frozen" : "", shifted].filter(Boolean).join(", ");
  for (const card of cards.values()) {
    if (!card.countdown || !card.item.isConnected) continue;
    const left = Date.parse(card.message.time_to_send) - now;
    card.countdown.textContent = left > 0 ? `in ${span(left)}` : "going out";
    card.countdown.classList.toggle("soon", left < 60000 && !clock.frozen);
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

// --- news

async function catchUp() {
  if (fetching) { again = true; return; }
  fetching = true;
  try {
    do {
      again = false;
      const upTo = overview.revision;
      const first = known === 0;
      if (upTo > known) {
        const answer = await fetch(`/sandbox/messages?changed_after=${known}&limit=${SHOWN_AT_MOST}`);
        const messages = await answer.json();
        for (const message of messages.reverse()) take(message, !first && messages.length < 50);
        known = Math.max(upTo, ...messages.slice(-1).map((message) => message.revision));
      }
      arrange();
      if (first && overview.messages) await aim();
    } while (again);
  } catch {
    known = 0; // the next event asks for everything again
  } finally {
    fetching = false;
  }
}

function hear(news) {
  if (news.run !== run) {
    run = news.run;
    known = 0;
    for (const card of cards.values()) card.item.remove();
    cards.clear();
  }
  overview = news;
  clock = { base: Date.parse(news.clock.now), at: performance.now(), frozen: news.clock.frozen };
  showClock();
  refreshFilters();
  byId("traffic").textContent = `${news.requests.toLocaleString()} API call${news.requests === 1 ? "" : "s"} so far`
    + (news.faults ? `, ${news.faults} fault${news.faults === 1 ? "" : "s"} ordered` : "");
  document.title = news.states.scheduled ? `(${news.states.scheduled}) Omnimessage sandbox` : "Omnimessage sandbox";
  catchUp();
}

function follow() {
  const source = new EventSource("/sandbox/events");
  const status = byId("link");
  source.addEventListener("open", () => {
    status.className = "live";
    status.textContent = "Live. Nothing leaves this machine.";
  });
  source.addEventListener("error", () => {
    status.className = "lost";
    status.textContent = "Not connected, trying again";
    if (source.readyState === EventSource.CLOSED) setTimeout(follow, 2000);
  });
  source.addEventListener("message", (event) => hear(JSON.parse(event.data)));
}

async function aim() {
  const id = decodeURIComponent(location.hash.slice(1));
  for (const node of document.querySelectorAll(".aim")) node.classList.remove("aim");
  aimed = /^[0-9a-f-]{36}$/.test(id) ? id : null;
  if (!aimed) return;
  if (!cards.has(id)) {
    const answer = await fetch(`/sandbox/messages/${id}`);
    if (!answer.ok) return;
    take(await answer.json(), false);
  }
  filter = "all";
  wanted = byId("search").value = "";
  refreshFilters();
  arrange();
  const { node } = cards.get(id);
  node.classList.add("aim");
  node.tabIndex = -1;
  node.focus({ preventScroll: true });
  node.scrollIntoView({ block: "center" });
}

// --- the first visit

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

async function introduce() {
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
byId("search").addEventListener("input", (event) => { wanted = event.target.value.trim().toLowerCase(); arrange(); });
byId("copy").addEventListener("click", () => copy(byId("copy"), byId("export")));
byId("copy-curl").addEventListener("click", () => copy(byId("copy-curl"), byId("curl")));
for (const button of document.querySelectorAll("[data-advance]")) {
  button.addEventListener("click", () => moveClock({ advance: Number(button.dataset.advance) }));
}
byId("to-next").addEventListener("click", () => moveClock({ to_next_message: true }));
byId("freeze").addEventListener("click", () => moveClock({ frozen: !overview?.clock.frozen }));
window.addEventListener("hashchange", aim);
setInterval(tick, 500);
introduce();
follow();
