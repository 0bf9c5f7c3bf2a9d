// The page: its controls, and one call at a time.

import { Audio, AudioError } from "./audio.mjs";
import { Call, LOST, NO_SOCKET } from "./call.mjs";
import { ServerError } from "./server.mjs";
import { describe, explain } from "./timeline.mjs";
import { Turns } from "./turns.mjs";
import { inWords, Waves } from "./waves.mjs";

const BLOCK_S = 0.01;
const MOST_ENTRIES = 500; // in the timeline; the oldest go
const STORE = "offhook.phone";
const KEYS = "123456789*0#";
const QUIETEST_DB = -60; // the left end of the level meters
const FALL_DB = 1.5; // a meter's at most, every 20 ms

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
let levels = {}; // dBFS, of you and app
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
    phone.call = newCall(rate);
    waves.clear(phone.audio.context.currentTime);
    waves.run(true);
    began = Date.now() / 1000;
    note("You call", page.number.value);
    await phone.call.place(page.number.value);
    if (givenUp) await phone.call.hangUp();
  } catch (error) {
    await end("Not called", error.message, error.status === 400);
    if (!(error instanceof ServerError || error instanceof AudioError)) throw error;
  }
}

/** A call that is listened to until the next one is made: what it is told late would land in the other's timeline. */
function newCall(rate) {
  const call = new Call(rate, {
    onState: (state, reason) => call === phone.call && onState(state, reason),
    onAudio: (pcm) => call === phone.call && phone.audio?.hear(pcm),
    onTold: (told) => call === phone.call && onTold(told),
  });
  return call;
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
    if (reason === LOST || reason === NO_SOCKET) note(text, "", true);
    await end(text, help);
    return;
  }
  enter(state);
  if (state === "connected") {
    note("Connected", "");
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
  silence();
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
  if (!phone.audio) return; // It was under way when the call ended.
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

function silence() {
  levels = { you: QUIETEST_DB, app: QUIETEST_DB };
  for (const side of Object.keys(levels)) showLevel(side, 0);
}

/** Show a level (root mean square) at once when it rises, and let it fall gently. */
function showLevel(side, rms) {
  const decibels = Math.max(QUIETEST_DB, 20 * Math.log10(rms), levels[side] - FALL_DB);
  levels[side] = decibels;
  const meter = find(`level-${side}`);
  meter.style.setProperty("--part", 1 - decibels / QUIETEST_DB);
  meter.setAttribute("aria-valuenow", Math.round(decibels));
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
silence();
enter("idle");
