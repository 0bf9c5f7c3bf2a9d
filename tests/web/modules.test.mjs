// The page's modules that need no browser: `node --test tests/web/`.

import assert from "node:assert/strict";
import test from "node:test";

const from = (name) => import(new URL(`../../src/offhook/server/static/phone/${name}`, import.meta.url));
const { Resampler } = await from("resample.mjs");
const { JitterBuffer, MOST_MS, START_MS } = await from("jitter.mjs");
const { MARK_FRAMES, Pacer } = await from("pacer.mjs");
const { Turns } = await from("turns.mjs");
const { describe, explain } = await from("timeline.mjs");

const sine = (rate, hertz, seconds, level = 0.5) =>
  Float32Array.from({ length: rate * seconds }, (_, at) => level * Math.sin((2 * Math.PI * hertz * at) / rate));
const join = (pieces) => Float32Array.from(pieces.flatMap((piece) => [...piece]));
const rms = (samples) => Math.sqrt(samples.reduce((sum, x) => sum + x * x, 0) / samples.length);

/** Amplitude of one frequency. */
function amplitude(samples, rate, hertz) {
  let [re, im] = [0, 0];
  samples.forEach((x, at) => {
    re += x * Math.cos((2 * Math.PI * hertz * at) / rate);
    im += x * Math.sin((2 * Math.PI * hertz * at) / rate);
  });
  return (2 * Math.hypot(re, im)) / samples.length;
}

const PAIRS = [48000, 44100, 96000].flatMap((device) => [8000, 16000, 24000, 48000].flatMap((call) => [[device, call], [call, device]]));

for (const [input, output] of PAIRS) {
  test(`a tone keeps its pitch and level from ${input} to ${output} Hz`, () => {
    const made = new Resampler(input, output).process(sine(input, 1000, 0.4));
    assert.ok(Math.abs(made.length - output * 0.4) <= 1);
    const steady = made.subarray(output * 0.1, output * 0.3);
    assert.ok(Math.abs(amplitude(steady, output, 1000) - 0.5) < 0.002);
    assert.ok(Math.abs(rms(steady) - 0.5 / Math.SQRT2) < 0.002); // and nothing besides
  });
}

test("what the lower rate cannot carry does not come back as another tone", () => {
  const made = new Resampler(48000, 8000).process(sine(48000, 5000, 0.4));
  assert.ok(rms(made.subarray(800)) < 0.5 / 3000); // 70 dB down
});

test("where the input is cut makes no difference", () => {
  const whole = sine(44100, 440, 0.2);
  const resampler = new Resampler(44100, 16000);
  const pieces = [];
  for (let at = 0; at < whole.length; at += 128) pieces.push(resampler.process(whole.subarray(at, at + 128)));
  assert.deepEqual(join(pieces), new Resampler(44100, 16000).process(whole));
});

test("equal rates change nothing", () => {
  const samples = sine(24000, 440, 0.02);
  assert.deepEqual(new Resampler(24000, 24000).process(samples), samples);
});

const RATE = 1000; // Hz: a sample is a millisecond
const ms = (count, value = 1) => new Float32Array(count).fill(value);

test("playing starts when enough waits, and waits again after it ran dry", () => {
  const buffer = new JitterBuffer(RATE);
  const pull = (count) => {
    const output = ms(count, 9);
    buffer.pull(output);
    return [...output];
  };
  buffer.push(ms(START_MS - 1));
  assert.deepEqual(pull(2), [0, 0]);
  buffer.push(ms(1, 2));
  assert.deepEqual(pull(START_MS), [...ms(START_MS - 1), 2]);
  assert.equal(buffer.underruns, 0);
  assert.deepEqual(pull(2), [0, 0]);
  assert.equal(buffer.underruns, 1);
  buffer.push(ms(1));
  assert.deepEqual(pull(1), [0]);
  assert.equal(buffer.underruns, 1); // it has not started again
});

test("samples come out in order, whatever their pieces", () => {
  const buffer = new JitterBuffer(RATE);
  for (let at = 0; at < 180; at += 9) buffer.push(Float32Array.from({ length: 9 }, (_, index) => at + index));
  const heard = [];
  for (let at = 0; at < 180; at += 4) {
    const output = new Float32Array(4);
    buffer.pull(output);
    heard.push(...output);
  }
  assert.deepEqual(heard, Array.from({ length: 180 }, (_, index) => index));
});

test("a burst is cut down to what waits at the start: delay does not stick", () => {
  const buffer = new JitterBuffer(RATE);
  for (let at = 0; at < 100; at++) {
    buffer.push(ms(20, at));
    assert.ok(buffer.milliseconds <= MOST_MS);
  }
  assert.equal(buffer.droppedMs + buffer.milliseconds, 2000);
  const output = new Float32Array(buffer.length);
  buffer.pull(output);
  assert.equal(output.at(-1), 99); // the oldest go
});

/** Offer frames every 20 ms to a server that plays one every 20 ms; return the pacer and what waits, ms. */
function speak(pacer, seconds, backlogMs) {
  const under = [];
  let backlog = backlogMs;
  for (let now = 0; now < seconds * 1000; now += 20) {
    const { send, mark } = pacer.next(now);
    if (send) backlog += 20;
    if (mark) under.push([now + backlog, mark]);
    backlog = Math.max(0, backlog - 20);
    while (under.length && under[0][0] <= now) pacer.reached(under.shift()[1], now);
  }
  return backlog;
}

test("a backlog in the server is worked off, once", () => {
  const pacer = new Pacer();
  const backlog = speak(pacer, 10, 500);
  assert.ok(backlog >= 20 && backlog <= 100, `${backlog}`);
  assert.equal(pacer.left * 20, 500 - backlog);
});

test("a small backlog is left alone: frames may be late", () => {
  const pacer = new Pacer();
  assert.equal(speak(pacer, 10, 100), 100);
  assert.equal(pacer.left, 0);
});

test("one mark that comes late proves nothing", () => {
  const pacer = new Pacer();
  for (let mark = 1; mark <= 20; mark++) {
    for (let frame = 1; frame < MARK_FRAMES; frame++) assert.deepEqual(pacer.next(0), { send: true, mark: null });
    pacer.reached(pacer.next(0).mark, mark % 4 ? 900 : 40);
  }
  assert.equal(pacer.left + pacer.surplus, 0);
});

test("marks that never come back are forgotten", () => {
  const pacer = new Pacer();
  for (let frame = 0; frame < 100 * MARK_FRAMES; frame++) pacer.next(frame * 20);
  assert.equal(pacer.marks.size, 50);
});

/** The turns of a dialogue: [[from, to], …] seconds in which each side is loud. */
function turnsOf(you, app, { noise = 0.001, seconds = 10 } = {}) {
  const told = [];
  const turns = new Turns((turn) => told.push(turn));
  const loud = (spans, at) => spans.some(([from, to]) => at >= from - 1e-9 && at < to - 1e-9);
  for (let block = 0; block < seconds * 100; block++) {
    const at = block / 100;
    turns.said(at, 0.01, loud(you, at) ? 0.1 : noise);
    turns.heard(at, 0.01, loud(app, at) ? 0.1 : 0);
  }
  return told.map(({ ended, replied }) => Math.round((replied - ended) * 1000));
}

test("latency runs from the end of your speech to the first sound of the reply", () => {
  assert.deepEqual(turnsOf([[1, 2]], [[2.64, 4]]), [640]);
});

test("a greeting is no reply, and neither is what goes on", () => {
  assert.deepEqual(turnsOf([[3, 4]], [[0.5, 2]]), []);
  assert.deepEqual(turnsOf([[1, 2]], [[0.5, 1.5], [2.5, 3]]), [500]); // you interrupted it; then it replied
});

test("a pause within your speech does not end it", () => {
  assert.deepEqual(turnsOf([[1, 2], [2.3, 3]], [[3.5, 4]]), [500]);
});

test("a reply may begin before you have finished", () => {
  assert.deepEqual(turnsOf([[1, 2]], [[1.15, 2.15]]), [-850]);
});

test("each turn is told once", () => {
  assert.deepEqual(turnsOf([[1, 2], [5, 6]], [[2.3, 3], [3.8, 4.4], [6.7, 8]]), [300, 700]);
});

test("a click is not speech, and a noisy room is quiet", () => {
  assert.deepEqual(turnsOf([[1, 1.05]], [[1.5, 2]]), []);
  assert.deepEqual(turnsOf([[4, 5]], [[5.5, 6]], { noise: 0.008 }), [500]);
});

test("what the server tells is put in words, and what is new to the page is shown as it is", () => {
  assert.deepEqual(describe({ at: 1, what: "IncomingCall", to: "4:+15550199" }), {
    at: 1, title: "App told of the call", detail: "IncomingCall to +15550199", bad: false,
  });
  assert.deepEqual(describe({ at: 2, what: "something new", count: 3, why: "x" }), {
    at: 2, title: "something new", detail: "3 x", bad: false,
  });
  assert.ok(describe({ at: 3, what: "StreamingFailed", cause: "forbidden", detail: "403" }).bad);
});

test("an end that needs a remedy names it", () => {
  assert.match(explain("unreachable").help, /--incoming/);
  assert.equal(explain("hung up").help, "");
  assert.equal(explain("something new").text, "Call ended: something new");
});
