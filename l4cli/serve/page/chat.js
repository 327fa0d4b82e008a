// The open conversation: asks, and makes versions of questions and answers. Drawing is left to others.

import { answer } from "./api.js";
import { fieldsOf } from "./settings.js";
import { ROOT, add, drop, messagesOf, path, pathTo, turn } from "./tree.js";
import { inWords } from "./words.js";

const SAVE_EVERY = 2000; // milliseconds, while an answer is generated

export class Chat {
  /** on.show(): messages have changed. on.grow(node): the text of an answer has. */
  constructor(store, models, on) {
    this.store = store;
    this.models = models;
    this.on = on;
    this.conv = null;
    this.running = new Map(); // what is generated, by the conversation's id
  }

  /** The model that answers next. A model that is no longer served gives way to the first. */
  get model() {
    return this.models.find((one) => one.id === this.conv.settings.model) ?? this.models[0];
  }

  get isRunning() {
    return this.running.has(this.conv.id);
  }

  isGrowing(node) {
    return [...this.running.values()].some((run) => run.node === node);
  }

  /** Show another conversation. What is generated in this one goes on. */
  open(conv) {
    this.conv = this.running.get(conv.id)?.conv ?? conv;
    this.on.show();
  }

  /** Return the body of a request that continues the conversation with a question, if there is one. */
  body(question = null, above = path(this.conv)) {
    const nodes = question ? [...above, { role: "user", ...question }] : above;
    return { ...fieldsOf(this.conv.settings, this.model.id), messages: messagesOf(nodes, this.conv.settings.system) };
  }

  /** Ask a question at the end of the shown branch. */
  ask(content, documents = []) {
    const last = path(this.conv).at(-1);
    return this.question(last?.id ?? ROOT, content, documents);
  }

  /** Ask a question in other words, as a new version beside the old one. */
  edit(node, content) {
    return this.question(node.parent, content, node.documents);
  }

  question(parent, content, documents = []) {
    if (this.isRunning) return undefined;
    return this.generate(add(this.conv, parent, { role: "user", content, documents }));
  }

  /** Generate another answer, as a new version. One that has failed without a word is replaced. */
  again(node) {
    if (this.isRunning) return undefined;
    const question = this.conv.nodes[node.parent];
    if (!node.content && !node.reasoning) drop(this.conv, node);
    return this.generate(question);
  }

  /** Show another version of a message. Return it. */
  turn(node, step) {
    const other = turn(this.conv, node, step);
    if (other) this.changed();
    return other;
  }

  stop() {
    this.running.get(this.conv.id)?.controller.abort();
  }

  /** Stop what is generated in a conversation that is deleted, and do not keep it. */
  forget(id) {
    const run = this.running.get(id);
    if (!run) return;
    run.isForgotten = true;
    run.controller.abort();
  }

  /** Draw and keep the conversation after a change. */
  changed() {
    this.on.show();
    return this.store.save(this.conv);
  }

  async generate(question) {
    const conv = this.conv;
    const body = this.body(null, pathTo(conv, question.id));
    const node = add(conv, question.id, { role: "assistant", content: "", reasoning: "", model: this.model.id });
    const controller = new AbortController();
    const run = { conv, node, controller, isForgotten: false };
    this.running.set(conv.id, run);
    this.on.show();
    const pace = new Pace();
    let saved = performance.now();
    const saving = this.store.save(conv);
    try {
      for await (const part of answer(body, controller.signal)) {
        take(node, part, pace);
        this.on.grow(node);
        if (performance.now() - saved > SAVE_EVERY && !run.isForgotten) {
          saved = performance.now();
          void this.store.save(conv);
        }
      }
    } catch (error) {
      if (error.name === "AbortError") node.finish = "stopped";
      else node.error = inWords(error);
    } finally {
      node.finish ??= "interrupted";
      conv.changed = Date.now();
      this.running.delete(conv.id);
      this.on.show();
      this.on.end(node);
      await saving;
      if (!run.isForgotten) await this.store.save(conv);
    }
  }
}

function take(node, part, pace) {
  node.content += part.text;
  node.reasoning += part.reasoning;
  if (part.text || part.reasoning) pace.count();
  if (part.finish) node.finish = part.finish;
  node.stats = pace.stats(part.usage);
}

/** Measures how fast an answer is generated. */
class Pace {
  constructor() {
    this.begin = performance.now();
    this.first = null;
    this.last = null;
    this.num = 0;
  }

  count() {
    this.last = performance.now();
    this.first ??= this.last;
    this.num++;
  }

  /** Return {tokens, rate, isExact, prompt, seconds}. Until the server has counted, parts are tokens. */
  stats(usage) {
    const tokens = usage?.completion_tokens ?? this.num;
    const seconds = (this.last - this.first) / 1000;
    return {
      tokens,
      rate: seconds > 0 && tokens > 1 ? (tokens - 1) / seconds : null,
      isExact: usage !== null,
      prompt: usage?.prompt_tokens ?? null,
      cached: usage?.prompt_tokens_details?.cached_tokens ?? null,
      wait: this.first === null ? null : (this.first - this.begin) / 1000,
    };
  }
}
