// Plays the tracks of a result while it is produced: one SourceBuffer per track, filled in the order in which fragments arrive.
const WAIT_FOR_SOUND = 1500; // ms after the first video fragment: buffers cannot be added once playback has started
const KEPT_SECONDS = 30; // of played video
const APPENDED = 4 << 20; // bytes per append: the rest waits here until the browser has room for it
const LIVE_SECONDS = 0.6; // maximum delay of live video behind the newest frame

export class Player {
  // onTooLarge(why): called if the browser cannot play a video of this size; it may play a smaller one.
  constructor(video, { live, onError, onTooLarge }) {
    this.video = video;
    this.live = live;
    this.onError = onError;
    this.onTooLarge = onTooLarge;
    this.tracks = new Map(); // name -> { codec, start, parts, buffer }
    this.media = new MediaSource();
    this.video.src = URL.createObjectURL(this.media);
    this.ready = false;
    this.opened = new Promise((resolve) => this.media.addEventListener("sourceopen", resolve, { once: true }));
    this.timer = setInterval(() => this.keepUp(), 250);
  }

  track({ name, codec, type, start_seconds: start }, init) {
    this.tracks.set(name, { type, codec, start: start ?? 0, parts: [init], buffer: null });
  }

  async fragment(name, data) {
    const track = this.tracks.get(name);
    if (!track) return;
    track.parts.push(data);
    if (!this.ready && name === "video") this.starting ??= this.begin();
    this.feed(track);
  }

  async begin() {
    await this.opened;
    if (!this.live && ![...this.tracks.keys()].some((name) => name !== "video")) await pause(WAIT_FOR_SOUND);
    for (const [name, track] of this.tracks) {
      if (!track.type || !MediaSource.isTypeSupported(track.type)) {
        if (name === "video") return this.onTooLarge(`This browser cannot play ${track.codec} (${track.type ?? "unknown"}) of this size.`);
        continue;
      }
      if (name !== "video" && !name.startsWith("audio0")) continue; // browsers play one audio track
      track.buffer = this.media.addSourceBuffer(track.type);
      track.buffer.timestampOffset = track.start;
      track.buffer.addEventListener("updateend", () => this.feed(track));
    }
    this.ready = true;
    for (const track of this.tracks.values()) this.feed(track);
    this.video.play().catch(() => {});
  }

  feed(track) {
    const { buffer, parts } = track;
    if (!this.ready || !buffer || buffer.updating || this.media.readyState === "closed") return;
    if (!parts.length) {
      if (this.ended) this.finish();
      return;
    }
    const count = within(parts, APPENDED);
    try {
      buffer.appendBuffer(joined(parts.slice(0, count)));
      parts.splice(0, count);
    } catch (error) {
      if (error.name !== "QuotaExceededError") return this.onError(`the picture cannot be shown (${error.message})`);
      const waits = !this.video.buffered.length || this.video.buffered.end(this.video.buffered.length - 1) < this.video.currentTime + 1;
      this.forget(buffer, waits ? 1 : KEPT_SECONDS / 2);
    }
  }

  // Removes what was played more than `seconds` ago. That must be more than a segment, or the shown frame would be removed with its
  // keyframe, unless no more data follows. If there is nothing to remove yet, keepUp tries again.
  forget(buffer, seconds) {
    const upto = this.video.currentTime - seconds;
    if (buffer.buffered.length && buffer.buffered.start(0) < upto) buffer.remove(0, upto);
  }

  end() {
    this.ended = true;
    this.finish();
  }

  finish() {
    const waits = [...this.tracks.values()].some((track) => track.buffer && (track.buffer.updating || track.parts.length));
    if (this.ready && !waits && this.media.readyState === "open") this.media.endOfStream();
  }

  // Skips dropped frames, keeps a live source near its newest frame, and removes what was played.
  keepUp() {
    const { video } = this, ranges = video.buffered;
    if (!ranges.length || video.paused) return;
    const now = video.currentTime, last = ranges.end(ranges.length - 1);
    if (this.live && last - now > LIVE_SECONDS) video.currentTime = last - 0.1;
    else if (![...Array(ranges.length).keys()].some((n) => ranges.start(n) <= now && now < ranges.end(n))) {
      for (let n = 0; n < ranges.length; n++) if (ranges.start(n) > now) return void (video.currentTime = ranges.start(n));
    }
    const buffer = this.tracks.get("video")?.buffer;
    if (this.live && buffer && !buffer.updating && now - ranges.start(0) > KEPT_SECONDS) this.forget(buffer, KEPT_SECONDS / 2);
    for (const track of this.tracks.values()) this.feed(track);
  }

  close() {
    clearInterval(this.timer);
    URL.revokeObjectURL(this.video.src);
    this.video.removeAttribute("src");
    this.video.load();
  }
}

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

// Returns how many of the parts fit into `bytes`; at least one.
function within(parts, bytes) {
  let count = 1, sum = parts[0].byteLength;
  while (count < parts.length && (sum += parts[count].byteLength) <= bytes) count++;
  return count;
}

function joined(parts) {
  const whole = new Uint8Array(parts.reduce((size, part) => size + part.byteLength, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(new Uint8Array(part), at);
    at += part.byteLength;
  }
  return whole;
}
