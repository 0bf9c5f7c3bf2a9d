// How much of what was said waits in the server, and when to say less.
//
// The server plays what it is sent in order and in full. A live voice has to keep up: after a stall of this page, or
// with a device clock that runs fast, what waits would only ever grow. So a mark is sent every MARK_FRAMES; the time
// until it comes back is what waits. When even the least of the last WINDOW marks is too much, frames are left out.

const FRAME_MS = 20;
export const MARK_FRAMES = 12;
const WINDOW = 4; // marks, about a second: one late message proves nothing
const MOST_MS = 160;
const TARGET_MS = 60;
const MOST_MARKS = 50; // not back yet; if more are missing the server does not play, and the oldest are forgotten

export class Pacer {
  constructor() {
    this.frames = 0; // offered so far
    this.marks = new Map(); // name -> when it was sent, ms
    this.waits = []; // of the last marks, ms
    this.surplus = 0; // frames to leave out
    this.left = 0; // frames left out so far
  }

  /** Milliseconds that wait in the server; 0 until it is known. */
  get waitingMs() {
    return this.waits.length ? Math.min(...this.waits) : 0;
  }

  /** A frame is there to be sent at `now` (ms): return whether to send it, and the name of a mark to send after it. */
  next(now) {
    if (this.surplus > 0) {
      this.surplus -= 1;
      this.left += 1;
      return { send: false, mark: null };
    }
    this.frames += 1;
    if (this.frames % MARK_FRAMES) return { send: true, mark: null };
    const mark = `page-${this.frames}`;
    this.marks.set(mark, now);
    if (this.marks.size > MOST_MARKS) this.marks.delete(this.marks.keys().next().value);
    return { send: true, mark };
  }

  /** A mark came back at `now` (ms). */
  reached(mark, now) {
    const sent = this.marks.get(mark);
    if (sent === undefined) return;
    this.marks.delete(mark);
    this.waits.push(now - sent);
    if (this.waits.length > WINDOW) this.waits.shift();
    if (this.waits.length === WINDOW && this.waitingMs > MOST_MS) {
      this.surplus = Math.floor((this.waitingMs - TARGET_MS) / FRAME_MS);
      this.waits = [];
      this.marks.clear(); // those under way were sent before
    }
  }
}
