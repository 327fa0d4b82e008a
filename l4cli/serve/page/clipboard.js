// Copies texts. Pages that are not served over HTTPS or from this machine have no navigator.clipboard.

import { icon } from "./dom.js";
import { say } from "./speaker.js";

/** Copy a text, and show on a button that it is done. */
export async function copy(text, button) {
  const isDone = await write(text);
  say(isDone ? "Copied." : "The browser did not allow copying.");
  if (!isDone) return;
  const drawing = button.querySelector("svg");
  const done = icon("done");
  drawing.replaceWith(done);
  setTimeout(() => done.replaceWith(drawing), 1500);
}

async function write(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return writeByCommand(text);
  }
}

function writeByCommand(text) {
  const focused = document.activeElement;
  const field = document.createElement("textarea");
  field.value = text;
  field.className = "unseen";
  document.body.append(field);
  field.select();
  const isDone = document.execCommand("copy");
  field.remove();
  focused?.focus();
  return isDone;
}
