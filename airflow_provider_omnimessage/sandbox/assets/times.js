// The sandbox's clock as the page knows it, and how times are shown.

let clock = { base: Date.now(), at: performance.now(), frozen: false };

export function setClock({ now, frozen }) {
  clock = { base: Date.parse(now), at: performance.now(), frozen };
}

export const isFrozen = () => clock.frozen;

export function sandboxNow() {
  return clock.frozen ? clock.base : clock.base + (performance.now() - clock.at);
}

export const twoDigits = (number) => String(number).padStart(2, "0");

export const timeOfDay = (date) => [date.getHours(), date.getMinutes(), date.getSeconds()].map(twoDigits).join(":");

export const isSameDay = (a, b) => a.toDateString() === b.toDateString();

export function day(date) {
  const options = { weekday: "short", day: "numeric", month: "short" };
  if (date.getFullYear() !== new Date(sandboxNow()).getFullYear()) options.year = "numeric";
  return date.toLocaleDateString(undefined, options);
}

export function local(date) {
  return isSameDay(date, new Date(sandboxNow())) ? timeOfDay(date) : `${day(date)}, ${timeOfDay(date)}`;
}

export function utc(date) {
  const time = `${date.toISOString().slice(11, 19)} UTC`;
  const dateInUtc = date.toISOString().slice(0, 10);
  const dateHere = [date.getFullYear(), date.getMonth() + 1, date.getDate()].map(twoDigits).join("-");
  return dateInUtc === dateHere ? time : `${dateInUtc} ${time}`;
}

export function countdown(milliseconds) {
  const seconds = Math.max(0, Math.ceil(milliseconds / 1000));
  const days = Math.floor(seconds / 86400);
  const rest = [Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60, seconds % 60].map(twoDigits).join(":");
  return days ? `${days} d ${rest}` : rest;
}

export function roughly(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 360) / 10} h`;
  return `${Math.round(seconds / 8640) / 10} days`;
}
