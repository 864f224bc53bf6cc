// The settings of the next run: model, scale, network, pre-filter, second model and stream.
import { call } from "./api.js";

export const byId = (name) => document.getElementById(name);

// Loads the models that the server can run.
export async function loadModels() {
  const { data } = await call("GET", "/api/v2/models?limit=50");
  if (!data.length) throw new Error("No model is loaded yet; reload this page in a moment.");
  byId("model").replaceChildren(...data.map((model) => Object.assign(new Option(model.name, model.slug), { limits: model.info.limits })));
  const light = data.find((model) => model.slug.endsWith("x2"));
  if (light) byId("model").value = light.slug;
  byId("then").replaceChildren(new Option("none", ""), ...data.map((model) => new Option(model.name, model.slug)));
  showScales();
}

// Loads the names of the streams that the server can pull.
export async function loadStreams() {
  const { data } = await call("GET", "/api/v2/live/sources");
  byId("stream-label").hidden = !data.length;
  byId("stream").replaceChildren(new Option("choose…", ""), ...data.map(({ name }) => new Option(name, name)));
}

// Shows the scales of the selected model, if it has several.
export function showScales() {
  const { min_scale: least, max_scale: most } = byId("model").selectedOptions[0].limits;
  byId("scale-label").hidden = !most;
  if (most) byId("scale").replaceChildren(...Array.from({ length: most - least + 1 }, (_, n) => new Option(`${least + n}x`, least + n)));
}

// Settings for live sources: late frames are dropped, and optionally a lighter network is used while frames are late.
export const liveSettings = () => ({ ...settings(), models: undefined, when_slow: "drop", step_down: byId("step-down").checked });

export function settings() {
  const chosen = { model: byId("model").value };
  if (byId("then").value) chosen.models = [chosen.model, byId("then").value];
  if (byId("content").value) chosen.content = byId("content").value;
  if (!byId("scale-label").hidden) chosen.scale = Number(byId("scale").value);
  if (byId("prefilter").value) chosen.prefilters = [byId("prefilter").value];
  return chosen;
}
