// Draws the messages of a conversation, and lets them be reached by keys.

import { Answer, Question } from "./message.js";
import { Speaker } from "./speaker.js";
import { path, versions } from "./tree.js";

const NEAR_END = 60; // pixels from the end at which the view follows a growing answer
const SPEAK_EVERY = 1000; // milliseconds

export class View {
  constructor(list, scroller, act) {
    this.list = list;
    this.scroller = scroller;
    this.act = act;
    this.drawn = new Map(); // messages by their ids
    this.isFollowing = true;
    this.cost = 0; // milliseconds that drawing took last
    this.timer = null;
    scroller.addEventListener("scroll", () => this.onScroll());
    list.addEventListener("keydown", (event) => this.onKey(event));
    list.addEventListener("focusin", (event) => this.onFocus(event.target.closest("article")));
  }

  /** Draw the shown branch; messages that are drawn already keep their elements. */
  show(chat) {
    const shown = path(chat.conv);
    const elements = shown.map((node) => {
      const message = this.messageOf(node);
      const { all, index } = versions(chat.conv, node);
      message.update({ index, count: all.length, isGrowing: chat.isGrowing(node), isBusy: chat.isRunning });
      return message.element;
    });
    const ids = new Set(shown.map((node) => node.id));
    for (const id of this.drawn.keys()) {
      if (!ids.has(id)) this.drawn.delete(id);
    }
    place(this.list, elements);
    const articles = this.articles();
    if (!articles.some((one) => one.tabIndex === 0) && articles.length) articles.at(-1).tabIndex = 0;
    this.follow();
  }

  messageOf(node) {
    const found = this.drawn.get(node.id);
    if (found?.node === node) return found;
    const message = node.role === "user" ? new Question(node, this.act) : new Answer(node, this.act);
    this.drawn.set(node.id, message);
    return message;
  }

  /** Draw what has been added to an answer; not more often than drawing it takes. */
  grow(node) {
    if (this.timer) return;
    const pause = Math.min(500, 4 * this.cost);
    this.timer = setTimeout(() => requestAnimationFrame(() => this.drawGrown(node)), pause);
  }

  drawGrown(node) {
    this.timer = null;
    const message = this.drawn.get(node.id);
    if (!message?.isGrowing) return;
    const begin = performance.now();
    message.draw();
    this.follow();
    this.cost = performance.now() - begin;
    if (begin - (message.spoken ?? 0) > SPEAK_EVERY) this.speak(message, true, begin);
  }

  /** Say the rest of an answer that has ended. */
  end(node) {
    const message = this.drawn.get(node.id);
    if (message) this.speak(message, false, performance.now());
  }

  speak(message, isOpen, now) {
    message.spoken = now;
    message.speaker ??= new Speaker();
    message.speaker.update(message.node.content, isOpen);
  }

  /** Keep the end in sight, if it was. */
  follow() {
    if (this.isFollowing) this.scroller.scrollTop = this.scroller.scrollHeight;
    this.onScroll();
  }

  toEnd() {
    this.isFollowing = true;
    this.follow();
  }

  onScroll() {
    const { scrollTop, scrollHeight, clientHeight } = this.scroller;
    this.isFollowing = scrollHeight - scrollTop - clientHeight < NEAR_END;
    document.body.classList.toggle("away", !this.isFollowing);
  }

  articles() {
    return [...this.list.querySelectorAll("article")];
  }

  /** One message can be reached by Tab: the one that had the focus last. */
  onFocus(article) {
    if (!article) return;
    for (const one of this.articles()) one.tabIndex = one === article ? 0 : -1;
  }

  onKey(event) {
    const article = event.target;
    if (article.tagName !== "ARTICLE" || event.ctrlKey || event.metaKey || event.altKey) return;
    const message = this.drawn.get(article.parentElement.dataset.id);
    const articles = this.articles();
    const at = articles.indexOf(article);
    const keys = {
      ArrowUp: () => focus(articles[at - 1]),
      ArrowDown: () => focus(articles[at + 1]),
      Home: () => focus(articles[0]),
      End: () => focus(articles.at(-1)),
      ArrowLeft: () => this.act.turn(message.node, -1),
      ArrowRight: () => this.act.turn(message.node, 1),
      e: () => message.beginEdit?.(),
      r: () => message instanceof Answer && this.act.again(message.node),
      c: () => article.querySelector('[aria-label^="Copy the"]').click(),
    };
    if (!Object.hasOwn(keys, event.key)) return;
    event.preventDefault();
    keys[event.key]();
  }

  /** Move the focus to a message, or to the arrow in it that was pressed to get there. */
  focus(node, step = 0) {
    const message = this.drawn.get(node.id);
    const arrow = step ? message?.versions.querySelector(`[data-step="${step}"]:not(:disabled)`) : null;
    (arrow ?? message?.article)?.focus();
  }

  /** Edit the last question. */
  editLast() {
    const questions = [...this.drawn.values()].filter((one) => one instanceof Question);
    const shown = questions.filter((one) => one.element.isConnected);
    shown.at(-1)?.beginEdit();
  }
}

function focus(article) {
  article?.focus();
  article?.scrollIntoView({ block: "nearest" });
}

/** Make elements the children of a list, in their order, and leave those in place that are there. */
function place(list, elements) {
  const kept = new Set(elements);
  for (const child of [...list.children]) {
    if (!kept.has(child)) child.remove();
  }
  elements.forEach((element, index) => {
    if (list.children[index] !== element) list.insertBefore(element, list.children[index] ?? null);
  });
}
