// Shows one message as a card: recipient, time, channels, content and what has happened to it.

import { contentOf } from "/assets/contents.js";
import { make } from "/assets/dom.js";
import { day, local, timeOfDay, utc } from "/assets/times.js";

const CHANNELS = { sms: "SMS", viber: "Viber", whatsapp: "WhatsApp", rcs: "RCS" };
const STATES = {
  scheduled: "Scheduled", in_progress: "In progress", delivered: "Delivered", seen: "Seen", failed: "Failed", unknown: "Unknown",
  cancelled: "Cancelled",
};
const STATUSES = {
  null: "trying", ACK: "acknowledged", ACCEPTD: "accepted", DELIVRD: "delivered", SEEN: "seen", UNDELIV: "not delivered",
  EXPIRED: "expired", REJECTD: "rejected", FAILED: "failed", NACK: "not acknowledged", UNKNOWN: "outcome unknown", DELETED: "cancelled",
};
const STEPS = [null, "ACK", "ACCEPTD", "DELIVRD"];

const isFailed = (status) => ["UNDELIV", "EXPIRED", "REJECTD", "FAILED", "NACK"].includes(status);
const isDelivered = (status) => ["DELIVRD", "SEEN"].includes(status);

function mark(status) {
  if (status === "SEEN") return "✓✓";
  if (status === "DELIVRD") return "✓";
  if (isFailed(status)) return "✕";
  if (status === "UNKNOWN") return "?";
  return status === "DELETED" ? "–" : "…";
}

function untriedText(message, position) {
  if (message.state === "cancelled") return "never sent";
  if (message.state === "scheduled") return position ? "fallback" : "tried first";
  return message.state === "in_progress" ? "fallback, if needed" : "fallback, not needed";
}

function progress(message, position) {
  const entry = message.statuses[position];
  if (!entry || message.state === "scheduled" || message.state === "cancelled") {
    return make("div", { class: "progress" }, make("span", {}, untriedText(message, position)), lifetime(message.body.messages[position]));
  }
  const { status } = entry;
  const channel = message.body.messages[position].channel;
  const steps = channel === "sms" ? STEPS : [...STEPS, "SEEN"];
  const ended = isFailed(status) || status === "UNKNOWN";
  const reached = ended ? 3 : steps.indexOf(status);
  const track = make("span", { class: "track", "aria-hidden": "true" }, ...steps.slice(0, ended ? 4 : undefined).map((_, index) => {
    if (index > reached) return make("i");
    if (index < 3) return make("i", { class: index === reached ? "on now" : "on" });
    if (status === "UNKNOWN") return make("i", { class: "open" });
    return make("i", { class: isFailed(status) ? "bad" : "good" });
  }));
  const word = make("span", { class: isFailed(status) ? "word bad" : isDelivered(status) ? "word good" : "word" }, STATUSES[status] || status);
  const price = entry.price_info
    ? `${entry.price_info.parts_count} part${entry.price_info.parts_count === 1 ? "" : "s"}, €${entry.price_info.total_price}` : null;
  return make("div", { class: "progress" }, track, word,
    status ? make("code", {}, status) : null, entry.error ? make("span", { class: "bad" }, `${entry.err}: ${entry.error}`) : null,
    make("span", {}, timeOfDay(new Date(`${entry.timestamp}Z`))), price ? make("span", {}, price) : null);
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
      make("span", {}, `${day(date)}, ${timeOfDay(date)} here, ${utc(date)}`));
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
    return message.body.dlr_url ? make("p", {}, `Delivery reports will be posted to ${message.body.dlr_url}`) : null;
  }
  const last = posts[posts.length - 1];
  const received = posts.filter((post) => !post.problem).length;
  const line = make("p", {}, `${received} of ${posts.length} report${posts.length === 1 ? "" : "s"} received by ${last.url}`);
  const shown = posts.filter((post) => post.problem || post.fault).slice(-3);
  for (const post of shown) {
    const reason = [post.fault ? `fault ${post.fault}` : null, post.problem].filter(Boolean).join(", ");
    line.append(make("span", { class: "problem" }, `${post.status}: ${reason}`));
  }
  return line;
}

export function fillCard(card) {
  const { message, node } = card;
  const contents = message.body.messages;
  const current = Math.max(0, message.statuses.length - 1);
  const picked = card.picked ?? current;
  const focus = node.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  node.className = `card ${message.state}${card.linked ? " linked" : ""}`;
  const route = make("div", { class: "route", role: "group", "aria-label": "Channels" });
  contents.forEach((content, position) => {
    if (position) route.append(make("span", { class: "then", "aria-hidden": "true" }, "then"));
    const entry = message.statuses[position];
    const tried = entry && message.state !== "scheduled";
    route.append(make("button", {
      type: "button", class: `channel ${content.channel}`, "aria-pressed": String(position === picked), "data-key": `channel-${position}`,
      onclick: () => { card.picked = position; fillCard(card); },
    }, make("i", { "aria-hidden": "true" }), CHANNELS[content.channel],
    tried ? make("span", { "aria-label": STATUSES[entry.status] }, mark(entry.status)) : null));
  });
  const content = contents[picked];
  const { priority, text_store: textStore } = message.body;
  const options = [
    content.sender ? `from ${content.sender}` : null,
    content.autoconvert ? `autoconvert ${content.autoconvert}` : null,
    priority ? `priority ${priority}` : null,
    textStore ? `text store ${textStore}` : null,
  ].filter(Boolean);
  node.replaceChildren(
    make("div", { class: "top" }, make("span", { class: "to" }, message.to),
      make("span", { class: `pill ${message.state}` }, STATES[message.state])),
    whenPart(message), route,
    make("div", { class: `bubble ${content.channel}` }, ...contentOf(content)),
    progress(message, picked),
    make("div", { class: "under" },
      ...message.notes.map((note) => make("p", { class: "note", dir: "auto" }, note)), postsPart(message),
      options.length ? make("p", {}, options.join(", ")) : null,
      make("a", { class: "mono", href: `#${message.omnimessage_id}`, "data-key": "anchor", title: "Link to this message" }, message.omnimessage_id)));
  card.countdown = node.querySelector(".countdown");
  card.searchText = null;
  if (focus) node.querySelector(`[data-key="${focus}"]`)?.focus();
}
