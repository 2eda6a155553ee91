// What all parts of the page use: asking the server, and saying sizes and times.

export const $ = (id) => document.getElementById(id);

export async function ask(path) {
  const answer = await fetch(path, { cache: "no-store" });
  if (!answer.ok) throw new Error(await answer.text());
  return answer.json();
}

export const size = (bytes) =>
  bytes < 1e6 ? `${Math.round(bytes / 1e3)} kB` : bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(1)} GB`;

export function length(seconds) {
  if (seconds === null) return "";
  const whole = Math.floor(seconds);
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return parts.map((part) => String(part).padStart(2, "0")).join(":");
}

export function about(seconds) {
  if (seconds >= 90) return length(seconds);
  return seconds >= 1 ? `${seconds.toFixed(1)} s` : `${Math.max(1, Math.round(seconds * 1000))} ms`;
}

/** The moment that a file's name tells, of the clock on the recorder's wall. */
export function moment(file) {
  const when = file.name.match(/_(\d{4}-\d{2}-\d{2})T(\d{2})-(\d{2})-(\d{2})/);
  return when ? `${when[1]} ${when[2]}:${when[3]}:${when[4]}` : file.name;
}

export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

/** A canvas as sharp as the screen, empty; drawn on in CSS pixels. */
export function paper(canvas) {
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  return { pen, width, height };
}

const FAINTEST_DB = -70;

/** 0 to 1 for a 16-bit level, in decibels: what a microphone hears across a room would not show otherwise. */
export function tall(level) {
  return level > 0 ? Math.max(0, 1 - (20 * Math.log10(level / 32768)) / FAINTEST_DB) : 0;
}
