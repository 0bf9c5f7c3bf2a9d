// What has arrived from the call and is not played yet. Bounded: more than MOST_MS is cut down to START_MS at once, so
// that a stall of the page or the network does not leave the call delayed for good.

export const START_MS = 60; // waits before playing starts, and again after it ran dry
export const MOST_MS = 200;

export class JitterBuffer {
  /** @param {number} rate Hz of the samples */
  constructor(rate) {
    this.perMs = rate / 1000;
    this.pieces = []; // Float32Array, oldest first
    this.head = 0; // samples of the first piece that are played
    this.length = 0; // samples that wait
    this.playing = false;
    this.underruns = 0; // times it ran dry
    this.droppedMs = 0; // cut because too much waited
  }

  get milliseconds() {
    return this.length / this.perMs;
  }

  push(samples) {
    this.pieces.push(samples);
    this.length += samples.length;
    if (this.milliseconds > MOST_MS) {
      const surplus = this.length - Math.round(START_MS * this.perMs);
      this.take(surplus, null);
      this.droppedMs += surplus / this.perMs;
    }
    this.playing ||= this.milliseconds >= START_MS;
  }

  /** Fill `output` (Float32Array); what is missing is silence. */
  pull(output) {
    output.fill(0);
    if (!this.playing) return;
    if (this.length < output.length) {
      this.underruns += 1;
      this.playing = false;
    }
    this.take(Math.min(this.length, output.length), output);
  }

  take(count, output) {
    this.length -= count;
    for (let done = 0; done < count; ) {
      const piece = this.pieces[0];
      const part = piece.subarray(this.head, this.head + count - done);
      output?.set(part, done);
      done += part.length;
      this.head += part.length;
      if (this.head === piece.length) {
        this.pieces.shift();
        this.head = 0;
      }
    }
  }
}
