// A day of each source in a line: how loud it was when, and in red what is missing. A tap plays from there.

import { $, ask, colour, paper, tall } from "./common.js";

const HOUR = 3600;
const MOST = 8;
let strips = [];

/** The hours in which anything was recorded or missed, in seconds after midnight. */
function range(day) {
  const known = day.rms.flatMap((level, k) => (level === null ? [] : [k * day.seconds_each]));
  const missed = day.gaps.flatMap((gap) => [gap.at - day.start, gap.at - day.start + gap.seconds]);
  const all = [...known, ...missed].filter((at) => at >= 0 && at < day.rms.length * day.seconds_each);
  if (!all.length) return { from: 0, to: 24 * HOUR };
  const from = Math.floor(Math.min(...all) / HOUR) * HOUR;
  return { from, to: Math.max(from + HOUR, Math.ceil((Math.max(...all) + 1) / HOUR) * HOUR) };
}

function draw({ canvas, day, from, to }) {
  const { pen, width, height } = paper(canvas);
  const ground = height - 14;
  const x = (at) => ((at - from) / (to - from)) * width;
  const bar = Math.ceil(x(from + day.seconds_each));
  for (const [levels, name] of [[day.high, "faint"], [day.rms, "accent"]]) {
    pen.fillStyle = colour(name);
    levels.forEach((level, k) => {
      const tallness = level === null ? 0 : Math.max(1, tall(level) * ground);
      pen.fillRect(Math.floor(x(k * day.seconds_each)), ground - tallness, bar, tallness);
    });
  }
  pen.fillStyle = colour("fault");
  for (const gap of day.gaps) {
    const [begin, end] = [x(gap.at - day.start), x(gap.at - day.start + gap.seconds)];
    pen.fillRect(Math.floor(begin), 0, Math.max(2, Math.ceil(end - begin)), ground);
  }
  pen.fillStyle = colour("soft");
  pen.font = "11px system-ui, sans-serif";
  const step = [0.25, 0.5, 1, 2, 3, 6].find((hours) => ((to - from) / HOUR / hours) * 56 <= width) * HOUR;
  for (let at = from; at < to; at += step) {
    const label = `${String(Math.floor(at / HOUR)).padStart(2, "0")}:${String(Math.round((at % HOUR) / 60)).padStart(2, "0")}`;
    pen.fillRect(x(at), ground, 1, 4);
    pen.fillText(label, x(at) + 3, height - 2);
  }
}

async function strip(source, date, open) {
  const words = new URLSearchParams({ source, day: date });
  const day = await ask(`api/overview?${words}`);
  if (day.start === null) return null;
  const figure = $("strip").content.cloneNode(true).firstElementChild;
  const canvas = figure.querySelector("canvas");
  figure.querySelector("figcaption").textContent = source;
  const lost = day.gaps.length === 1 ? "1 gap" : `${day.gaps.length} gaps`;
  canvas.setAttribute("aria-label", `${source}, ${date}: loudness, ${lost}`);
  const drawn = { canvas, figure, day, ...range(day) };
  canvas.addEventListener("click", async (event) => {
    const at = drawn.from + (event.offsetX / canvas.clientWidth) * (drawn.to - drawn.from);
    await open(source, date, day.start + at);
  });
  return drawn;
}

/** Of these sources; `open(source, day, at)` is called for a tap, with a Unix time. */
export async function showDays(sources, date, open) {
  const made = date ? await Promise.all(sources.slice(0, MOST).map((source) => strip(source, date, open))) : [];
  strips = made.filter(Boolean);
  $("days").replaceChildren(...strips.map((one) => one.figure));
  $("days").hidden = strips.length === 0;
  strips.forEach(draw);
}

export const redraw = () => strips.forEach(draw);
