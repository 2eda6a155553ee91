// The hub's page: devices, their sound as it comes in, and a way to listen. Everything comes from /events.

const STALL_MS = 3000; // events come ten times a second
const KEEP_GONE_MS = 60000; // a device that comes back finds its place, and its listener, again
const FLOOR_DB = -60;
const HISTORY = 120; // bars, one per event: 12 s

const $ = (id) => document.getElementById(id);
const cards = new Map();
let token = sessionStorage.getItem("pinna.token") || "";

const headers = (more) => (token ? { ...more, Authorization: `Bearer ${token}` } : more);
const text = (element, value) => { if (element.textContent !== value) element.textContent = value; };
const count = (n, one, many) => `${n} ${n === 1 ? one : many}`;

function duration(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return count(Math.floor(s / 86400), "day", "days");
}

// ---- one device

class Card {
  constructor(name) {
    this.name = name;
    this.root = $("device").content.firstElementChild.cloneNode(true);
    this.part = (selector) => this.root.querySelector(selector);
    this.history = Array(HISTORY).fill({ part: 0, speech: false });
    this.peer = null;
    this.seen = performance.now();
    text(this.part(".name"), name);
    this.part(".level").setAttribute("aria-label", `Level of ${name}`);
    this.part(".listen").setAttribute("aria-label", `Listen to ${name}`);
    this.part(".listen").addEventListener("click", () => (this.peer ? this.hush() : this.listen()));
    $("devices").append(this.root);
  }

  show(device) {
    this.seen = performance.now();
    this.root.classList.remove("gone");
    this.root.classList.toggle("speaking", device.speech);
    this.part(".listen").disabled = false;
    text(this.part(".voice"), device.speech ? "speaking" : "silent");
    this.level(device.level_dbfs, device.speech);
    const heard = device.frames_received + device.lost;
    const percent = heard ? (100 * device.lost) / heard : 0;
    const delay = device.latency_ms;
    text(this.part(".delay"), delay ? `${Math.round(delay.p50)} / ${Math.round(delay.p99)} ms` : "–");
    text(this.part(".jitter"), `${device.jitter_ms.toFixed(1)} ms`);
    text(this.part(".loss"), `${device.lost} (${percent.toFixed(percent < 10 ? 1 : 0)} %)`);
    text(this.part(".recovered"), `${device.recovered}`);
    text(this.part(".concealed"), `${device.concealed}`);
    text(this.part(".since"), duration((Date.now() - Date.parse(device.connected_since)) / 1000));
  }

  gone() {
    this.root.classList.add("gone");
    this.root.classList.remove("speaking");
    this.part(".listen").disabled = !this.peer;
    text(this.part(".voice"), "gone");
    this.level(FLOOR_DB, false);
  }

  remove() {
    this.hush();
    this.root.remove();
  }

  level(db, speech) {
    const value = Math.max(FLOOR_DB, Math.min(0, Math.round(db)));
    const meter = this.part(".level");
    meter.setAttribute("aria-valuenow", value);
    meter.setAttribute("aria-valuetext", `${value} decibels`);
    meter.innerHTML = value > FLOOR_DB ? `${value < 0 ? "−" : ""}${-value} <small>dBFS</small>` : "<small>no sound</small>";
    this.history.push({ part: (1 - value / FLOOR_DB) ** 2, speech }); // squared: loud stands out from soft
    this.history.shift();
    this.draw();
  }

  draw() {
    const canvas = this.part("canvas");
    const scale = window.devicePixelRatio || 1;
    const width = Math.round(canvas.clientWidth * scale);
    const height = Math.round(canvas.clientHeight * scale);
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const style = getComputedStyle(this.root);
    const colours = { true: style.getPropertyValue("--accent"), false: style.getPropertyValue("--wave") };
    const paper = canvas.getContext("2d");
    const step = width / HISTORY;
    const bar = Math.max(1, step * 0.6);
    paper.clearRect(0, 0, width, height);
    this.history.forEach(({ part, speech }, i) => {
      const tall = Math.max(bar, part * height);
      paper.fillStyle = colours[speech];
      paper.beginPath();
      paper.roundRect(i * step, (height - tall) / 2, bar, tall, bar / 2);
      paper.fill();
    });
  }

  // ---- listening

  async listen() {
    const peer = new RTCPeerConnection();
    const audio = new Audio();
    this.peer = peer;
    this.audio = audio;
    this.fault("");
    this.button("Connecting", true);
    peer.addTransceiver("audio", { direction: "recvonly" });
    peer.addEventListener("track", (event) => {
      audio.srcObject = new MediaStream([event.track]);
      audio.play().catch((error) => this.hush(`The browser does not play it: ${error.message}`));
    });
    peer.addEventListener("connectionstatechange", () => {
      if (peer !== this.peer) return;
      if (peer.connectionState === "connected") this.button("Stop", true);
      if (["failed", "closed"].includes(peer.connectionState)) this.hush("The connection to the hub broke.");
    });
    try {
      await peer.setLocalDescription();
      const answer = await fetch(`listen/${encodeURIComponent(this.name)}`, {
        method: "POST",
        headers: headers({ "Content-Type": "application/json" }),
        body: JSON.stringify({ sdp: peer.localDescription.sdp }),
      });
      const said = await answer.text();
      if (!answer.ok) throw new Error(said.startsWith("{") ? JSON.parse(said).error : said);
      if (peer === this.peer) await peer.setRemoteDescription({ type: "answer", sdp: JSON.parse(said).sdp });
    } catch (error) {
      if (peer === this.peer) this.hush(`Listening failed: ${error.message}`);
    }
  }

  hush(why = "") {
    if (!this.peer) return;
    this.peer.close();
    this.audio.srcObject = null;
    this.peer = this.audio = null;
    this.button("Listen", false);
    this.fault(why);
  }

  button(label, pressed) {
    const button = this.part(".listen");
    text(button, label);
    button.setAttribute("aria-pressed", pressed);
    button.setAttribute("aria-label", `${label === "Listen" ? "Listen to" : label} ${this.name}`);
  }

  fault(why) {
    text(this.part(".fault"), why);
    this.part(".fault").hidden = !why;
  }
}

// ---- the hub

function show(health) {
  document.body.classList.remove("stale");
  $("lost").hidden = $("ask").hidden = true;
  for (const [name, device] of Object.entries(health.devices)) {
    if (!cards.has(name)) {
      cards.set(name, new Card(name));
      text($("news"), `${name} connected`);
    }
    cards.get(name).show(device);
  }
  for (const [name, card] of cards) {
    if (name in health.devices) continue;
    if (!card.root.classList.contains("gone")) text($("news"), `${name} disconnected`);
    card.gone();
    if (performance.now() - card.seen > KEEP_GONE_MS) {
      card.remove();
      cards.delete(name);
    }
  }
  const devices = Object.keys(health.devices).length;
  const doing = { echo: "echoing", say: "speaking", record: "recording", listen: "listening" }[health.mode];
  text($("summary"), `${count(devices, "device", "devices")}, ${doing}, up ${duration(health.uptime_secs)}`);
  text($("totals"), `${health.frames_forwarded.toLocaleString("en")} frames of speech, ${count(health.vad_ends, "utterance", "utterances")}`);
  $("empty").hidden = cards.size > 0;
}

function lost(why) {
  document.body.classList.add("stale");
  $("empty").hidden = true;
  text($("summary"), "");
  text($("lost"), `${why} Trying again.`);
  $("lost").hidden = false;
}

class TokenNeeded extends Error {}

// Server-sent events by way of fetch, for EventSource cannot send the token. Ends by throwing.
async function follow() {
  const abort = new AbortController();
  let watch = setTimeout(() => abort.abort(), STALL_MS);
  try {
    const response = await fetch("events", { headers: headers({}), signal: abort.signal, cache: "no-store" });
    if (response.status === 401) throw new TokenNeeded();
    if (!response.ok) throw new Error(await response.text());
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let waiting = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      clearTimeout(watch);
      watch = setTimeout(() => abort.abort(), STALL_MS);
      const events = (waiting + value).split("\n\n");
      waiting = events.pop();
      if (events.length) show(JSON.parse(events.at(-1).slice("data: ".length)));
    }
  } finally {
    clearTimeout(watch);
  }
}

async function run() {
  for (;;) {
    try {
      await follow();
      lost("The hub was stopped.");
    } catch (error) {
      if (error instanceof TokenNeeded) {
        await ask();
        continue;
      }
      lost("The hub does not answer.");
    }
    await new Promise((wake) => setTimeout(wake, 1000));
  }
}

function ask() {
  $("lost").hidden = $("empty").hidden = true;
  $("refused").hidden = !token;
  $("ask").hidden = false;
  text($("summary"), "");
  $("token").value = "";
  $("token").focus();
  return new Promise((given) => {
    $("ask").addEventListener("submit", (event) => {
      event.preventDefault();
      token = $("token").value.trim();
      sessionStorage.setItem("pinna.token", token);
      given();
    }, { once: true });
  });
}

// ---- how to connect

const local = ["localhost", "127.0.0.1", "[::1]"].includes(location.hostname);
text($("command"), `pinna run --hub-url ${location.origin}`);
text($("reach"), local
  ? "This hub listens to this machine only. Start it with --host and a token to let other machines in."
  : "Give the device the hub's token in PINNA_HUB_TOKEN or in a token file.");
$("copy").hidden = !navigator.clipboard;
$("copy").addEventListener("click", async () => {
  await navigator.clipboard.writeText($("command").textContent);
  text($("copy"), "Copied");
  setTimeout(() => text($("copy"), "Copy"), 1500);
});

// Else the hub would send on until ICE notices, half a minute.
addEventListener("pagehide", () => cards.forEach((card) => card.hush()));

run();
