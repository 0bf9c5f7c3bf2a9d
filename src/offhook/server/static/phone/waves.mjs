// The wave forms of both sides under each other, on one time axis, and the turns between them.

const WINDOW_S = 12;
const BLOCK_S = 0.01; // of one level, see handset.mjs
const KEPT = Math.ceil((WINDOW_S + 2) / BLOCK_S);
const AXIS = 22; // pixels under the lanes
const GAP = 8; // between them
const STILL_MS = 250; // between two pictures when motion is to be reduced

export class Waves {
  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.canvas = canvas;
    this.paint = canvas.getContext("2d");
    this.still = matchMedia("(prefers-reduced-motion: reduce)");
    this.drawn = 0; // ms
    this.running = false;
    this.clear();
    new ResizeObserver(() => this.draw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  /** Forget everything; times count from `origin`, in seconds, from now on. */
  clear(origin = 0) {
    this.origin = origin;
    this.now = origin;
    this.said = new Float32Array(KEPT); // peaks, 0 to 1, of the block number % KEPT
    this.heard = new Float32Array(KEPT);
    this.turns = [];
    this.draw();
  }

  /** Add the levels of 20 ms that end at `time` (seconds). */
  add(time, said, heard) {
    const end = Math.round((time - this.origin) / BLOCK_S);
    for (let index = Math.round((this.now - this.origin) / BLOCK_S); index < end; index++) {
      this.said[index % KEPT] = 0;
      this.heard[index % KEPT] = 0;
    }
    const put = (peaks, levels) =>
      levels.forEach(({ peak }, index) => (peaks[Math.max(0, end - levels.length + index) % KEPT] = peak));
    put(this.said, said);
    put(this.heard, heard);
    this.now = time;
  }

  addTurn(turn) {
    this.turns = [...this.turns.slice(-9), turn];
  }

  /** Draw from now on, or draw once more and stop. */
  run(running) {
    if (running && !this.running) requestAnimationFrame(() => this.#frame());
    this.running = running;
    this.draw();
  }

  #frame() {
    if (!this.running) return;
    const now = performance.now();
    if (!this.still.matches || now - this.drawn >= STILL_MS) {
      this.drawn = now;
      this.draw();
    }
    requestAnimationFrame(() => this.#frame());
  }

  draw() {
    const { canvas, paint } = this;
    const density = globalThis.devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (!width) return;
    if (canvas.width !== Math.round(width * density) || canvas.height !== Math.round(height * density)) {
      canvas.width = Math.round(width * density);
      canvas.height = Math.round(height * density);
    }
    paint.setTransform(density, 0, 0, density, 0, 0);
    paint.clearRect(0, 0, width, height);
    const style = getComputedStyle(canvas);
    const colour = (name) => style.getPropertyValue(`--${name}`);
    // The window scrolls with the time; with reduced motion it stands until it is full, then starts anew.
    const now = this.now - this.origin;
    const start = this.still.matches ? Math.floor(now / WINDOW_S) * WINDOW_S : Math.max(0, now - WINDOW_S);
    const view = { width, start, x: (time) => ((time - start) / WINDOW_S) * width };
    const lane = (height - AXIS - GAP) / 2;
    this.#axis(view, height, colour, style.fontFamily);
    this.#lane(view, this.said, 0, lane, colour("you"), colour("line"));
    this.#lane(view, this.heard, lane + GAP, lane, colour("app"), colour("line"));
    for (const turn of this.turns) this.#turn(view, turn, height, colour, style.fontFamily);
  }

  #axis({ x, start }, height, colour, font) {
    const { paint } = this;
    paint.font = `12px ${font}`;
    paint.textAlign = "center";
    for (let second = Math.ceil(start); second <= start + WINDOW_S; second++) {
      paint.fillStyle = colour("line");
      paint.fillRect(Math.round(x(second)), 0, 1, height - AXIS + (second % 2 ? 0 : 4));
      paint.fillStyle = colour("quiet");
      if (second % 2 === 0 && x(second) > 12 && x(second) < x(start + WINDOW_S) - 12) {
        paint.fillText(`${second} s`, x(second), height - 5);
      }
    }
  }

  #lane({ x, start, width }, peaks, top, height, colour, line) {
    const { paint } = this;
    const middle = top + height / 2;
    paint.fillStyle = line;
    paint.fillRect(0, Math.round(middle), width, 1);
    paint.fillStyle = colour;
    const end = Math.round((this.now - this.origin) / BLOCK_S);
    const first = Math.max(0, Math.floor(start / BLOCK_S), end - KEPT);
    const step = Math.max(1, (BLOCK_S / WINDOW_S) * width - 0.25);
    for (let index = first; index < end; index++) {
      const half = (peaks[index % KEPT] ** 0.5 * height) / 2; // Soft speech shall be seen, too.
      if (half > 0.5) paint.fillRect(x(index * BLOCK_S), middle - half, step, 2 * half);
    }
  }

  /** A bracket from the end of your speech to the reply, with the latency on it. */
  #turn({ x, start, width }, { ended, replied }, height, colour, font) {
    const { paint } = this;
    const [from, to] = [x(ended - this.origin), x(replied - this.origin)];
    if (Math.max(ended, replied) - this.origin < start) return;
    const middle = Math.round((height - AXIS) / 2);
    paint.fillStyle = colour("ink");
    paint.fillRect(Math.min(from, to), middle - 1, Math.abs(to - from), 2);
    paint.fillRect(from - 1, middle - 12, 2, 12);
    paint.fillRect(to - 1, middle, 2, 12);
    const label = inWords(replied - ended);
    paint.font = `600 12px ${font}`;
    paint.textAlign = "left";
    const wide = paint.measureText(label).width;
    const right = Math.max(from, to) + 8;
    const at = right + wide <= width ? right : Math.min(from, to) - 8 - wide;
    paint.fillStyle = colour("card");
    paint.fillRect(at - 3, middle - 9, wide + 6, 18);
    paint.fillStyle = colour("ink");
    paint.fillText(label, at, middle + 4);
  }
}

/** A latency in seconds as text, with a true minus. */
export function inWords(seconds) {
  return `${Math.round(seconds * 1000)} ms`.replace("-", "−");
}
