// Asks the server. Errors are ApiError; an aborted request throws AbortError.

/** An error of the server, or of the way to it. `code` is a short name of its kind. */
export class ApiError extends Error {
  constructor(status, message, code = null) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** Return the served models that write text: [{id, max_model_len}]. */
export async function models() {
  const all = (await (await send("/v1/models")).json()).data;
  return all.filter((one) => one.embedding_dimensions === undefined);
}

/** Return how many tokens a request's prompt has, and whether it fits: {prompt_tokens, context, fits}. */
export async function dryRun(body, signal) {
  return (await post("/v1/chat/completions/dry-run", body, signal)).json();
}

/** Have the server read a file. Return {name, text, tokens, notes}. */
export async function readDocument(file, model) {
  const headers = { "content-type": "application/octet-stream", "x-file-name": encodeURIComponent(file.name), "x-model": model };
  return (await send("/documents", { method: "POST", headers, body: file })).json();
}

/** Yield the parts of an answer: {text, reasoning, finish, usage}, each if there is one. */
export async function* answer(body, signal) {
  const options = { stream: true, stream_options: { include_usage: true } };
  const response = await post("/v1/chat/completions", { ...body, ...options }, signal);
  for await (const chunk of events(response)) {
    if (chunk.error) throw new ApiError(500, chunk.error.message, chunk.error.code);
    const choice = chunk.choices[0];
    yield {
      text: choice?.delta.content ?? "",
      reasoning: choice?.delta.reasoning_content ?? "",
      finish: choice?.finish_reason ?? null,
      usage: chunk.usage ?? null,
    };
  }
}

/** Yield the JSON values of server-sent events, up to [DONE]. */
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read().catch(broken);
    if (done) throw new ApiError(0, "the connection broke", "cut");
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      if (!part.startsWith("data: ")) continue; // a comment, which keeps the connection alive
      if (part === "data: [DONE]") return;
      yield JSON.parse(part.slice(6));
    }
  }
}

function broken(error) {
  if (error.name === "AbortError") throw error;
  return { done: true };
}

function post(path, body, signal) {
  return send(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body), signal });
}

async function send(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { credentials: "same-origin", cache: "no-store", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "the server does not answer", "unreachable");
  }
  if (response.ok) return response;
  const error = (await response.json().catch(() => null))?.error;
  throw new ApiError(response.status, error?.message ?? `the server answered with status ${response.status}`, error?.code);
}
