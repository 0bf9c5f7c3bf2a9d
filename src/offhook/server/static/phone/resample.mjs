// Streaming sample rate conversion: a linear-phase polyphase FIR (Kaiser-windowed sinc), exact for any pair of rates.
//
// Flat up to 0.4 of the lower rate and 80 dB down from half of it. It delays by 24 samples of the lower rate:
// 1 ms at 24 kHz, 3 ms at 8 kHz.

const ZEROS = 24; // zero crossings of the sinc on each side
const CUTOFF = 0.45; // of the lower rate; the transition is ± 0.05 around it
const BETA = 7.9; // of the Kaiser window: 80 dB

export class Resampler {
  /** @param {number} from Hz @param {number} to Hz; both whole numbers */
  constructor(from, to) {
    const divisor = greatestCommonDivisor(from, to);
    this.up = to / divisor;
    this.down = from / divisor;
    const lower = Math.min(1, to / from); // the lower rate, as a part of `from`
    this.width = from === to ? 1 : 2 * Math.ceil(ZEROS / lower);
    this.taps = from === to ? Float32Array.of(1) : makeTaps(this.up, this.width, lower);
    this.past = new Float32Array(this.width - 1);
    this.next = 0; // index in the next input of the newest sample that the next output needs
    this.phase = 0; // of the next output, in 1/up of an input sample
  }

  /** Return what `samples` (Float32Array) add to the output; the pieces joined do not depend on where they were cut. */
  process(samples) {
    const { up, down, width, taps } = this;
    const input = new Float32Array(this.past.length + samples.length);
    input.set(this.past);
    input.set(samples, this.past.length);
    const count = Math.max(0, Math.ceil(((samples.length - this.next) * up - this.phase) / down));
    const output = new Float32Array(count);
    for (let index = 0; index < count; index++) {
      const newest = this.next + width - 1;
      const first = this.phase * width;
      let sum = 0;
      for (let tap = 0; tap < width; tap++) sum += taps[first + tap] * input[newest - tap];
      output[index] = sum;
      this.phase += down;
      this.next += Math.floor(this.phase / up);
      this.phase %= up;
    }
    this.next -= samples.length;
    this.past = input.slice(samples.length);
    return output;
  }
}

/** One row of `width` taps for each of `up` phases, each with a sum of 1. */
function makeTaps(up, width, lower) {
  const taps = new Float32Array(up * width);
  const cutoff = CUTOFF * lower;
  for (let phase = 0; phase < up; phase++) {
    const row = taps.subarray(phase * width, (phase + 1) * width);
    let sum = 0;
    for (let tap = 0; tap < width; tap++) {
      const at = tap + phase / up - width / 2;
      row[tap] = sinc(2 * cutoff * at) * kaiser((2 * at) / width);
      sum += row[tap];
    }
    for (let tap = 0; tap < width; tap++) row[tap] /= sum;
  }
  return taps;
}

const sinc = (x) => (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x));

const kaiser = (x) => bessel(BETA * Math.sqrt(Math.max(0, 1 - x * x))) / bessel(BETA);

/** Modified Bessel function of the first kind, order 0, by its series. */
function bessel(x) {
  let term = 1;
  let sum = 1;
  for (let k = 1; term > 1e-12 * sum; k++) {
    term *= (x / (2 * k)) ** 2;
    sum += term;
  }
  return sum;
}

function greatestCommonDivisor(a, b) {
  return b === 0 ? a : greatestCommonDivisor(b, a % b);
}
