// The player: a waveform to see, seek in and cut from; also of a file that still grows.

import { $, about, ask, colour, length, moment, paper, tall } from "./common.js";

const SKIP = 5;
const DRAG_PIXELS = 6;
const MOST_CLIP_SECONDS = 600;
const audio = $("audio");
const canvas = $("wave");

let file = null;
let peaks = null;
let loaded = 0; // seconds that the player knows of; the file may have grown since
let chosen = null; // [start, end] of the clip
let sections = [];
let held = null; // where the pointer went down, in seconds and pixels
let turn = 0; // answers that come after another file was chosen are for nobody

export const current = () => file?.path;

const duration = () => file.duration ?? (Number.isFinite(audio.duration) ? audio.duration : 0);
const fraction = (seconds) => (duration() ? seconds / duration() : 0);
const within = (seconds) => Math.min(Math.max(seconds, 0), duration());

/** While a file grows the player gets it as it is now; of that, every piece stays what it was. */
function address() {
  const state = new URLSearchParams({ bytes: file.bytes });
  if (file.samples !== null) state.set("samples", file.samples);
  return `stream/${file.path}${file.recording || file.unfinished ? `?${state}` : ""}`;
}

function load(at, play) {
  loaded = duration();
  audio.src = address();
  audio.currentTime = at;
  if (play) audio.play().catch((error) => tell(error.message));
}

function tell(trouble) {
  $("trouble").textContent = trouble;
  $("trouble").hidden = !trouble;
}

export async function open(chosenFile, at = 0) {
  [file, peaks, chosen, sections] = [chosenFile, null, null, []];
  $("player").hidden = false;
  $("playing").textContent = `${file.source}, ${moment(file)}`;
  $("sections").replaceChildren();
  tell("");
  load(at, true);
  draw();
  await fetchPeaks();
}

/** The same file as the server describes it now. */
export async function update(fresh) {
  if (!file || fresh.path !== file.path || fresh.bytes === file.bytes) return;
  file = fresh;
  goOn();
  await fetchPeaks();
}

async function fetchPeaks() {
  const mine = ++turn;
  const found = await ask(`api/peaks?${new URLSearchParams({ file: file.path })}`);
  if (mine !== turn) return;
  peaks = found;
  const growing = file.recording ? "It is drawn when the file is finished." : "There is none.";
  $("undrawn").textContent = `No waveform. ${growing}`;
  $("undrawn").hidden = peaks.drawn;
  draw();
}

function seek(seconds) {
  const at = within(seconds);
  if (at > loaded - 0.5 && duration() > loaded + 0.5) load(at, !audio.paused);
  else audio.currentTime = at;
  draw();
}

/** Whoever has heard a growing file to its end hears what has come since. */
function goOn() {
  if (audio.ended && duration() > loaded + 0.5) load(loaded, true);
}

audio.addEventListener("ended", async () => {
  if (!file.recording) return;
  const words = new URLSearchParams({ source: file.source, day: file.day, before: file.at + 0.001, limit: 1 });
  const [fresh] = (await ask(`api/files?${words}`)).files;
  if (fresh) await update(fresh);
  goOn();
});

// Drawing

function draw() {
  if (!file || $("player").hidden) return;
  const { pen, width, height } = paper(canvas);
  const middle = height / 2;
  const bars = peaks?.drawn ? peaks.low.length : 0;
  const bar = bars ? (fraction(peaks.seconds_each) || 1 / bars) * width : 0;
  pen.fillStyle = colour("faint");
  for (let k = 0; k < bars; k++) {
    const [up, down] = [tall(peaks.high[k]) * middle, tall(-peaks.low[k]) * middle];
    pen.fillRect(Math.floor(k * bar), middle - up, Math.ceil(bar), up + down);
  }
  pen.fillStyle = colour("accent");
  for (let k = 0; k < bars; k++) {
    const loud = Math.max(0.5, tall(peaks.rms[k]) * middle);
    pen.fillRect(Math.floor(k * bar), middle - loud, Math.ceil(bar), 2 * loud);
  }
  pen.fillStyle = colour("loud");
  for (const section of sections) {
    const begin = fraction(section.start) * width;
    pen.fillRect(begin, height - 4, Math.max(2, fraction(section.end) * width - begin), 4);
  }
  pen.fillStyle = colour("fault");
  for (const gap of peaks?.gaps ?? []) pen.fillRect(fraction(gap.at) * width - 1, 0, 3, height);
  if (chosen) {
    pen.fillStyle = colour("chosen");
    const begin = fraction(chosen[0]) * width;
    pen.fillRect(begin, 0, Math.max(1, fraction(chosen[1]) * width - begin), height);
  }
  pen.fillStyle = colour("ink");
  pen.fillRect(fraction(audio.currentTime) * width - 1, 0, 2, height);
  describe();
}

function describe() {
  canvas.setAttribute("aria-valuemax", String(Math.round(duration())));
  canvas.setAttribute("aria-valuenow", String(Math.round(audio.currentTime)));
  canvas.setAttribute("aria-valuetext", `${length(audio.currentTime)} of ${length(duration())}`);
  $("place").textContent = `${length(audio.currentTime)} of ${length(duration())}`;
  $("live").hidden = !file.recording;
  $("cut").hidden = !chosen;
  if (!chosen) return;
  const [start, end] = chosen;
  $("span").textContent = `${length(start)} to ${length(end)}, ${about(end - start)}`;
  const words = new URLSearchParams({ file: file.path, start: start.toFixed(3), end: end.toFixed(3) });
  $("clip").href = `api/clip?${words}`;
}

for (const event of ["timeupdate", "seeked", "loadedmetadata"]) audio.addEventListener(event, draw);
audio.addEventListener("error", () => file && tell("This browser cannot play it. Download it instead."));
new ResizeObserver(draw).observe(canvas);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);

// Pointing and keys

const pointed = (event) => within((event.offsetX / canvas.clientWidth) * duration());

canvas.addEventListener("pointerdown", (event) => {
  canvas.setPointerCapture(event.pointerId);
  held = { at: pointed(event), x: event.offsetX, moved: false };
});
canvas.addEventListener("pointermove", (event) => {
  if (!held) return;
  held.moved ||= Math.abs(event.offsetX - held.x) > DRAG_PIXELS;
  if (held.moved) choose(held.at, pointed(event));
});
canvas.addEventListener("pointerup", () => {
  if (held && !held.moved) seek(held.at);
  held = null;
});
canvas.addEventListener("pointercancel", () => (held = null));

function choose(from, to) {
  const reach = from + Math.min(Math.max(to - from, -MOST_CLIP_SECONDS), MOST_CLIP_SECONDS);
  chosen = [Math.min(from, reach), Math.max(from, reach)];
  draw();
}

canvas.addEventListener("keydown", (event) => {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (event.key === "Escape") clear();
  else if (step && event.shiftKey) {
    const [start, end] = chosen ?? [audio.currentTime, audio.currentTime];
    choose(start, within(Math.max(end + step, start)));
  } else if (step) seek(audio.currentTime + step * SKIP);
  else return;
  event.preventDefault();
});

function clear() {
  chosen = null;
  draw();
}

$("uncut").addEventListener("click", clear);

// Loud sections

$("loud").addEventListener("click", async () => {
  const mine = file.path;
  try {
    const found = await ask(`api/analyze?${new URLSearchParams({ file: mine })}`);
    if (mine !== file.path) return;
    sections = found.sections;
    tell(sections.length ? "" : `Nothing is 12 dB above the noise floor (${found.noise_floor_db} dBFS).`);
  } catch (error) {
    tell(error.message);
  }
  $("sections").replaceChildren(
    ...sections.map((section) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = `${length(section.start)}, ${about(section.end - section.start)}, ${section.level_db} dBFS`;
      button.addEventListener("click", () => {
        choose(section.start, section.end);
        seek(section.start);
      });
      const item = document.createElement("li");
      item.append(button);
      return item;
    }),
  );
  draw();
});
