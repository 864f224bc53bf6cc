// Two pictures in one frame: a divider between them, zoom and pan for both, and a still of both.
export class Compare {
  constructor(elements) {
    Object.assign(this, elements); // stage, pictures, line, divider, original, upscaled
    this.zoom = 1;
    this.x = this.y = 0;
    this.divider.addEventListener("input", () => this.divide());
    this.stage.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    this.stage.addEventListener("pointerdown", (event) => this.grab(event));
    this.stage.addEventListener("keydown", (event) => this.pressed(event));
    new ResizeObserver(() => this.show()).observe(this.stage);
    this.divide();
  }

  divide(percent = Number(this.divider.value)) {
    this.divider.value = percent;
    this.line.style.left = `${percent}%`;
    this.show();
  }

  // Shows both again, where there was nothing to compare with.
  both() {
    if (Number(this.divider.value) === 0) this.divide(50);
  }

  show() {
    const { width, height } = this.stage.getBoundingClientRect();
    const limit = (value, size) => Math.min(0, Math.max(size - size * this.zoom, value));
    this.x = limit(this.x, width);
    this.y = limit(this.y, height);
    this.pictures.style.transform = `translate(${this.x}px, ${this.y}px) scale(${this.zoom})`;
    const cut = ((Number(this.divider.value) / 100) * width - this.x) / this.zoom;
    this.upscaled.style.clipPath = `inset(0 0 0 ${Math.max(0, cut)}px)`;
    this.original.style.clipPath = `inset(0 ${Math.max(0, width - cut)}px 0 0)`;
  }

  zoomTo(zoom, x, y) {
    const wanted = Math.min(32, Math.max(1, zoom)), grown = wanted / this.zoom;
    this.x = x - (x - this.x) * grown;
    this.y = y - (y - this.y) * grown;
    this.zoom = wanted;
    this.show();
  }

  // One pixel of the result on one pixel of the screen.
  exact() {
    const { width, height } = this.stage.getBoundingClientRect(), video = this.upscaled;
    if (!video.videoWidth) return;
    const shown = Math.min(width / video.videoWidth, height / video.videoHeight);
    this.stage.classList.add("exact");
    this.zoomTo(1 / (shown * devicePixelRatio), width / 2, height / 2);
  }

  fit() {
    this.stage.classList.remove("exact");
    this.zoom = 1;
    this.show();
  }

  wheel(event) {
    if (!this.stage.classList.contains("busy")) return;
    event.preventDefault();
    const box = this.stage.getBoundingClientRect();
    this.zoomTo(this.zoom * Math.exp(-event.deltaY / 300), event.clientX - box.left, event.clientY - box.top);
  }

  // Near the divider a drag moves it, elsewhere the picture.
  grab(event) {
    const box = this.stage.getBoundingClientRect();
    const near = Math.abs(event.clientX - box.left - (Number(this.divider.value) / 100) * box.width) < 24 || this.zoom === 1;
    let { clientX, clientY } = event;
    const move = (next) => {
      if (near) return this.divide(Math.min(100, Math.max(0, ((next.clientX - box.left) / box.width) * 100)));
      this.x += next.clientX - clientX;
      this.y += next.clientY - clientY;
      ({ clientX, clientY } = next);
      this.show();
    };
    this.stage.setPointerCapture(event.pointerId);
    this.stage.addEventListener("pointermove", move);
    this.stage.addEventListener("pointerup", () => this.stage.removeEventListener("pointermove", move), { once: true });
    this.stage.addEventListener("pointercancel", () => this.stage.removeEventListener("pointermove", move), { once: true });
  }

  pressed(event) {
    const { width, height } = this.stage.getBoundingClientRect(), step = event.shiftKey ? 10 : 2;
    const keys = {
      ArrowLeft: () => this.divide(Number(this.divider.value) - step),
      ArrowRight: () => this.divide(Number(this.divider.value) + step),
      "+": () => this.zoomTo(this.zoom * 1.5, width / 2, height / 2),
      "-": () => this.zoomTo(this.zoom / 1.5, width / 2, height / 2),
      0: () => this.fit(),
    };
    if (!(event.key in keys)) return;
    event.preventDefault();
    keys[event.key]();
  }

  // The original, as large as the result, on the left; the result on the right.
  async still() {
    const { videoWidth: width, videoHeight: height } = this.upscaled;
    if (!width) return null;
    const canvas = Object.assign(document.createElement("canvas"), { width: 2 * width, height });
    const picture = canvas.getContext("2d");
    picture.drawImage(this.original, 0, 0, width, height);
    picture.drawImage(this.upscaled, width, 0, width, height);
    return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  }
}
