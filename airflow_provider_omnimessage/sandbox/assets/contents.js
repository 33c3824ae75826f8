// Shows the content of a message, one function per channel.

import { list, make } from "/assets/dom.js";
import { twoDigits } from "/assets/times.js";

function textPart(text) {
  const long = text.length > 600 || text.split("\n").length > 10;
  const node = make("p", { class: long ? "text folded" : "text", dir: "auto" }, text);
  if (!long) return [node];
  const toggle = make("button", { type: "button", class: "unfold", "aria-expanded": "false" }, "Show all");
  toggle.addEventListener("click", () => {
    const folded = node.classList.toggle("folded");
    toggle.textContent = folded ? "Show all" : "Show less";
    toggle.setAttribute("aria-expanded", String(!folded));
  });
  return [node, toggle];
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

function definitions(pairs) {
  const rows = pairs.flatMap(([key, value]) => [make("dt", {}, key), make("dd", { dir: "auto" }, value)]);
  return rows.length ? make("dl", {}, ...rows) : null;
}

function templatePart(name, language, pairs) {
  return make("div", { class: "template" },
    make("span", { class: "quiet" }, `Template, ${language || "no language"}`), make("span", { class: "name" }, name || ""), definitions(pairs));
}

function viberParts(message) {
  const parts = [];
  if (message.image_url) parts.push(mediaPart("🖼", "Image", message.image_url));
  if (message.video) {
    const { duration, file_size: size, url } = message.video;
    parts.push(mediaPart("▶", `Video, ${Math.floor(duration / 60)}:${twoDigits(duration % 60)}, ${(size / 1048576).toFixed(1)} MB`, url));
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

export const contentOf = (message) => PARTS[message.channel](message).filter(Boolean);
