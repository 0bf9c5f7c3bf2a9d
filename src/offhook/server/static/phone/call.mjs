// One call over the caller's audio socket (docs/caller-api.md), and what the server tells of it.

import { Pacer } from "./pacer.mjs";
import { ask } from "./server.mjs";

const LEAD_FRAMES = 2; // of silence, sent first: then a frame that comes a little late is still in time
const POLL_MS = 300;
const LATE_POLLS = 4; // after the end, for the figures of the app's socket
const MOST_UNSENT_S = 0.2; // that the browser may hold back for a socket that does not move

/** Reasons of an end that the server could not tell of. */
export const NO_SOCKET = "no audio socket";
export const LOST = "connection lost";

export class Call {
  /**
   * @param {number} rate Hz of the audio both ways
   * @param {{onState: (state: string, reason: string) => void, onAudio: (pcm: ArrayBuffer) => void,
   *   onTold: (told: object) => void}} listener states are ringing, connected and ended; told is what
   *   GET /phone/calls/{id} answers
   */
  constructor(rate, listener) {
    this.rate = rate;
    this.listener = listener;
    this.state = "new";
    this.pacer = new Pacer();
    this.sentFrames = 0;
    this.heardFrames = 0;
    this.unsentFrames = 0;
  }

  /** Call `to`. Throws ServerError. What becomes of it is told to the listener. */
  async place(to) {
    const { id, audioUrl } = await ask("POST", "", { to, rate: this.rate });
    this.id = id;
    try {
      this.socket = new WebSocket(audioUrl);
    } catch {
      this.#enter("ended", NO_SOCKET); // Some browsers let no page of https open a ws: of this machine.
      return;
    }
    this.socket.binaryType = "arraybuffer";
    this.socket.onmessage = ({ data }) => (typeof data === "string" ? this.#told(JSON.parse(data)) : this.#heard(data));
    this.socket.onclose = () => this.#enter("ended", this.state === "new" ? NO_SOCKET : LOST);
    this.#watch();
  }

  /** Say 20 ms of PCM (ArrayBuffer), once the call is connected. Not kept: a voice is live or it is late. */
  say(pcm) {
    if (this.state !== "connected") return;
    if (this.socket.bufferedAmount > MOST_UNSENT_S * this.rate * 2) {
      this.unsentFrames += 1;
      return;
    }
    const { send, mark } = this.pacer.next(performance.now());
    if (send) {
      this.socket.send(pcm);
      this.sentFrames += 1;
    }
    if (mark) this.#tell({ kind: "mark", name: mark });
  }

  press(tones) {
    if (this.state === "connected") this.#tell({ kind: "dtmf", tones });
  }

  async hangUp() {
    if (this.socket?.readyState === WebSocket.OPEN) this.#tell({ kind: "hangUp" });
    else if (this.id && this.state !== "ended") await ask("DELETE", `/${this.id}`);
  }

  #tell(message) {
    this.socket.send(JSON.stringify(message));
  }

  #told(message) {
    if (message.kind === "mark") this.pacer.reached(message.name, performance.now());
    else if (message.kind !== "error") this.#enter(message.kind, message.reason ?? "");
  }

  #heard(pcm) {
    this.heardFrames += 1;
    this.listener.onAudio(pcm);
  }

  #enter(state, reason) {
    if (this.state === "ended") return;
    this.state = state;
    if (state === "connected") this.socket.send(new ArrayBuffer((LEAD_FRAMES * this.rate * 2) / 50));
    this.listener.onState(state, reason);
  }

  /** Fetch what happened until the call is over, and a little longer. */
  async #watch() {
    for (let late = 0; late < LATE_POLLS; ) {
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
      try {
        const told = await ask("GET", `/${this.id}`);
        this.listener.onTold(told);
        if (told.over) late += 1;
      } catch {
        if (this.state === "ended") return; // The server has gone, and the call's state says so.
      }
    }
  }
}
