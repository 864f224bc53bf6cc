// The list of a key's jobs. The server reports changes over the same socket that API clients use.
import { call, key, socket } from "./api.js";

const WORDS = { pending: "waiting", processing: "running", done: "done", error: "failed" };
const RECONNECT = 5000; // ms before a lost socket is reopened

export class JobList {
  // on: {watch(id), play(url), error(text)}
  constructor(byId, on) {
    this.rows = byId("jobs");
    this.empty = byId("empty");
    this.on = on;
  }

  async start() {
    await this.refresh();
    this.listen();
  }

  async refresh() {
    const { data, channel } = await call("GET", "/api/v2/jobs?limit=20");
    this.channel = channel;
    this.empty.hidden = data.length > 0;
    const here = this.rows.contains(document.activeElement) && document.activeElement.ariaLabel; // the focused element
    this.rows.replaceChildren(...data.map((job) => this.row(job)));
    if (here) ([...this.rows.querySelectorAll("[aria-label]")].find(({ ariaLabel }) => ariaLabel === here) ?? this.rows.closest("[tabindex]")).focus();
  }

  row(job) {
    const row = Object.assign(document.createElement("tr"), { job });
    row.dataset.id = job.request_id;
    row.dataset.status = job.status;
    const started = job.created_at ? new Date(job.created_at).toLocaleTimeString() : "–";
    const cells = [started, `${job.model}${job.live ? " (live)" : ""}`, this.status(job), this.actions(job)];
    row.append(...cells.map((content) => cell(content)));
    return row;
  }

  status(job) {
    if (job.status === "error") return job.error_reason === "CANCELLED" ? "cancelled" : `failed: ${job.error_message ?? ""}`;
    return job.status === "processing" ? `running${job.live ? "" : `, ${Math.round(job.progress)} %${remaining(job)}`}` : WORDS[job.status];
  }

  actions(job) {
    const shown = document.createDocumentFragment(), id = job.request_id;
    const addButton = (text, act) => {
      const button = Object.assign(document.createElement("button"), { type: "button", textContent: text, ariaLabel: `${text} job ${id}` });
      button.addEventListener("click", () => Promise.resolve(act()).catch((error) => this.on.error(error.message)));
      shown.append(button);
    };
    if (job.result_url) {
      addButton("Play", () => this.on.play(job));
      shown.append(Object.assign(document.createElement("a"), { href: job.result_url, download: `${id}.mp4`, textContent: "Download", ariaLabel: `Download job ${id}` }));
    }
    const ended = job.status === "done" || job.status === "error";
    if (!ended) {
      addButton("Watch", () => this.on.watch(id, job.live));
      addButton("Cancel", () => call("POST", `/api/v2/jobs/${id}/cancel`).then(() => this.refresh()));
    } else addButton("Delete", () => call("DELETE", `/api/v2/jobs/${id}`).then(() => this.refresh()));
    return shown;
  }

  async subscribe(events, id) {
    const form = new URLSearchParams({ socket_id: id, channel_name: this.channel });
    const { auth } = await call("POST", "/broadcasting/auth", form);
    events.send(JSON.stringify({ event: "pusher:subscribe", data: { channel: this.channel, auth } }));
  }

  changed({ request_id: id, status, progress }) {
    const row = [...this.rows.children].find((row) => row.dataset.id === id);
    if (row && status === "processing" && row.dataset.status === status) row.children[2].textContent = this.status({ ...row.job, status, progress });
    else this.refresh().catch(() => {});
  }

  listen() {
    const events = socket(`/app/upres?protocol=7&client=page`);
    events.onmessage = async ({ data }) => {
      const { event, data: text } = JSON.parse(data);
      if (event === "pusher:ping") events.send(JSON.stringify({ event: "pusher:pong" }));
      else if (event === "pusher:connection_established") await this.subscribe(events, JSON.parse(text).socket_id);
      else if (event === "pusher_internal:subscription_succeeded") this.refresh().catch(() => {}); // what changed before it
      else if (!event.startsWith("pusher")) this.changed(JSON.parse(text));
    };
    events.onclose = () => key() && setTimeout(() => this.refresh().then(() => this.listen()).catch(() => this.listen()), RECONNECT);
  }
}

// Returns the estimated remaining time at the current speed; empty while it is too early for an estimate.
function remaining({ started_at: started, progress }) {
  const seconds = ((Date.now() - new Date(started)) / 1000) * (100 / progress - 1);
  if (!started || progress < 2 || !Number.isFinite(seconds)) return "";
  return seconds < 90 ? `, ${Math.max(1, Math.round(seconds))} s left` : `, ${Math.round(seconds / 60)} min left`;
}

function cell(content) {
  const element = document.createElement("td");
  element.append(content);
  return element;
}
