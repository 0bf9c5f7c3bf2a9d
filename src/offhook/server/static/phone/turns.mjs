// Who speaks when, and how long replies take, from the levels of both sides.
//
// A turn is: you speak, then the app. Its latency runs from the end of your speech to the first audible block of the
// reply. It is negative when the reply began before you had finished (an echo's always does). What the app was already
// saying when you began is not a reply.

const LOUDEST_FLOOR = 0.02; // -34 dBFS: no room is louder than this and still quiet
const QUIETEST = 0.003; // -50 dBFS: below this nothing is audible
const ABOVE_FLOOR = 3; // 10 dB above the noise is speech
const FLOOR_RISE = 1.002; // per block: 6 dB in 3.5 s, so that speech does not pass for noise
const MIN_SPEECH_S = 0.08; // shorter is a click
const PAUSE_S = 0.4; // shorter belongs to the speech around it

/** One side's speech. `started` and `ended` are times in seconds; `ended` is null while it speaks. */
export class Voice {
  constructor() {
    this.floor = 0;
    this.started = null; // of the newest speech
    this.ended = null; // of the newest speech
    this.loudSince = null;
    this.lastLoud = null;
  }

  get speaking() {
    return this.started !== null && this.ended === null;
  }

  /** Take the level (root mean square) of the block that begins at `time` and lasts `seconds`; true when it starts or
   * ends speech. */
  hear(time, seconds, rms) {
    this.floor = Math.min(LOUDEST_FLOOR, rms < this.floor ? rms : Math.max(QUIETEST / ABOVE_FLOOR, this.floor) * FLOOR_RISE);
    if (rms > Math.max(QUIETEST, this.floor * ABOVE_FLOOR)) {
      if (this.lastLoud === null || time - this.lastLoud > PAUSE_S) this.loudSince = time;
      this.lastLoud = time + seconds;
      if (!this.speaking && this.lastLoud - this.loudSince >= MIN_SPEECH_S) {
        this.started = this.loudSince;
        this.ended = null;
        return true;
      }
    } else if (this.speaking && time + seconds - this.lastLoud >= PAUSE_S) {
      this.ended = this.lastLoud;
      return true;
    }
    return false;
  }
}

export class Turns {
  /** @param {(turn: {ended: number, replied: number}) => void} onTurn times in seconds */
  constructor(onTurn) {
    this.you = new Voice();
    this.app = new Voice();
    this.replied = null; // when the reply to what you say, or said last, began
    this.open = false; // you have spoken, and the turn is not told yet
    this.onTurn = onTurn;
  }

  said(time, seconds, rms) {
    const began = this.you.hear(time, seconds, rms) && this.you.speaking;
    if (began) {
      this.open = true;
      this.replied = null;
    }
    this.settle();
  }

  heard(time, seconds, rms) {
    const began = this.app.hear(time, seconds, rms) && this.app.speaking;
    if (began && this.open && this.app.started >= this.you.started) this.replied ??= this.app.started;
    this.settle();
  }

  settle() {
    if (!this.open || this.replied === null || this.you.speaking) return;
    this.open = false;
    this.onTurn({ ended: this.you.ended, replied: this.replied });
  }
}
