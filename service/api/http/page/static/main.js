// Puts the page together: the key, the live preview, the jobs.
import { call, forgetKey, keepKey, key, takeKeyFromLink, upload } from "./api.js";
import { Compare } from "./compare.js";
import { Facts } from "./facts.js";
import { JobList } from "./jobs.js";
import { Player } from "./player.js";
import { Session } from "./session.js";

const byId = (name) => document.getElementById(name);
const original = byId("original"), upscaled = byId("upscaled"), stage = byId("stage");
const RECORDED = ["video/webm;codecs=vp8", "video/webm", "video/mp4"]; // what a camera is recorded as, best first
const SLICE = 100; // ms of the camera in one message
const APART = 0.15; // seconds by which the original may be beside the upscaled picture

const compare = new Compare({ stage, pictures: byId("pictures"), line: byId("line"), divider: byId("divider"), original, upscaled });
const facts = new Facts(byId);
const jobs = new JobList(byId, { watch: (id, live) => watch(id, { live }), play, error: fail });
const originals = new Map(); // job → the file that it was made of, as long as this tab is open
const AGAIN = 500, TRIES = 40; // ms between tries, while the job that this one takes the place of is still ending
let tries = 0, said = ""; // said: why it was started again
let running = null; // what is shown: { session, player, source, restart }; before that { sending } or nothing yet

function fail(text) {
  byId("message").textContent = text;
  byId("message").hidden = !text;
}

async function open() {
  if (!key()) return void (byId("key-form").hidden = false);
  try {
    await models();
    await streams();
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

async function models() {
  const { data } = await call("GET", "/api/v2/models?limit=50");
  if (!data.length) throw new Error("No model is loaded yet; open this page again in a moment.");
  byId("model").replaceChildren(...data.map((model) => Object.assign(new Option(model.name, model.slug), { limits: model.info.limits })));
  const light = data.find((model) => model.slug.endsWith("x2"));
  if (light) byId("model").value = light.slug;
  byId("then").replaceChildren(new Option("none", ""), ...data.map((model) => new Option(model.name, model.slug)));
  scales();
}

// What the operator lets the server pull by itself; a name is all that is known of it here.
async function streams() {
  const { data } = await call("GET", "/api/v2/live/sources");
  byId("stream-label").hidden = !data.length;
  byId("stream").replaceChildren(new Option("choose…", ""), ...data.map(({ name }) => new Option(name, name)));
}

function scales() {
  const { min_scale: least, max_scale: most } = byId("model").selectedOptions[0].limits;
  byId("scale-label").hidden = !most;
  if (most) byId("scale").replaceChildren(...Array.from({ length: most - least + 1 }, (_, n) => new Option(`${least + n}x`, least + n)));
}

// Of what comes live: late frames are left out, and where that is wished, a lighter network works while there are any.
const live = () => ({ ...settings(), models: undefined, when_slow: "drop", step_down: byId("step-down").checked });

function settings() {
  const chosen = { model: byId("model").value };
  if (byId("then").value) chosen.models = [chosen.model, byId("then").value];
  if (byId("content").value) chosen.content = byId("content").value;
  if (!byId("scale-label").hidden) chosen.scale = Number(byId("scale").value);
  if (byId("prefilter").value) chosen.prefilters = [byId("prefilter").value];
  return chosen;
}

// A file is a job: it is sent whole, and watched while it is made. instead: the job that it takes the place of, or would wait for.
async function file(chosen, instead) {
  stop();
  if (instead) call("POST", `/api/v2/jobs/${instead}/cancel`).catch(() => {}); // it may be done
  const sending = new AbortController();
  running = { sending, restart: () => file(chosen) };
  original.src = URL.createObjectURL(chosen);
  const form = new FormData();
  for (const [name, value] of Object.entries(settings())) form.append(name, value);
  form.append("video", chosen);
  stage.classList.add("busy");
  byId("stop").disabled = false;
  try {
    const sent = (part) => (byId("made").textContent = `${Math.round(100 * part)} % sent`);
    const { data } = await upload("/api/v2/videos/upscales", form, sent, sending.signal);
    originals.set(data.request_id, chosen);
    watch(data.request_id, { live: false, restart: () => file(chosen, data.request_id) });
    jobs.refresh();
  } catch (error) {
    stop();
    fail(error.message);
  }
}

// A camera is a live source: what is recorded goes to the server as it comes, and what it drops is never waited for.
async function camera() {
  stop();
  const mine = (running = {});
  try {
    const source = (mine.source = await navigator.mediaDevices.getUserMedia({ video: { width: 320, height: 240 }, audio: false }));
    if (running !== mine) return release(mine); // something else was chosen meanwhile
    original.src = "";
    original.srcObject = source;
    await original.play();
    if (running !== mine) return;
    const recorder = new MediaRecorder(source, { mimeType: RECORDED.find((type) => MediaRecorder.isTypeSupported(type)) });
    const session = watch(null, { live: true, source, restart: camera, first: { start: live() } });
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
  compare.divide(0); // there is no original here to compare with
  watch(null, { live: true, restart: () => stream(name), first: { start: { ...live(), live_source: name } } });
}

function watch(id, { live, source = null, restart = null, first = { attach: id } }) {
  if (!source && !restart) stop();
  fail(said);
  said = "";
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
      if (!again || !first.start || !restart || tries++ >= TRIES) return fail(text);
      setTimeout(() => running?.session === session && restart(), AGAIN);
    },
    end: () => void (release(running), document.body.classList.contains("only") || jobs.refresh().catch(() => {})),
  });
  running = { session, player, source, restart };
  stage.classList.add("busy");
  byId("stop").disabled = false;
  return session;
}

// Starts again with the next smaller result that can be chosen.
function smaller(why) {
  const { restart } = running, scale = byId("scale"), model = byId("model");
  const hasScale = !byId("scale-label").hidden && scale.selectedIndex > 0;
  const light = [...model.options].find((option) => option.value.endsWith("x2"));
  if (!restart || !(hasScale || (light && model.value !== light.value))) return fail(`${why} Choose a smaller scale.`);
  if (hasScale) scale.selectedIndex -= 1;
  else {
    model.value = light.value;
    scales();
  }
  said = `${why} It is made smaller: ${model.selectedOptions[0].text}${hasScale ? `, ${scale.selectedOptions[0].text}` : ""}.`;
  restart();
}

// What the server measures on a file that was sent, once all of it is there.
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
    window.prompt("The stream's address", address); // a page that came without TLS may not copy
  }
}

async function play(job) {
  stop();
  const before = originals.get(job.request_id);
  if (before) original.src = URL.createObjectURL(before);
  upscaled.src = job.result_url;
  stage.classList.add("busy");
  byId("stop").disabled = false;
  compare.divide(before ? 50 : 0);
  await upscaled.play();
}

// Of what has ended: the camera is switched off, and no choice starts it again.
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
  compare.both();
  byId("stop").disabled = byId("advice").hidden = true;
  byId("address").textContent = "Copy the stream's address";
  byId("stream").value = "";
}

// The original follows the upscaled picture, which may have to wait for the server.
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
  scales();
  running?.restart?.();
});
on("step-down", "change", () => running?.player?.live && running.restart?.()); // of a file nothing is left out
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
    if (event === "drop" && !wanted && dropped.dataTransfer.files[0]) file(dropped.dataTransfer.files[0]);
  });
}
setInterval(follow, 200);
// A link that names a live result shows that and nothing else.
function only(id) {
  document.body.classList.add("only");
  byId("studio").hidden = false;
  compare.divide(0);
  watch(id, { live: true });
}

const wanted = takeKeyFromLink();
if (wanted) only(wanted);
else open();
