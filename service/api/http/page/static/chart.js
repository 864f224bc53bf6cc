// Time per frame in each stage over the last minute: a stacked area per stage, and a legend with the newest values.
const WORDS = { read: "read", infer: "upscale", encode: "encode" };
const SAMPLES = 60, EVERY = 1000; // ms
const WIDTH = 300, HEIGHT = 60;

export class Chart {
  constructor(place) {
    this.place = place;
    this.reset();
  }

  reset() {
    this.samples = [];
    this.last = null;
    this.place.textContent = "–";
  }

  // seconds: busy time of each stage so far. frames: number of frames processed so far.
  add(seconds, frames) {
    const now = performance.now();
    if (!this.last) this.last = { now, seconds, frames };
    if (now - this.last.now < EVERY || frames <= this.last.frames) return;
    const count = frames - this.last.frames;
    const sample = Object.keys(WORDS).map((name) => Math.max(0, 1000 * ((seconds[name] ?? 0) - (this.last.seconds[name] ?? 0))) / count);
    this.samples = [...this.samples, sample].slice(-SAMPLES);
    this.last = { now, seconds, frames };
    this.show();
  }

  show() {
    const newest = this.samples.at(-1), names = Object.keys(WORDS);
    const most = Math.max(...this.samples.map((sample) => sample.reduce((sum, value) => sum + value, 0)), 1e-3);
    const picture = svgElement("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
    picture.setAttribute("aria-label", `Milliseconds per frame over the last minute; maximum ${Math.round(most)}`);
    names.forEach((name, stage) => picture.append(svgElement("path", { class: name, d: this.area(stage, most) })));
    const legend = Object.assign(document.createElement("p"), { className: "legend" });
    names.forEach((name, stage) => legend.append(Object.assign(document.createElement("span"), { className: name, textContent: `${WORDS[name]} ${newest[stage].toFixed(1)} ms` })));
    this.place.replaceChildren(picture, legend);
  }

  // A stage's area is stacked on those of the stages before it.
  area(stage, most) {
    const sum = (sample, upto) => sample.slice(0, upto).reduce((total, value) => total + value, 0);
    const at = (number, value) => `${(WIDTH * number) / Math.max(1, this.samples.length - 1)},${HEIGHT * (1 - value / most)}`;
    const samples = this.samples.length > 1 ? this.samples : [...this.samples, ...this.samples];
    const over = samples.map((sample, number) => at(Math.min(number, SAMPLES), sum(sample, stage + 1)));
    const under = samples.map((sample, number) => at(number, sum(sample, stage))).reverse();
    return `M${[...over, ...under].join("L")}Z`;
  }
}

function svgElement(name, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}
