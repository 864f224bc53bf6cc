// One live socket: passes what the server sends for a job to a player, and to callbacks that show its state.
import { key, sentence, socket } from "./api.js";

const PIECE = 1 << 15; // bytes in one message

export class Session {
  // first: {start: settings} or {attach: id}. on: {accepted, progress, dropped, error(text, seconds until a retry), end}
  constructor(first, player, on) {
    this.player = player;
    this.on = on;
    this.socket = socket("/api/v2/live");
    this.socket.binaryType = "arraybuffer";
    this.socket.onopen = () => this.socket.send(JSON.stringify({ key: key(), ...first }));
    this.socket.onmessage = (event) => this.receive(event.data);
    this.socket.onclose = () => this.finish();
    this.queue = Promise.resolve();
  }

  receive(data) {
    if (data instanceof ArrayBuffer) {
      const { track, fragment } = this.header;
      if (track) this.player.track(track, data);
      else this.player.fragment(fragment.track, data);
      return;
    }
    this.header = JSON.parse(data);
    const { accepted, progress, dropped, error } = this.header;
    if (accepted) this.on.accepted(accepted);
    if (dropped) this.on.dropped(dropped);
    if (progress) this.on.progress(progress);
    if (error) this.on.error(sentence(error, 0), error.retry_seconds);
  }

  // Sends a part of the source, given as a blob, after the previous ones.
  send(blob) {
    this.queue = this.queue.then(async () => {
      const data = await blob.arrayBuffer();
      for (let at = 0; at < data.byteLength && this.open; at += PIECE) this.socket.send(data.slice(at, at + PIECE));
    });
  }

  get open() {
    return this.socket.readyState === WebSocket.OPEN;
  }

  endSource() {
    this.queue = this.queue.then(() => this.open && this.socket.send(JSON.stringify({ end: true })));
  }

  finish() {
    if (this.finished) return;
    this.finished = true;
    this.player.end();
    this.on.end();
  }

  close() {
    this.finished = true;
    this.socket.close();
  }
}
