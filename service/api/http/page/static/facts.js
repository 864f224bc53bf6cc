// The panel with the properties and progress of a run.
import { Chart } from "./chart.js";

const SPAN = 2000; // ms over which the speed is averaged

export class Facts {
  constructor(byId) {
    this.byId = byId;
    this.chart = new Chart(byId("stages"));
    this.reset();
  }

  // live: whether the source sets the pace, so that its frame rate is shown along with that of the result.
  reset(live = false) {
    this.live = live;
    this.chart.reset();
    this.seen = [];
    this.lost = this.skipped = 0;
    for (const name of ["size", "progress", "speed", "delay", "network"]) this.byId(name).textContent = "–";
    this.byId("dropped").textContent = "0 frames";
    this.byId("device").textContent = "";
    this.byId("notes").replaceChildren();
  }

  progress({ status, frames_in: read, frames_out: written, frames_dropped: skipped, stage_seconds: seconds, late_seconds: late, source_rate: rate, network, device, notes }) {
    const now = performance.now();
    this.seen = [...this.seen.filter(([time]) => now - time < SPAN), [now, written, read]];
    const [time, writtenBefore, readBefore] = this.seen[0];
    const speed = (count) => ((1000 * count) / (now - time)).toFixed(1);
    const source = this.live ? `of ${speed(read - readBefore)} frames/s` : `frames/s${rate ? `; shown at ${Number(rate.toFixed(2))}` : ""}`;
    if (now > time) this.byId("speed").textContent = `${speed(written - writtenBefore)} ${source}`;
    this.byId("progress").textContent = status === "pending" ? "waiting for a slot" : `${written} of ${read} frames read`;
    if (late !== null && late !== undefined) this.byId("delay").textContent = `${Math.round(1000 * late)} ms`;
    if (network) this.byId("network").textContent = network;
    if (device) this.byId("device").textContent = `on ${device}`;
    this.skipped = skipped ?? 0;
    this.showDropped();
    this.chart.add(seconds, written);
    this.byId("notes").replaceChildren(...notes.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
  }

  dropped({ frames }) {
    this.lost += frames;
    this.showDropped();
  }

  // Sums the frames for which the model was too slow, and those for which this page was too slow.
  showDropped() {
    this.byId("dropped").textContent = `${this.lost + this.skipped} frames`;
  }

  size(original, upscaled) {
    if (!upscaled.videoWidth) return;
    const from = original.videoWidth ? `${original.videoWidth}x${original.videoHeight} → ` : "";
    this.byId("size").textContent = `${from}${upscaled.videoWidth}x${upscaled.videoHeight}`;
  }
}
