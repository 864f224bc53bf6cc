// What is known of a run, as a person reads it.
const WORDS = { read: "read", infer: "upscale", encode: "encode" };
const SPAN = 2000; // ms over which a speed is counted

export class Facts {
  constructor(byId) {
    this.byId = byId;
    this.reset();
  }

  reset() {
    this.seen = [];
    this.lost = this.skipped = 0;
    for (const name of ["size", "made", "speed", "delay", "stages"]) this.byId(name).textContent = "–";
    this.byId("dropped").textContent = "0 frames";
    this.byId("notes").replaceChildren();
  }

  progress({ status, frames_in: read, frames_out: made, frames_dropped: skipped, stage_seconds: seconds, late_seconds: late, notes }) {
    const now = performance.now();
    this.seen = [...this.seen.filter(([time]) => now - time < SPAN), [now, made]];
    const [time, before] = this.seen[0];
    if (now > time) this.byId("speed").textContent = `${((1000 * (made - before)) / (now - time)).toFixed(1)} frames/s`;
    this.byId("made").textContent = status === "pending" ? "waiting for a slot" : `${made} of ${read} frames read`;
    if (late !== null && late !== undefined) this.byId("delay").textContent = `${Math.round(1000 * late)} ms`;
    this.skipped = skipped ?? 0;
    this.showDropped();
    this.stages(seconds);
    this.byId("notes").replaceChildren(...notes.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
  }

  stages(seconds) {
    const most = Math.max(...Object.values(seconds), 0.001);
    if (!Object.keys(seconds).length) return;
    const bars = Object.entries(seconds).map(([name, value]) => {
      const row = Object.assign(document.createElement("div"), { className: "bar" });
      const bar = Object.assign(document.createElement("meter"), { max: most, value, ariaLabel: WORDS[name] ?? name });
      row.append(WORDS[name] ?? name, bar, `${value.toFixed(1)} s`);
      return row;
    });
    this.byId("stages").replaceChildren(...bars);
  }

  dropped({ frames }) {
    this.lost += frames;
    this.showDropped();
  }

  // What came too fast for the model, and what came too fast for this page.
  showDropped() {
    this.byId("dropped").textContent = `${this.lost + this.skipped} frames`;
  }

  size(original, upscaled) {
    if (!upscaled.videoWidth) return;
    const from = original.videoWidth ? `${original.videoWidth}x${original.videoHeight} → ` : "";
    this.byId("size").textContent = `${from}${upscaled.videoWidth}x${upscaled.videoHeight}`;
  }
}
