// Errors in words: what happened, and what to do about it.

import { ApiError } from "./api.js";

const TODO = {
  context_length_exceeded:
    "Begin a new conversation, take documents out, or edit an earlier message. A larger context: start l4 serve with --ctx.",
  queue_full: "Others are being answered. Try again in a moment.",
  timeout: "Ask for a shorter answer, or set “Longest answer” in the settings.",
  model_not_found: "Choose another model in the settings.",
  body_too_large: "Send a smaller file, or fewer documents at once.",
  origin_refused: "",
  host_refused: "",
};

/** Return {what, todo, canRetry, needsKey} for anything that was thrown. */
export function inWords(error) {
  if (!(error instanceof ApiError)) {
    return { what: `Something in this page failed: ${error?.message ?? error}.`, todo: "Reload the page; the conversation is kept.", canRetry: true };
  }
  if (error.code === "unreachable") {
    return { what: "The server does not answer.", todo: "Is l4 serve still running? Start it again, and try once more.", canRetry: true };
  }
  if (error.code === "cut") {
    return { what: "The connection broke before the answer was finished.", todo: "What arrived is kept. Try again for a whole answer.", canRetry: true };
  }
  if (error.status === 401) {
    return { what: "The server wants its key.", todo: "It has been started anew, perhaps. Sign in again; the conversation is kept.", needsKey: true };
  }
  return { what: sentence(error.message), todo: TODO[error.code] ?? usual(error), canRetry: error.status >= 500 };
}

function usual(error) {
  if (error.code === "bug") return "This should not happen. The server goes on; try again.";
  if (error.status >= 500) return "The message is kept. Try again; if it happens again, look at the server's terminal.";
  return "Change the message or the settings, and try again.";
}

function sentence(text) {
  const first = text.replace(/^[a-z](?=[a-z]* )/, (letter) => letter.toUpperCase()); // no name of a file
  return /[.!?…]$/.test(first) ? first : `${first}.`;
}

/** Return a number with separators: 16,384. */
export function amount(number) {
  return number.toLocaleString("en");
}

/** Return a count with its unit: 1 token, 2 tokens. */
export function counted(number, unit) {
  return `${amount(number)} ${unit}${number === 1 ? "" : "s"}`;
}
