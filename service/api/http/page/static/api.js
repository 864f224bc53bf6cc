// The server's API for this page. The key is kept in this tab only.
const KEY = "upres.key";

// Stores the key from the link, and returns the id of the job that the link asks to watch. The id stays in the link, so that the
// page can be reloaded.
export function takeKeyFromLink() {
  const link = new URLSearchParams(location.hash.slice(1)), linkedKey = link.get("key");
  if (linkedKey) {
    sessionStorage.setItem(KEY, linkedKey);
    link.delete("key");
    history.replaceState(null, "", location.pathname + (link.size ? `#${link}` : ""));
  }
  return link.get("watch");
}

export const key = () => sessionStorage.getItem(KEY);
export const keepKey = (text) => sessionStorage.setItem(KEY, text);
export const forgetKey = () => sessionStorage.removeItem(KEY);

export async function call(method, path, body) {
  const answer = await fetch(path, { method, body, headers: { Authorization: `Bearer ${key()}`, Accept: "application/json" } });
  const data = await answer.json().catch(() => ({}));
  if (!answer.ok) throw Object.assign(new Error(sentence(data, answer.status)), { status: answer.status });
  return data;
}

// fetch() cannot report upload progress, so this request uses XMLHttpRequest.
// signal: aborts the upload; the promise then stays pending.
export function upload(path, form, onProgress, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", path);
    request.setRequestHeader("Authorization", `Bearer ${key()}`);
    request.responseType = "json";
    request.upload.onprogress = (event) => event.lengthComputable && onProgress(event.loaded / event.total);
    request.onload = () => (request.status < 300 ? resolve(request.response) : reject(new Error(sentence(request.response, request.status))));
    request.onerror = () => reject(new Error("the server cannot be reached"));
    signal.addEventListener("abort", () => request.abort());
    request.send(form);
  });
}

export function socket(path) {
  return new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}${path}`);
}

export function sentence(data, status) {
  if (status === 401) return "The server does not know this key.";
  const fields = Object.values(data?.errors ?? {}).flat();
  return fields.join(" ") || data?.message || `The server responded with status ${status}.`;
}
