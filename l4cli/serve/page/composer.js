// The field for the next message, with documents, and how many tokens it would take.

import { dryRun, readDocument } from "./api.js";
import { el, iconButton } from "./dom.js";
import { drawDocument, grow, isSend } from "./message.js";
import { say } from "./speaker.js";
import { path } from "./tree.js";
import { amount, inWords } from "./words.js";

const PAUSE = 350; // milliseconds without a key press after which tokens are counted

export class Composer {
  constructor(form, chat, act) {
    this.form = form;
    this.chat = chat;
    this.act = act;
    this.field = form.querySelector("textarea");
    this.sendButton = form.querySelector("#send");
    this.stopButton = form.querySelector("#stop");
    this.chips = form.querySelector("#documents");
    this.problem = form.querySelector("#problem");
    this.context = form.querySelector("#context");
    this.meter = form.querySelector("#meter");
    this.picker = form.querySelector("input[type=file]");
    this.documents = [];
    this.isOver = false;
    this.numReading = 0;
    this.listen();
  }

  listen() {
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.send();
    });
    this.field.addEventListener("keydown", (event) => this.onKey(event));
    this.field.addEventListener("input", () => this.onInput());
    this.field.addEventListener("paste", (event) => {
      if (event.clipboardData.files.length) {
        event.preventDefault();
        this.attach(event.clipboardData.files);
      }
    });
    this.stopButton.addEventListener("click", () => this.act.stop());
    this.form.querySelector("#attach").addEventListener("click", () => this.picker.click());
    this.picker.addEventListener("change", () => {
      this.attach(this.picker.files);
      this.picker.value = "";
    });
  }

  onKey(event) {
    if (isSend(event)) {
      event.preventDefault();
      this.send();
    } else if (event.key === "ArrowUp" && !this.field.value) {
      event.preventDefault();
      this.act.editLast();
    }
  }

  onInput() {
    grow(this.field);
    this.update();
    this.countSoon();
  }

  send() {
    const text = this.field.value.trim();
    if (!this.canSend) return;
    this.act.ask(text, this.documents);
    this.field.value = "";
    this.documents = [];
    this.drawDocuments();
    this.onInput();
    this.field.focus();
  }

  get canSend() {
    return Boolean(this.field.value.trim()) && !this.numReading && !this.isOver && !this.chat.isRunning;
  }

  /** Draw what depends on whether an answer is generated. */
  update() {
    const isRunning = this.chat.isRunning;
    const hadFocus = document.activeElement === this.stopButton;
    this.sendButton.hidden = isRunning;
    this.stopButton.hidden = !isRunning;
    this.sendButton.disabled = !this.canSend;
    if (hadFocus && !isRunning) this.field.focus();
  }

  /** Have the server read files, and put them before the next message. */
  async attach(files) {
    this.complain(null);
    for (const file of [...files]) { // a copy: the browser empties the list
      this.numReading++;
      const waiting = el("li", { class: "reading" }, `Reading ${file.name}…`);
      this.chips.append(waiting);
      this.update();
      try {
        const read = await readDocument(file, this.chat.model.id);
        this.documents.push({ name: read.name, text: read.text, tokens: read.tokens, notes: read.notes });
        say(`${read.name} is attached: ${amount(read.tokens)} tokens.`);
      } catch (error) {
        const { what, todo } = inWords(error);
        this.complain(error.status ? what : `${what} ${todo}`);
      } finally {
        this.numReading--;
        waiting.remove();
        this.drawDocuments();
      }
    }
    this.update();
    this.countSoon();
  }

  drawDocuments() {
    const waiting = [...this.chips.querySelectorAll(".reading")];
    const chips = this.documents.map((one) => {
      const remove = () => {
        this.documents = this.documents.filter((other) => other !== one);
        this.drawDocuments();
        this.countSoon();
        this.field.focus();
      };
      return el("li", {}, drawDocument(one), iconButton("close", `Take ${one.name} out`, remove));
    });
    this.chips.replaceChildren(...chips, ...waiting);
    this.chips.hidden = !this.chips.childElementCount;
  }

  complain(text) {
    this.problem.textContent = text ?? "";
    this.problem.hidden = !text;
  }

  countSoon() {
    if (this.isOver) this.complain(null);
    this.isOver = false;
    clearTimeout(this.timer);
    this.counting?.abort();
    this.timer = setTimeout(() => this.count(), PAUSE);
  }

  /**
   * Show how many tokens the context has with the next message. The server counts them exactly.
   * While an answer grows, what it answers is counted.
   */
  async count() {
    const shown = path(this.chat.conv);
    const above = this.chat.isRunning ? shown.slice(0, -1) : shown;
    const content = this.field.value.trim();
    const isDraft = !this.chat.isRunning && Boolean(content || this.documents.length);
    const last = above.at(-1);
    const most = this.chat.model.max_model_len;
    if (!isDraft && !last) return this.drawCount(0, most);
    if (!isDraft && last.stats?.isExact) return this.drawCount(last.stats.prompt + last.stats.tokens, most);
    this.counting = new AbortController();
    try {
      const body = this.chat.body(isDraft ? { content, documents: this.documents } : null, above);
      const counted = await dryRun(body, this.counting.signal);
      this.drawCount(counted.prompt_tokens, counted.context, isDraft);
    } catch (error) {
      if (error.name !== "AbortError") this.drawCount(null, most);
    }
    return undefined;
  }

  /** Show a count. A draft that does not fit is not sent, so that it stays in the field. */
  drawCount(num, most, isDraft = false) {
    this.context.textContent = num === null ? "" : `${amount(num)} / ${amount(most)} tokens`;
    this.meter.max = most;
    this.meter.value = num ?? 0;
    const over = (num ?? 0) + 1 - most; // an answer takes one token at least
    this.form.classList.toggle("over", over > 0);
    this.isOver = isDraft && over > 0;
    const what = `This is ${amount(over)} tokens too long for the context of ${amount(most)}.`;
    if (this.isOver) this.complain(`${what} Take documents out, edit an earlier message, or begin a new conversation.`);
    this.update();
  }
}
