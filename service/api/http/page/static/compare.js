// Comparison of two videos in one frame, with a divider between them, common zoom and pan, and a still image of both.
export class Compare {
  constructor(elements) {
    Object.assign(this, elements); // stage, pictures, line, divider, original, upscaled
    this.zoom = 1;
    this.x = this.y = 0;
    this.pointers = new Map(); // pointer → its last position
    this.divider.addEventListener("input", () => this.divide());
    this.stage.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    this.stage.addEventListener("pointerdown", (event) => this.grab(event));
    this.stage.addEventListener("pointermove", (event) => this.drag(event));
    for (const over of ["pointerup", "pointercancel"]) this.stage.addEventListener(over, ({ pointerId }) => this.pointers.delete(pointerId));
    this.stage.addEventListener("keydown", (event) => this.pressed(event));
    for (const event of ["loadedmetadata", "emptied"]) this.original.addEventListener(event, () => this.show());
    new ResizeObserver(() => this.show()).observe(this.stage);
    this.divide();
  }

  divide(percent = Number(this.divider.value)) {
    this.divider.value = percent;
    this.line.style.left = `${percent}%`;
    this.show();
  }

  // Whether there is no original to compare with, or none that the browser can play: the result is then shown undivided.
  get single() {
    return !this.original.videoWidth;
  }

  show() {
    const { width, height } = this.stage.getBoundingClientRect(), { single } = this;
    this.stage.classList.toggle("single", single);
    this.divider.disabled = single;
    const limit = (value, size) => Math.min(0, Math.max(size - size * this.zoom, value));
    this.x = limit(this.x, width);
    this.y = limit(this.y, height);
    this.pictures.style.transform = `translate(${this.x}px, ${this.y}px) scale(${this.zoom})`;
    const cut = single ? 0 : ((Number(this.divider.value) / 100) * width - this.x) / this.zoom;
    this.upscaled.style.clipPath = `inset(0 0 0 ${Math.max(0, cut)}px)`;
    this.original.style.clipPath = `inset(0 ${Math.max(0, width - cut)}px 0 0)`;
  }

  zoomTo(zoom, x, y) {
    const next = Math.min(32, Math.max(1, zoom)), factor = next / this.zoom;
    this.x = x - (x - this.x) * factor;
    this.y = y - (y - this.y) * factor;
    this.zoom = next;
    this.show();
  }

  // Shows one pixel of the result per pixel of the screen.
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
    this.zoomTo(this.zoom * Math.exp(-event.deltaY / 300), ...this.place(event));
  }

  place({ clientX, clientY }) {
    const box = this.stage.getBoundingClientRect();
    return [clientX - box.left, clientY - box.top];
  }

  // Dragging near the divider moves it, elsewhere it moves the picture; two fingers zoom.
  grab(event) {
    const [x, y] = this.place(event), { width } = this.stage.getBoundingClientRect();
    this.divides = !this.single && (this.zoom === 1 || Math.abs(x - (Number(this.divider.value) / 100) * width) < 24);
    this.pointers.set(event.pointerId, [x, y]);
    this.stage.setPointerCapture(event.pointerId);
  }

  drag(event) {
    const before = this.pointers.get(event.pointerId), now = this.place(event);
    if (!before) return;
    const other = [...this.pointers].find(([id]) => id !== event.pointerId)?.[1];
    this.pointers.set(event.pointerId, now);
    if (other) this.zoomTo((this.zoom * apart(now, other)) / apart(before, other), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
    else if (this.divides) this.divide(Math.min(100, Math.max(0, (now[0] / this.stage.getBoundingClientRect().width) * 100)));
    else this.pan(now[0] - before[0], now[1] - before[1]);
  }

  pan(x, y) {
    this.x += x;
    this.y += y;
    this.show();
  }

  pressed(event) {
    const { width, height } = this.stage.getBoundingClientRect(), step = event.shiftKey ? 10 : 2;
    const move = (x, y) => {
      if (this.zoom > 1) this.pan((-x * step * width) / 100, (-y * step * height) / 100);
      else if (!this.single) this.divide(Number(this.divider.value) + x * step);
    };
    const keys = {
      ArrowLeft: () => move(-1, 0),
      ArrowRight: () => move(1, 0),
      ArrowUp: this.zoom > 1 && (() => move(0, -1)),
      ArrowDown: this.zoom > 1 && (() => move(0, 1)),
      "+": () => this.zoomTo(this.zoom * 1.5, width / 2, height / 2),
      "-": () => this.zoomTo(this.zoom / 1.5, width / 2, height / 2),
      0: () => this.fit(),
    };
    if (!keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  }

  // Draws the original, if there is one, scaled to the result's size, on the left, and the result on the right.
  async still() {
    const { videoWidth: width, videoHeight: height } = this.upscaled;
    if (!width) return null;
    const originalWidth = this.original.videoWidth ? width : 0;
    const canvas = Object.assign(document.createElement("canvas"), { width: originalWidth + width, height });
    const picture = canvas.getContext("2d");
    picture.drawImage(this.original, 0, 0, originalWidth, height);
    picture.drawImage(this.upscaled, originalWidth, 0, width, height);
    return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  }
}

const apart = ([x, y], [u, v]) => Math.max(1, Math.hypot(x - u, y - v));
