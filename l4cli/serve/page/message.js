// Draws one message: a question or an answer, its versions, and what can be done with it.

import { copy } from "./clipboard.js";
import { el, icon, iconButton } from "./dom.js";
import { harmless } from "./printable.js";
import { Rendered } from "./render.js";
import { amount, counted } from "./words.js";

const MOST_SHOWN = 100_000; // characters of a document
const ENDS = {
  stopped: "Stopped.",
  length: "Cut off: the answer has as many tokens as it may. “Longest answer” in the settings allows more.",
  interrupted: "Interrupted: the page was closed before the answer was finished.",
};

/** A question. `act` has what can be done: edit, turn. */
export class Question {
  constructor(node, act) {
    this.node = node;
    this.act = act;
    this.said = el("div", { class: "said", dir: "auto" }, harmless(node.content));
    const documents = (node.documents ?? []).map(drawDocument);
    this.versions = el("span", { class: "versions" });
    this.editButton = iconButton("edit", "Edit the question", () => this.beginEdit());
    this.actions = el(
      "footer",
      { class: "actions" },
      this.versions,
      this.editButton,
      iconButton("copy", "Copy the question", (event) => copy(node.content, event.currentTarget)),
    );
    this.article = el("article", { tabindex: -1 }, documents, node.content ? this.said : null, this.actions);
    this.element = el("li", { class: "question", "data-id": node.id }, this.article);
  }

  update({ index, count, isBusy }) {
    this.isBusy = isBusy;
    this.editButton.disabled = isBusy;
    this.article.setAttribute("aria-label", labelOf("You", index, count));
    drawVersions(this, index, count);
  }

  beginEdit() {
    if (this.editor || this.isBusy) return;
    const field = el("textarea", { "aria-label": "Edit the question", dir: "auto", rows: 1 });
    field.value = this.node.content;
    const save = el("button", { type: "submit", class: "primary" }, "Ask");
    const cancel = el("button", { type: "button" }, "Cancel");
    this.editor = el("form", { class: "editor" }, field, el("div", { class: "row" }, cancel, save));
    cancel.addEventListener("click", () => this.endEdit());
    field.addEventListener("input", () => grow(field));
    field.addEventListener("keydown", (event) => {
      if (event.key === "Escape") {
        event.stopPropagation();
        this.endEdit();
      } else if (isSend(event)) {
        event.preventDefault();
        this.editor.requestSubmit();
      }
    });
    this.editor.addEventListener("submit", (event) => {
      event.preventDefault();
      const text = field.value.trim();
      if (!text) return;
      this.endEdit();
      this.act.edit(this.node, text);
    });
    this.article.classList.add("editing");
    this.actions.before(this.editor);
    grow(field);
    field.focus();
  }

  endEdit() {
    this.editor?.remove();
    this.editor = null;
    this.article.classList.remove("editing");
    this.article.focus();
  }
}

/** An answer, which may grow. `act` has what can be done: again, turn, signIn. */
export class Answer {
  constructor(node, act) {
    this.node = node;
    this.act = act;
    this.prose = el("div", { class: "prose" });
    this.rendered = new Rendered(this.prose);
    this.thought = el("div", { class: "prose" });
    this.thoughtRendered = new Rendered(this.thought);
    this.summary = el("summary", {}, "Thinking…");
    this.details = el("details", { class: "thought", hidden: true }, this.summary, this.thought);
    this.details.addEventListener("toggle", () => this.draw());
    this.note = el("p", { class: "note", hidden: true });
    this.waiting = el("p", { class: "waiting", hidden: true }, "Reading…");
    this.error = el("div", { class: "error", role: "alert", hidden: true });
    this.versions = el("span", { class: "versions" });
    this.stats = el("span", { class: "stats" });
    const copyAnswer = (event) => copy(this.node.content, event.currentTarget);
    this.againButton = iconButton("again", "Answer again", () => act.again(node));
    this.actions = el(
      "footer",
      { class: "actions" },
      this.versions,
      this.againButton,
      iconButton("copy", "Copy the answer", copyAnswer),
      this.stats,
    );
    const parts = [this.details, this.prose, this.waiting, this.note, this.error, this.actions];
    this.article = el("article", { tabindex: -1 }, parts);
    this.element = el("li", { class: "answer", "data-id": node.id }, this.article);
  }

  update({ index, count, isGrowing, isBusy }) {
    this.isGrowing = isGrowing;
    this.isBusy = isBusy;
    this.article.setAttribute("aria-label", labelOf(`Answer of ${this.node.model ?? "the model"}`, index, count));
    this.article.setAttribute("aria-busy", String(isGrowing));
    this.element.classList.toggle("growing", isGrowing);
    this.againButton.disabled = isBusy;
    drawVersions(this, index, count);
    this.draw();
    this.drawEnd();
  }

  /** Draw the text as far as it is there. */
  draw() {
    const { content, reasoning } = this.node;
    const isThinking = this.isGrowing && !content;
    this.rendered.update(content, this.isGrowing);
    this.details.hidden = !reasoning;
    if (reasoning) this.summary.textContent = isThinking ? "Thinking…" : "What it thought";
    if (reasoning && this.details.open) this.thoughtRendered.update(reasoning, isThinking);
    this.waiting.hidden = !this.isGrowing || Boolean(content || reasoning);
    this.drawStats();
  }

  drawStats() {
    const stats = this.node.stats;
    const parts = [];
    if (stats?.tokens) parts.push(counted(stats.tokens, "token"));
    if (stats?.rate) parts.push(`${stats.isExact ? "" : "≈ "}${stats.rate < 10 ? stats.rate.toFixed(1) : amount(Math.round(stats.rate))} tokens/s`);
    this.stats.textContent = parts.join(" · ");
    const more = [];
    if (stats?.prompt) more.push(`${counted(stats.prompt, "token")} read, ${amount(stats.cached ?? 0)} of them known already`);
    if (stats?.wait) more.push(`first token after ${stats.wait.toFixed(2)} s`);
    this.stats.title = more.join("; ");
  }

  drawEnd() {
    const { error, finish } = this.node;
    const end = this.isGrowing || error ? null : ENDS[finish ?? "interrupted"];
    this.note.hidden = !end && !isSilent(this);
    this.note.textContent = end ?? "The model ended without a word.";
    this.error.hidden = !error;
    if (!error || this.error.childElementCount) return;
    this.error.append(el("p", {}, el("strong", {}, error.what), " ", error.todo));
    if (error.canRetry) this.addButton("Try again", () => this.act.again(this.node));
    if (error.needsKey) this.addButton("Sign in", () => this.act.signIn());
  }

  addButton(text, onClick) {
    const button = el("button", { type: "button" }, text);
    button.addEventListener("click", onClick);
    this.error.append(button);
  }
}

function isSilent(answer) {
  const { content, reasoning, error } = answer.node;
  return !answer.isGrowing && !error && !content && !reasoning;
}

function labelOf(who, index, count) {
  return count > 1 ? `${who}, version ${index + 1} of ${count}` : who;
}

/** Draw ‹ 2/3 ›; nothing if there is one version only. */
function drawVersions(message, index, count) {
  const state = `${index}/${count}/${message.isBusy}`;
  if (message.versionsDrawn === state) return;
  message.versionsDrawn = state;
  if (count < 2) return message.versions.replaceChildren();
  const turn = (step) => message.act.turn(message.node, step);
  message.versions.replaceChildren(
    iconButton("left", "Earlier version", () => turn(-1), { disabled: index === 0 || message.isBusy, "data-step": -1 }),
    el("span", {}, `${index + 1}/${count}`),
    iconButton("right", "Later version", () => turn(1), { disabled: index === count - 1 || message.isBusy, "data-step": 1 }),
  );
  return undefined;
}

/** Draw a document that unfolds to what the model reads of it. */
export function drawDocument(one) {
  const text = el("pre", { tabindex: 0 });
  const summary = el("summary", {}, icon("attach"), el("bdi", {}, harmless(one.name)), el("span", { class: "stats" }, counted(one.tokens, "token")));
  const notes = (one.notes ?? []).map((note) => el("p", { class: "note" }, harmless(note)));
  const details = el("details", { class: "document" }, summary, notes, text);
  details.addEventListener("toggle", () => {
    const rest = one.text.length - MOST_SHOWN;
    const more = rest > 0 ? `\n… and ${amount(rest)} more characters` : "";
    text.textContent = harmless(one.text.slice(0, MOST_SHOWN)) + more;
  });
  return details;
}

/** Make a field as high as its text. */
export function grow(field) {
  field.style.height = "auto";
  field.style.height = `${field.scrollHeight + 2}px`;
}

/** Whether a key press sends: Enter alone, and not while characters are composed. */
export function isSend(event) {
  return event.key === "Enter" && !event.shiftKey && !event.altKey && !event.isComposing && event.keyCode !== 229;
}
