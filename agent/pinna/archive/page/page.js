// The archive's page: choose a source and a day, play, cut, download, and see what is missing and why.

import { $, about, ask, length, moment, size } from "./common.js";
import { redraw, showDays } from "./days.js";
import { current, open, update } from "./wave.js";

const REFRESH_MS = 5000;
const DAYS_MS = 60000;
let next = null;
let shown = 0;
let known = "";
let sources = [];
let daysShown = 0;

function query(extra = {}) {
  const words = new URLSearchParams({ source: $("source").value, day: $("day").value, ...extra });
  return words.toString();
}

function choose(select, names, all) {
  const before = select.value;
  select.replaceChildren(new Option(all, ""), ...names.map((name) => new Option(name, name)));
  select.value = names.includes(before) ? before : "";
}

const chosen = () => sources.filter((source) => !$("source").value || source.name === $("source").value);

function days() {
  return [...new Set(chosen().flatMap((source) => source.days.map((day) => day.day)))].sort().reverse();
}

async function showSources() {
  const found = await ask("api/sources");
  sources = found.sources;
  choose($("source"), sources.map((source) => source.name), "All sources");
  choose($("day"), days(), "All days");
  const live = sources.filter((source) => source.recording).length;
  const still = found.reading ? ", still reading the archive" : "";
  $("summary").textContent = (live ? `${live} recording` : "Nothing is being recorded") + still;
}

async function showStorage() {
  const room = await ask("api/storage");
  $("bar").value = 1 - room.free_bytes / room.total_bytes;
  $("room").textContent = `${size(room.archive_bytes)} recorded, ${size(room.free_bytes)} free`;
}

async function showLines(anew) {
  if (!anew && Date.now() - daysShown < DAYS_MS) return;
  daysShown = Date.now();
  const names = chosen().map((source) => source.name);
  await showDays(names, $("day").value || days()[0], async (source, day, at) => {
    const words = new URLSearchParams({ source, day, before: at, limit: 1 });
    const [file] = (await ask(`api/files?${words}`)).files;
    if (file) await start(file, Math.min(at - file.at, file.duration ?? 0));
  });
}

async function start(file, at) {
  const opened = open(file, at);
  mark();
  await opened;
}

function mark() {
  for (const item of document.querySelectorAll(".file")) {
    if (item.dataset.key === current()) item.setAttribute("aria-current", "true");
    else item.removeAttribute("aria-current");
  }
}

function row(file) {
  const item = $("file").content.cloneNode(true).firstElementChild;
  const button = item.querySelector(".play");
  button.textContent = moment(file);
  button.setAttribute("aria-label", `Play ${file.source} ${button.textContent}`);
  button.addEventListener("click", () => start(item.file, 0));
  item.querySelector(".get").href = `download/${file.path}`;
  item.dataset.key = file.path;
  return { at: file.at, item: fill(item, file) };
}

/** What changes while a file grows. */
function fill(item, file) {
  item.file = file;
  const facts = [file.source, length(file.duration), size(file.bytes), file.title].filter(Boolean);
  item.querySelector(".facts").textContent = facts.join(" · ");
  item.querySelector(".rec").hidden = !file.recording;
  item.querySelector(".cut-off").hidden = !file.unfinished;
  return item;
}

function gapRow(gap) {
  const item = $("gap").content.cloneNode(true).firstElementChild;
  const when = (gap.time ?? "").slice(0, 19).replace("T", " ");
  item.querySelector(".what").textContent = `${gap.estimated ? "about " : ""}${about(gap.seconds ?? 0)} missing`;
  item.querySelector(".why").textContent = `${gap.source} · ${when} UTC · ${gap.reason}: ${gap.detail ?? ""}`;
  item.dataset.key = JSON.stringify(gap);
  return { at: Date.parse(gap.time) / 1000 || 0, item };
}

async function list(older) {
  const [{ files, next: further }, { gaps }] = await Promise.all([
    ask(`api/files?${query(older ? { before: next } : {})}`),
    ask(`api/gaps?${query()}`),
  ]);
  for (const file of older ? [] : files) await update(file);
  const fresh = JSON.stringify([files, gaps]);
  if (!older && (fresh === known || shown > files.length)) return; // nothing new, or somebody reads further down
  known = older ? known : fresh;
  const oldest = further === null ? -Infinity : files.at(-1).at;
  const newest = older ? next : Infinity;
  const rows = [...files.map(row), ...gaps.map(gapRow).filter((gap) => gap.at >= oldest && gap.at < newest)];
  rows.sort((a, b) => b.at - a.at);
  const items = rows.map((one) => one.item);
  if (older) $("list").append(...items);
  else replace(items);
  mark();
  shown = older ? shown + files.length : files.length;
  next = further;
  $("more").hidden = next === null;
  $("none").hidden = shown > 0;
}

/** Where only figures have changed the rows stay, and with them the focus of whoever goes by keys. */
function replace(items) {
  const there = [...$("list").children];
  const same = there.length === items.length && there.every((item, k) => item.dataset.key === items[k].dataset.key);
  if (!same) $("list").replaceChildren(...items);
  else items.forEach((item, k) => item.file && fill(there[k], item.file));
}

async function all(anew) {
  try {
    if (anew) [known, shown] = ["", 0];
    await showSources();
    await Promise.all([showStorage(), list(false), showLines(anew)]);
    $("lost").hidden = true;
  } catch (error) {
    $("lost").textContent = `The archive does not answer (${error.message}). Trying again.`;
    $("lost").hidden = false;
  }
}

$("source").addEventListener("change", () => all(true));
$("day").addEventListener("change", () => all(true));
$("more").addEventListener("click", () => list(true));
$("choice").addEventListener("submit", (event) => event.preventDefault());
window.addEventListener("resize", redraw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
await all(true);
setInterval(() => document.hidden || all(false), REFRESH_MS);
