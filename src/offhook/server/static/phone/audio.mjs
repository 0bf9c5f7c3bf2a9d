// The page's sound: a source to say, the handset on the audio thread, the loudspeaker.

const TONE = { hertz: 440, seconds: 0.8, every: 3, level: 0.25, fade: 0.01 };
const LARGEST_FILE = 64 << 20; // bytes; decoding takes about ten times as much memory for an MP3

/** Something about the person's device or file, in words for them. */
export class AudioError extends Error {}

export class Audio {
  /**
   * Open the device and the source. Throws AudioError. To be called from a click: browsers start no sound without.
   * @param {{kind: "microphone" | "file" | "tone", file: File | null, cleanUp: boolean}} source
   * @param {number} rate Hz of the call
   * @param {{onFrame: (frame: object) => void, onSourceLost: () => void}} listener frame: see handset.mjs
   */
  static async open(source, rate, listener) {
    if (!globalThis.AudioWorkletNode || !navigator.mediaDevices) {
      throw new AudioError(
        "The browser gives sound only to pages of this machine or over https: open this page as http://127.0.0.1 with the server's port.",
      );
    }
    const audio = new Audio(listener);
    try {
      await audio.#start(source, rate);
    } catch (error) {
      await audio.close();
      throw error;
    }
    return audio;
  }

  constructor(listener) {
    this.context = new AudioContext({ latencyHint: "interactive" });
    this.listener = listener;
    this.gain = new GainNode(this.context); // 0 when muted
    this.said = new AnalyserNode(this.context, { fftSize: 4096 });
    this.heard = new AnalyserNode(this.context, { fftSize: 4096 });
    this.stream = null;
    this.buffer = null; // of a file
    this.player = null;
  }

  async #start(source, rate) {
    const input = await this.#input(source);
    await this.context.audioWorklet.addModule("/phone/handset.mjs");
    const options = { outputChannelCount: [2], channelCount: 1, channelCountMode: "explicit", processorOptions: { rate } };
    this.handset = new AudioWorkletNode(this.context, "handset", options);
    this.handset.port.onmessage = ({ data }) => this.listener.onFrame(data);
    input?.connect(this.gain);
    this.gain.connect(this.handset);
    this.gain.connect(this.said);
    this.handset.connect(this.heard);
    this.handset.connect(this.context.destination);
    await this.context.resume();
  }

  /** The node of a source that sounds from now on; null for a file, which waits for `play`. */
  async #input({ kind, file, cleanUp }) {
    if (kind === "tone") return loop(this.context, beeps(this.context));
    if (kind === "file") {
      this.buffer = await decode(this.context, file);
      return null;
    }
    this.stream = await openMicrophone(cleanUp);
    this.stream.getTracks()[0].onended = () => this.listener.onSourceLost();
    return new MediaStreamAudioSourceNode(this.context, { mediaStream: this.stream });
  }

  /** Play the file from its beginning; nothing for another source. */
  play() {
    if (!this.buffer) return;
    this.player?.stop();
    this.player?.disconnect();
    this.player = new AudioBufferSourceNode(this.context, { buffer: this.buffer });
    this.player.connect(this.gain);
    this.player.start();
  }

  /** Let PCM (ArrayBuffer, 20 ms at the call's rate) be heard. */
  hear(pcm) {
    this.handset?.port.postMessage(pcm, [pcm]);
  }

  set muted(muted) {
    this.gain.gain.setTargetAtTime(muted ? 0 : 1, this.context.currentTime, 0.005);
  }

  async close() {
    this.handset?.port.postMessage("stop");
    for (const track of this.stream?.getTracks() ?? []) {
      track.onended = null;
      track.stop();
    }
    if (this.context.state !== "closed") await this.context.close();
  }
}

/** @param {boolean} cleanUp remove echo and noise, even out the level: what a phone does */
async function openMicrophone(cleanUp) {
  const audio = { channelCount: 1, echoCancellation: cleanUp, noiseSuppression: cleanUp, autoGainControl: cleanUp };
  try {
    return await navigator.mediaDevices.getUserMedia({ audio });
  } catch (error) {
    const reasons = {
      NotAllowedError: "The browser may not use the microphone. Allow it in the address bar, or choose a file or the test tone.",
      NotFoundError: "There is no microphone. Connect one, or choose a file or the test tone.",
      NotReadableError: "The microphone cannot be opened: another program may be using it.",
    };
    throw new AudioError(reasons[error.name] ?? `The microphone cannot be opened: ${error.message}`);
  }
}

async function decode(context, file) {
  if (!file) throw new AudioError("Choose an audio file first, or another source.");
  if (file.size > LARGEST_FILE) throw new AudioError(`${file.name} is larger than 64 MiB.`);
  try {
    return await context.decodeAudioData(await file.arrayBuffer());
  } catch {
    throw new AudioError(`${file.name} is not a sound that this browser can decode.`);
  }
}

/** A buffer with a beep and a pause that is long enough for an answer. */
function beeps(context) {
  const rate = context.sampleRate;
  const buffer = new AudioBuffer({ length: TONE.every * rate, sampleRate: rate });
  const samples = buffer.getChannelData(0);
  const length = TONE.seconds * rate;
  for (let at = 0; at < length; at++) {
    const edge = Math.min(1, at / (TONE.fade * rate), (length - at) / (TONE.fade * rate));
    samples[at] = TONE.level * edge * Math.sin((2 * Math.PI * TONE.hertz * at) / rate);
  }
  return buffer;
}

function loop(context, buffer) {
  const player = new AudioBufferSourceNode(context, { buffer, loop: true });
  player.start();
  return player;
}
