// The archive's page: choose a source and a day, play, download, and see what is missing and why.

const $ = (id) => document.getElementById(id);
const REFRESH_MS = 5000;
let next = null;
let shown = 0;
let known = "";

async function ask(path) {
  const answer = await fetch(path, { cache: "no-store" });
  if (!answer.ok) throw new Error(await answer.text());
  return answer.json();
}

const size = (bytes) =>
  bytes < 1e6 ? `${Math.round(bytes / 1e3)} kB` : bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(1)} GB`;

function length(seconds) {
  if (seconds === null) return "";
  const whole = Math.floor(seconds);
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return parts.map((part) => String(part).padStart(2, "0")).join(":");
}

function about(seconds) {
  if (seconds >= 90) return `${length(seconds)}`;
  return seconds >= 1 ? `${seconds.toFixed(1)} s` : `${Math.max(1, Math.round(seconds * 1000))} ms`;
}

function query(extra = {}) {
  const words = new URLSearchParams({ source: $("source").value, day: $("day").value, ...extra });
  return words.toString();
}

function choose(select, names, all) {
  const before = select.value;
  select.replaceChildren(new Option(all, ""), ...names.map((name) => new Option(name, name)));
  select.value = names.includes(before) ? before : "";
}

async function sources() {
  const { sources } = await ask("api/sources");
  choose($("source"), sources.map((source) => source.name), "All sources");
  const wanted = sources.filter((source) => !$("source").value || source.name === $("source").value);
  const days = [...new Set(wanted.flatMap((source) => source.days.map((day) => day.day)))].sort().reverse();
  choose($("day"), days, "All days");
  const live = sources.filter((source) => source.recording).length;
  $("summary").textContent = live ? `${live} recording` : "Nothing is being recorded";
}

async function storage() {
  const room = await ask("api/storage");
  $("bar").value = 1 - room.free_bytes / room.total_bytes;
  $("room").textContent = `${size(room.archive_bytes)} recorded, ${size(room.free_bytes)} free`;
}

function row(file) {
  const item = $("file").content.cloneNode(true).firstElementChild;
  const when = file.name.match(/_(\d{4}-\d{2}-\d{2})T(\d{2})-(\d{2})-(\d{2})/);
  const button = item.querySelector(".play");
  button.textContent = when ? `${when[1]} ${when[2]}:${when[3]}:${when[4]}` : file.name;
  button.setAttribute("aria-label", `Play ${file.source} ${button.textContent}`);
  button.addEventListener("click", () => play(file, item, button.textContent));
  const facts = [file.source, length(file.duration), size(file.bytes), file.title].filter(Boolean);
  item.querySelector(".facts").textContent = facts.join(" · ");
  item.querySelector(".rec").hidden = !file.recording;
  item.querySelector(".get").href = `download/${file.path}`;
  return { at: file.at, item };
}

function gapRow(gap) {
  const item = $("gap").content.cloneNode(true).firstElementChild;
  const when = (gap.time ?? "").slice(0, 19).replace("T", " ");
  item.querySelector(".what").textContent = `${gap.estimated ? "about " : ""}${about(gap.seconds ?? 0)} missing`;
  item.querySelector(".why").textContent = `${gap.source} · ${when} UTC · ${gap.reason}: ${gap.detail ?? ""}`;
  return { at: Date.parse(gap.time) / 1000 || 0, item };
}

function play(file, item, when) {
  for (const other of document.querySelectorAll(".file")) other.removeAttribute("aria-current");
  item.setAttribute("aria-current", "true");
  $("player").hidden = false;
  $("playing").textContent = `${file.source}, ${when}`;
  $("audio").src = `stream/${file.path}`;
  $("audio").play().catch((error) => ($("playing").textContent = `${file.source}, ${when}: ${error.message}`));
}

async function list(older) {
  const [{ files, next: further }, { gaps }] = await Promise.all([
    ask(`api/files?${query(older ? { before: next } : {})}`),
    ask(`api/gaps?${query()}`),
  ]);
  const fresh = JSON.stringify([files, gaps]);
  if (!older && (fresh === known || shown > files.length)) return; // nothing new, or somebody reads further down
  known = older ? known : fresh;
  const oldest = further === null ? -Infinity : files.at(-1).at;
  const newest = older ? next : Infinity;
  const rows = [...files.map(row), ...gaps.map(gapRow).filter((gap) => gap.at >= oldest && gap.at < newest)];
  rows.sort((a, b) => b.at - a.at);
  const items = rows.map((one) => one.item);
  if (older) $("list").append(...items);
  else $("list").replaceChildren(...items);
  shown = older ? shown + files.length : files.length;
  next = further;
  $("more").hidden = next === null;
  $("none").hidden = shown > 0;
}

async function all(anew) {
  try {
    if (anew) [known, shown] = ["", 0];
    await sources();
    await Promise.all([storage(), list(false)]);
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
await all(true);
setInterval(() => document.hidden || all(false), REFRESH_MS);
