// The audio thread's part of a call: microphone in, 20 ms of PCM out to the page; PCM from the page in, loudspeaker out.
//
// Both ways are resampled between the call's rate and the device's, and both are measured on one clock: every 20 ms the
// page gets one message with what was said, and the level of both sides in blocks of 10 ms.

import { JitterBuffer } from "./jitter.mjs";
import { Resampler } from "./resample.mjs";

const FRAME_MS = 20;
const BLOCK_MS = 10; // of one level

/** Gathers samples into blocks of one length. */
class Blocks {
  constructor(length) {
    this.block = new Float32Array(length);
    this.filled = 0;
  }

  /** Add `samples`; call `take(block)` for each block that is full. The block is used again. */
  add(samples, take) {
    for (let done = 0; done < samples.length; ) {
      const part = samples.subarray(done, done + this.block.length - this.filled);
      this.block.set(part, this.filled);
      this.filled += part.length;
      done += part.length;
      if (this.filled === this.block.length) {
        this.filled = 0;
        take(this.block);
      }
    }
  }
}

class Handset extends AudioWorkletProcessor {
  constructor({ processorOptions: { rate } }) {
    super();
    const perBlock = Math.round((sampleRate * BLOCK_MS) / 1000);
    this.toCall = new Resampler(sampleRate, rate);
    this.toDevice = new Resampler(rate, sampleRate);
    this.heard = new JitterBuffer(sampleRate);
    this.frames = new Blocks((rate * FRAME_MS) / 1000);
    this.saidBlocks = new Blocks(perBlock);
    this.heardBlocks = new Blocks(perBlock);
    this.saidLevels = [];
    this.heardLevels = [];
    this.silence = new Float32Array(128); // stands in for an input that has nothing connected
    this.over = false;
    this.port.onmessage = ({ data }) => {
      if (data === "stop") this.over = true;
      else this.heard.push(this.toDevice.process(floats(data)));
    };
  }

  process([input], [output]) {
    const said = input[0] ?? this.silence;
    this.heard.pull(output[0]);
    for (const channel of output.slice(1)) channel.set(output[0]);
    this.saidBlocks.add(said, (block) => this.saidLevels.push(level(block)));
    this.heardBlocks.add(output[0], (block) => this.heardLevels.push(level(block)));
    this.frames.add(this.toCall.process(said), (frame) => this.tell(integers(frame)));
    return !this.over;
  }

  tell(pcm) {
    const { saidLevels: said, heardLevels: heard } = this;
    const { milliseconds: waitingMs, underruns, droppedMs } = this.heard;
    this.saidLevels = [];
    this.heardLevels = [];
    this.port.postMessage({ time: currentTime, pcm, said, heard, waitingMs, underruns, droppedMs }, [pcm]);
  }
}

/** Peak and root mean square of a block, 0 to 1. */
function level(block) {
  let peak = 0;
  let squares = 0;
  for (const sample of block) {
    peak = Math.max(peak, Math.abs(sample));
    squares += sample * sample;
  }
  return { peak, rms: Math.sqrt(squares / block.length) };
}

/** 16-bit little-endian PCM of samples between -1 and 1, as an ArrayBuffer. */
function integers(samples) {
  const pcm = new DataView(new ArrayBuffer(samples.length * 2));
  samples.forEach((sample, index) => {
    pcm.setInt16(index * 2, Math.max(-32768, Math.min(32767, Math.round(sample * 32768))), true);
  });
  return pcm.buffer;
}

function floats(buffer) {
  const pcm = new DataView(buffer);
  return Float32Array.from({ length: buffer.byteLength >> 1 }, (_, index) => pcm.getInt16(index * 2, true) / 32768);
}

registerProcessor("handset", Handset);
