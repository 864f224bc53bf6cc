// The page's main module: the key, the live preview and the list of jobs.
import { call, forgetKey, keepKey, key, takeKeyFromLink, upload } from "./api.js";
import { byId, liveSettings, loadModels, loadStreams, settings, showScales } from "./choices.js";
import { Compare } from "./compare.js";
import { Facts } from "./facts.js";
import { JobList } from "./jobs.js";
import { Player } from "./player.js";
import { Session } from "./session.js";

const original = byId("original"), upscaled = byId("upscaled"), stage = byId("stage");
const RECORDED = ["video/webm;codecs=vp8", "video/webm", "video/mp4"]; // formats for recording a camera, in order of preference
const SLICE = 100; // ms of camera video per message
const APART = 0.15; // maximum offset in seconds between the original and the upscaled video

const compare = new Compare({ stage, pictures: byId("pictures"), line: byId("line"), divider: byId("divider"), original, upscaled });
const facts = new Facts(byId);
const jobs = new JobList(byId, { watch: (id, live) => watch(id, { live }), play, error: fail });
const originals = new Map(); // job → its source file, while this tab is open
const RETRY_DELAY = 500, RETRIES = 40; // retries, with the ms in between, while a replaced job is still ending
let tries = 0, restartReason = ""; // restartReason: shown after a restart
let running = null; // the current run: { session, player, source, restart }, or { sending } during an upload

function fail(text) {
  byId("message").textContent = text;
  byId("message").hidden = !text;
}

async function open() {
  if (!key()) return void (byId("key-form").hidden = false);
  try {
    await loadModels();
    await loadStreams();
    byId("key-form").hidden = true;
    byId("studio").hidden = byId("list").hidden = false;
    fail("");
    await jobs.start();
  } catch (error) {
    if (error.status === 401) forgetKey();
    byId("key-form").hidden = false;
    fail(error.message);
  }
}

// Uploads a file as a job, and watches it. instead: the job that this one replaces, or would have to wait for.
async function file(chosen, instead) {
  stop();
  if (instead) call("POST", `/api/v2/jobs/${instead}/cancel`).catch(() => {}); // it may have ended
  const sending = new AbortController();
  running = { sending, restart: () => file(chosen) };
  original.src = URL.createObjectURL(chosen);
  const form = new FormData();
  for (const [name, value] of Object.entries(settings())) form.append(name, value);
  form.append("video", chosen);
  stage.classList.add("busy");
  byId("stop").disabled = false;
  try {
    const sent = (part) => (byId("progress").textContent = `${Math.round(100 * part)} % sent`);
    const { data } = await upload("/api/v2/videos/upscales", form, sent, sending.signal);
    originals.set(data.request_id, chosen);
    watch(data.request_id, { live: false, restart: () => file(chosen, data.request_id) });
    jobs.refresh();
  } catch (error) {
    stop();
    fail(error.message);
  }
}

// Starts a live job from the camera: the recording is sent while it is made, and late frames are dropped.
async function camera() {
  stop();
  const mine = (running = {});
  try {
    const source = (mine.source = await navigator.mediaDevices.getUserMedia({ video: { width: 320, height: 240 }, audio: false }));
    if (running !== mine) return release(mine); // another source was chosen in the meantime
    original.src = "";
    original.srcObject = source;
    await original.play();
    if (running !== mine) return;
    const recorder = new MediaRecorder(source, { mimeType: RECORDED.find((type) => MediaRecorder.isTypeSupported(type)) });
    const session = watch(null, { live: true, source, restart: camera, first: { start: liveSettings() } });
    recorder.ondataavailable = ({ data }) => data.size && session.send(data);
    recorder.onstop = () => session.endSource();
    session.socket.addEventListener("open", () => recorder.start(SLICE));
    session.socket.addEventListener("close", () => recorder.state !== "inactive" && recorder.stop());
    running.recorder = recorder;
  } catch (error) {
    if (running !== mine) return;
    stop();
    fail(`The camera cannot be used: ${error.message}`);
  }
}

function stream(name) {
  stop();
  if (!name) return;
  byId("stream").value = name;
  watch(null, { live: true, restart: () => stream(name), first: { start: { ...liveSettings(), live_source: name } } });
}

function watch(id, { live, source = null, restart = null, first = { attach: id } }) {
  if (!source && !restart) {
    stop();
    showOriginal(id);
  }
  fail(restartReason);
  restartReason = "";
  facts.reset(live);
  const player = new Player(upscaled, { live, onError: fail, onTooLarge: (why) => smaller(why) });
  const session = new Session(first, player, {
    accepted: ({ request_id: accepted, hls }) => {
      tries = 0;
      running.id = accepted;
      running.address = hls && new URL(hls, location.href).href;
      byId("address").hidden = !hls;
      if (!live) advise(accepted);
    },
    progress: (progress) => {
      facts.progress(progress);
      if (progress.error && progress.error.reason !== "CANCELLED") fail(progress.error.message);
    },
    dropped: (lost) => facts.dropped(lost),
    error: (text, again) => {
      if (!again || !first.start || !restart || tries++ >= RETRIES) return fail(text);
      setTimeout(() => running?.session === session && restart(), RETRY_DELAY);
    },
    end: () => void (release(running), document.body.classList.contains("only") || jobs.refresh().catch(() => {})),
  });
  running = { session, player, source, restart };
  stage.classList.add("busy");
  byId("stop").disabled = false;
  return session;
}

// Restarts with the next smaller result that can be selected.
function smaller(why) {
  const { restart } = running, scale = byId("scale"), model = byId("model");
  const hasScale = !byId("scale-label").hidden && scale.selectedIndex > 0;
  const light = [...model.options].find((option) => option.value.endsWith("x2"));
  if (!restart || !(hasScale || (light && model.value !== light.value))) return fail(`${why} Choose a smaller scale.`);
  if (hasScale) scale.selectedIndex -= 1;
  else {
    model.value = light.value;
    showScales();
  }
  restartReason = `${why} The result is made smaller: ${model.selectedOptions[0].text}${hasScale ? `, ${scale.selectedOptions[0].text}` : ""}.`;
  restart();
}

// Shows the server's advice on an uploaded file, once the upload is complete.
async function advise(id) {
  const { data } = await call("GET", `/api/v2/jobs/${id}/advice`).catch(() => ({}));
  if (!data || running?.id !== id) return;
  byId("measured").textContent = `Interlaced: ${data.interlaced}. Compression blocks: ${data.blocks}. Noise: ${data.noise}.`;
  const item = ({ say }) => Object.assign(document.createElement("li"), { textContent: say });
  byId("rules").replaceChildren(...data.advice.map(item));
  byId("advice").hidden = false;
}

async function copyAddress() {
  const { address } = running;
  try {
    await navigator.clipboard.writeText(address);
    byId("address").textContent = "Copied";
  } catch {
    window.prompt("The stream's address", address); // a page without TLS may not access the clipboard
  }
}

// Shows a job's source file next to its result, if it was uploaded in this tab.
function showOriginal(id) {
  const before = originals.get(id);
  if (before) original.src = URL.createObjectURL(before);
}

async function play(job) {
  stop();
  showOriginal(job.request_id);
  upscaled.src = job.result_url;
  stage.classList.add("busy");
  byId("stop").disabled = false;
  await upscaled.play();
}

// Releases what an ended run holds: the camera is switched off, and changed settings no longer restart it.
function release(over) {
  for (const track of over.source?.getTracks() ?? []) track.stop();
  if (over.player?.live) over.restart = null;
  byId("address").hidden = true;
}

function stop() {
  if (running) {
    if (running.recorder?.state === "recording") running.recorder.stop();
    release(running);
    running.sending?.abort();
    running.session?.close();
    running.player?.close();
    running = null;
  }
  for (const video of [original, upscaled]) {
    video.srcObject = null;
    video.removeAttribute("src");
    video.load();
  }
  stage.classList.remove("busy");
  facts.reset();
  byId("stop").disabled = byId("advice").hidden = true;
  byId("address").textContent = "Copy the stream's address";
  byId("stream").value = "";
}

// Keeps the original in sync with the upscaled video, which may have to wait for the server.
function follow() {
  facts.size(original, upscaled);
  if (original.srcObject || !original.src || !upscaled.src) return;
  const waits = upscaled.paused || upscaled.readyState < HTMLMediaElement.HAVE_FUTURE_DATA;
  if (Math.abs(original.currentTime - upscaled.currentTime) > (waits ? 0.01 : APART)) original.currentTime = upscaled.currentTime;
  if (waits) original.pause();
  else original.play().catch(() => {});
}

async function still() {
  const picture = await compare.still();
  if (!picture) return;
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(picture), download: "upres.png" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

const on = (name, event, act) => byId(name).addEventListener(event, act);
on("key-form", "submit", (event) => {
  event.preventDefault();
  keepKey(byId("key").value.trim());
  open();
});
on("choose", "click", () => byId("file").click());
on("file", "change", () => byId("file").files[0] && file(byId("file").files[0]));
on("camera", "click", camera);
on("stream", "change", () => stream(byId("stream").value));
on("stop", "click", stop);
on("model", "change", () => {
  showScales();
  running?.restart?.();
});
on("step-down", "change", () => running?.player?.live && running.restart?.()); // frames of a file are never dropped
for (const name of ["scale", "then", "content", "prefilter"]) on(name, "change", () => running?.restart?.());
on("play", "click", () => {
  if (upscaled.paused) upscaled.play().catch(() => {});
  else upscaled.pause();
});
for (const event of ["play", "pause"]) upscaled.addEventListener(event, () => (byId("play").textContent = upscaled.paused ? "Play" : "Pause"));
on("sound", "click", () => {
  upscaled.muted = !upscaled.muted;
  byId("sound").setAttribute("aria-pressed", !upscaled.muted);
});
on("fit", "click", () => compare.fit());
on("exact", "click", () => compare.exact());
on("still", "click", still);
on("address", "click", copyAddress);
for (const event of ["dragover", "dragleave", "drop"]) {
  stage.addEventListener(event, (dropped) => {
    dropped.preventDefault();
    stage.classList.toggle("over", event === "dragover");
    if (event === "drop" && !watchedId && dropped.dataTransfer.files[0]) file(dropped.dataTransfer.files[0]);
  });
}
setInterval(follow, 200);

// Shows only a live result, for links that name one.
function only(id) {
  document.body.classList.add("only");
  byId("studio").hidden = false;
  watch(id, { live: true });
}

const watchedId = takeKeyFromLink();
if (watchedId) only(watchedId);
else open();
