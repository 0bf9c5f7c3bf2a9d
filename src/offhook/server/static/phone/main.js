// The page: its controls, and one call at a time.

import { Audio, AudioError } from "./audio.js";
import { Call } from "./call.js";
import { ServerError } from "./server.js";
import { describe, explain } from "./timeline.js";
import { Turns } from "./turns.js";
import { inWords, Waves } from "./waves.js";

const BLOCK_S = 0.01;
const MOST_ENTRIES = 500; // in the timeline; the oldest go
const STORE = "offhook.phone";
const KEYS = "123456789*0#";
const QUIETEST_DB = -60;

const find = (id) => document.getElementById(id);
const page = {
  form: find("dial"), number: find("number"), settings: find("settings"), source: find("source"), file: find("file"),
  cleanUp: find("clean-up"), rate: find("rate"), button: find("call"), mute: find("mute"), replay: find("replay"),
  state: find("state"), clock: find("clock"), pressed: find("pressed"), keypad: find("keypad"), problem: find("problem"),
  latest: find("latest"), turns: find("turns"), timeline: find("timeline"), log: find("log"), figures: find("figures"),
};

/** What is going on; tests look at it, too. */
export const phone = { state: "idle", audio: null, call: null };

const waves = new Waves(find("waves"));
let turns = null;
let latencies = [];
let toldUntil = 0; // Unix seconds of the newest entry of the server that is shown
let began = 0; // Unix seconds at which the call was placed
let connectedAt = 0; // ms
let muted = false;
let givenUp = false; // hung up before there was a call
let streams = {};

// ------------------------------------------------------------------------------------------------------- calling

async function call() {
  enter("opening");
  clear();
  givenUp = false;
  const rate = Number(page.rate.value);
  const source = { kind: page.source.value, file: page.file.files[0] ?? null, cleanUp: page.cleanUp.checked };
  try {
    phone.audio = await Audio.open(source, rate, { onFrame, onSourceLost });
    if (givenUp) return await end("You hung up");
    phone.audio.muted = muted;
    phone.call = new Call(rate, { onState, onAudio: (pcm) => phone.audio?.hear(pcm), onTold });
    waves.clear(phone.audio.context.currentTime);
    waves.run(true);
    began = Date.now() / 1000;
    note("You call", page.number.value);
    await phone.call.place(page.number.value);
    if (givenUp) await phone.call.hangUp();
  } catch (error) {
    if (!(error instanceof ServerError || error instanceof AudioError)) throw error;
    await end("Not called", error.message, error.status === 400);
  }
}

async function hangUp() {
  givenUp = true;
  if (phone.state === "opening") return;
  try {
    await phone.call.hangUp();
  } catch (error) {
    if (error.status !== 404) await end("Call ended", error.message);
  }
}

async function onState(state, reason) {
  if (state === "ended") {
    const { text, help } = explain(reason);
    note(text, "", Boolean(help));
    await end(text, help);
    return;
  }
  enter(state);
  note(state === "ringing" ? "It rings" : "Connected", "");
  if (state === "connected") {
    connectedAt = performance.now();
    turns = new Turns(onTurn);
    phone.audio.play();
  }
}

async function end(text, help = "", aboutNumber = false) {
  const audio = phone.audio;
  phone.audio = null;
  turns = null;
  waves.run(false);
  showLevel("you", 0);
  showLevel("app", 0);
  enter("idle", text);
  if (help) complain(help, aboutNumber);
  await audio?.close();
}

function onSourceLost() {
  note("Microphone lost", "it was disconnected, or its permission taken back", true);
  complain("The microphone was disconnected, or its permission was taken back. The call goes on in silence.");
}

// --------------------------------------------------------------------------------------------------- what happens

function onFrame({ time, pcm, said, heard, ...buffer }) {
  phone.call?.say(pcm);
  waves.add(time, said, heard);
  showLevel("you", Math.max(...said.map(({ rms }) => rms)));
  showLevel("app", Math.max(...heard.map(({ rms }) => rms)));
  if (turns) {
    said.forEach(({ rms }, index) => turns?.said(time - (said.length - index) * BLOCK_S, BLOCK_S, rms));
    heard.forEach(({ rms }, index) => turns?.heard(time - (heard.length - index) * BLOCK_S, BLOCK_S, rms));
  }
  phone.buffer = buffer;
}

function onTurn(turn) {
  waves.addTurn(turn);
  const latency = turn.replied - turn.ended;
  latencies.push(latency);
  const sorted = [...latencies].sort((a, b) => a - b);
  page.latest.textContent = latencies.length === 1 ? inWords(latency) : `${inWords(latency)}, median ${inWords(sorted[sorted.length >> 1])}`;
  const item = element("li", "", element("b", inWords(latency)));
  if (latency < 0) item.append(element("span", "began before you had finished"));
  page.turns.append(item);
  if (page.turns.children.length > MOST_ENTRIES) page.turns.firstElementChild.remove();
  note("Reply", latency < 0 ? "before you had finished" : `${inWords(latency)} after you`);
}

function onTold(told) {
  streams = told.streams;
  for (const entry of told.timeline) {
    if (entry.at <= toldUntil) continue;
    toldUntil = entry.at;
    show(describe(entry));
  }
  showFigures();
}

function note(title, detail, bad = false) {
  show({ at: Date.now() / 1000, title, detail, bad, own: true });
}

function show({ at, title, detail, bad, own = false }) {
  const time = element("time", `${Math.max(0, at - began).toFixed(2)} s`);
  const item = element("li", "", time, element("b", title), element("span", detail));
  item.classList.toggle("bad", bad);
  item.classList.toggle("own", own);
  // What the server tells is fetched, so it may come after what the page saw later.
  item.dataset.at = at;
  const before = [...page.timeline.children].findLast((other) => Number(other.dataset.at) <= at);
  if (before) before.after(item);
  else page.timeline.prepend(item);
  if (page.timeline.children.length > MOST_ENTRIES) page.timeline.firstElementChild.remove();
  page.log.scrollTop = page.log.scrollHeight;
}

function showFigures() {
  const { call, buffer } = phone;
  if (!call) return;
  const rows = [
    ["Sent", `${call.sentFrames} frames of 20 ms`],
    ["Heard", `${call.heardFrames} frames`],
    ["Left out to stay live", `${call.pacer.left + call.unsentFrames} frames`],
    ["Waits in the server", `${Math.round(call.pacer.waitingMs)} ms`],
    ["Waits in the page", `${Math.round(buffer?.waitingMs ?? 0)} ms`],
    ["Ran dry in the page", `${buffer?.underruns ?? 0} times`],
    ["Cut in the page", `${Math.round(buffer?.droppedMs ?? 0)} ms`],
  ];
  for (const figures of Object.values(streams)) {
    for (const [name, value] of Object.entries(figures)) rows.push([`App's socket: ${name}`, `${value}`]);
  }
  page.figures.replaceChildren(...rows.map(([name, value]) => element("div", "", element("dt", name), element("dd", value))));
}

function showLevel(side, rms) {
  const level = Math.max(0, 1 - (20 * Math.log10(rms + 1e-9)) / QUIETEST_DB);
  find(`level-${side}`).value = Math.min(1, level);
}

// ------------------------------------------------------------------------------------------------------- controls

const STATES = {
  idle: "Ready", opening: "Calling …", ringing: "Ringing …", connected: "In call",
};

function enter(state, text = STATES[state]) {
  phone.state = state;
  const busy = state !== "idle";
  document.body.dataset.state = state;
  page.state.textContent = text;
  page.button.textContent = busy ? "Hang up" : "Call";
  page.number.readOnly = busy;
  page.settings.disabled = busy;
  for (const key of page.keypad.children) key.disabled = state !== "connected";
  page.replay.disabled = state !== "connected";
  if (state !== "connected") connectedAt = 0;
}

function clear() {
  page.problem.hidden = true;
  page.number.removeAttribute("aria-invalid");
  page.pressed.textContent = "";
  page.latest.textContent = "–";
  page.turns.replaceChildren();
  page.timeline.replaceChildren();
  page.figures.replaceChildren();
  latencies = [];
  streams = {};
  phone.call = null;
  phone.buffer = null;
  toldUntil = 0;
}

function complain(text, aboutNumber = false) {
  page.problem.textContent = text;
  page.problem.hidden = false;
  if (aboutNumber) {
    page.number.setAttribute("aria-invalid", "true");
    page.number.focus();
  }
}

function press(key) {
  if (phone.state !== "connected") return;
  phone.call.press(key);
  page.pressed.textContent = `${page.pressed.textContent}${key}`.slice(-12);
}

function chooseSource() {
  find("file-row").hidden = page.source.value !== "file";
  find("microphone-row").hidden = page.source.value !== "microphone";
  page.replay.hidden = page.source.value !== "file";
}

function toggleMute() {
  muted = !muted;
  page.mute.setAttribute("aria-pressed", String(muted));
  if (phone.audio) phone.audio.muted = muted;
}

function showClock() {
  const seconds = connectedAt ? Math.floor((performance.now() - connectedAt) / 1000) : 0;
  page.clock.textContent = connectedAt ? `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}` : "";
}

function element(name, text, ...children) {
  const made = document.createElement(name);
  made.append(text, ...children);
  return made;
}

// --------------------------------------------------------------------------------------------------------- memory

function remember() {
  const kept = { number: page.number.value, source: page.source.value, cleanUp: page.cleanUp.checked, rate: page.rate.value };
  try {
    localStorage.setItem(STORE, JSON.stringify(kept));
  } catch {
    // Storage may be forbidden; then nothing is remembered.
  }
}

function recall() {
  try {
    const kept = JSON.parse(localStorage.getItem(STORE)) ?? {};
    if (kept.number) page.number.value = kept.number;
    if (kept.cleanUp !== undefined) page.cleanUp.checked = kept.cleanUp;
    for (const name of ["source", "rate"]) {
      if ([...page[name].options].some((option) => option.value === kept[name])) page[name].value = kept[name];
    }
  } catch {
    // Not there, or not ours.
  }
}

// ---------------------------------------------------------------------------------------------------------- start

page.form.addEventListener("submit", (event) => {
  event.preventDefault();
  remember();
  if (phone.state === "idle") call();
  else hangUp();
});
page.form.addEventListener("change", () => {
  chooseSource();
  remember();
});
page.mute.addEventListener("click", toggleMute);
page.replay.addEventListener("click", () => phone.audio?.play());
page.keypad.addEventListener("click", ({ target }) => target.value && press(target.value));
document.addEventListener("keydown", (event) => {
  const typing = event.target.matches("input:not([readonly], [type=checkbox]), select");
  if (typing || event.ctrlKey || event.metaKey || event.altKey || event.repeat || !KEYS.includes(event.key)) return;
  press(event.key);
  const key = [...page.keypad.children].find((each) => each.value === event.key);
  key.classList.add("down");
  setTimeout(() => key.classList.remove("down"), 150);
});
setInterval(showClock, 250);
recall();
chooseSource();
enter("idle");
