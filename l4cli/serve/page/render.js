// Draws Markdown as elements. Text only ever becomes text nodes; no HTML is parsed, nothing is
// fetched, and links lead to http, https and mailto only.

import { el, icon } from "./dom.js";
import { inline } from "./inline.js";
import { parse } from "./markdown.js";
import { harmless } from "./printable.js";
import { copy } from "./clipboard.js";

const SCHEMES = new Set(["http:", "https:", "mailto:"]);
const RTL = /[\p{Script=Arabic}\p{Script=Hebrew}\p{Script=Syriac}\p{Script=Thaana}\p{Script=Nko}]/u;
const UNSETTLED = 2; // blocks at the end that later text may still change

/** A Markdown text in an element. It may grow: only its last blocks are then read and drawn anew. */
export class Rendered {
  constructor(element) {
    this.element = element;
    this.clear();
  }

  /** Show a text. `isOpen`: it is still being written. */
  update(text, isOpen = false) {
    if (!text.startsWith(this.settledText)) this.clear();
    const blocks = parse(text.slice(this.settledText.length), isOpen);
    this.drawn = patch(this.element, this.numSettled, this.drawn, blocks);
    if (isOpen) this.settle(text, blocks);
  }

  /** Forget the source of all blocks but the last ones; their elements stay as they are. */
  settle(text, blocks) {
    const count = Math.max(0, blocks.length - UNSETTLED);
    if (!count) return;
    this.settledText = text.slice(0, this.settledText.length + blocks[count].offset);
    this.numSettled += count;
    this.drawn = blocks.slice(count);
  }

  clear() {
    this.element.replaceChildren();
    this.settledText = "";
    this.numSettled = 0;
    this.drawn = [];
  }
}

/**
 * Change a parent's children, from one index on, from the blocks drawn to new ones. What is the same
 * keeps its elements, so that a selection in it stays, too. Return the blocks that are drawn now.
 */
function patch(parent, from, old, blocks) {
  blocks.forEach((block, index) => {
    const before = old[index];
    const element = parent.childNodes[from + index];
    if (!before) parent.append(draw(block));
    else if (before.raw === block.raw && before.isOpen === block.isOpen) return;
    else if (!redraw(block, before, element)) element.replaceWith(draw(block));
  });
  while (parent.childNodes.length > from + blocks.length) parent.lastChild.remove();
  return blocks;
}

/** Draw what has changed in a block that has grown. Return false if it must be drawn as a whole. */
function redraw(block, before, element) {
  if (block.kind !== before.kind) return false;
  if (block.kind === "code" && block.language === before.language) {
    const text = element.querySelector("code").firstChild;
    const shown = harmless(block.text);
    if (shown.startsWith(text.data)) text.appendData(shown.slice(text.data.length));
    else text.data = shown;
    return true;
  }
  if (block.kind === "quote") {
    element.dir = directionOf(block.raw);
    patch(element, 0, before.blocks, block.blocks);
    return true;
  }
  if (block.kind === "list" && block.isOrdered === before.isOrdered) {
    element.classList.toggle("loose", block.isLoose);
    element.dir = directionOf(block.raw);
    patchParts(element, before.items, block.items, drawItem, (item, was, part) =>
      patch(part, 0, was.blocks, item.blocks),
    );
    return true;
  }
  if (block.kind === "table" && block.align.join() === before.align.join()) {
    if (block.rows[0].raw !== before.rows[0].raw) return false;
    const row = (one) => drawRow(one, "td", block.align);
    patchParts(element.querySelector("tbody"), before.rows.slice(1), block.rows.slice(1), row, null);
    return true;
  }
  return false;
}

function patchParts(parent, old, parts, drawn, change) {
  parts.forEach((part, index) => {
    const before = old[index];
    const element = parent.children[index];
    if (!before) parent.append(drawn(part));
    else if (before.raw === part.raw && before.isOpen === part.isOpen) return;
    else if (change) change(part, before, element);
    else element.replaceWith(drawn(part));
  });
  while (parent.children.length > parts.length) parent.lastChild.remove();
}

function draw(block) {
  switch (block.kind) {
    case "heading":
      return el(`h${Math.min(6, block.level + 2)}`, { dir: directionOf(block.text), class: `h${block.level}` }, spans(block));
    case "rule":
      return el("hr");
    case "code":
      return drawCode(block);
    case "math":
      return el("pre", { class: "math", tabindex: 0 }, harmless(block.text));
    case "quote":
      return el("blockquote", { dir: directionOf(block.raw) }, block.blocks.map(draw));
    case "list":
      return drawList(block);
    case "table":
      return drawTable(block);
    default:
      return el("p", { dir: directionOf(block.text) }, block.isDeep ? harmless(block.text) : spans(block));
  }
}

function drawCode(block) {
  const button = el("button", { type: "button", class: "quiet", "aria-label": "Copy the code" }, icon("copy"), "Copy");
  const code = el("code", {}, document.createTextNode(harmless(block.text)));
  button.addEventListener("click", () => copy(code.textContent, button));
  const head = el("figcaption", {}, el("span", {}, harmless(block.language)), button);
  const label = block.language ? `Code in ${harmless(block.language)}` : "Code";
  return el("figure", { class: "code", dir: "ltr" }, head, el("pre", { tabindex: 0, role: "group", "aria-label": label }, code));
}

function drawList(block) {
  const tag = block.isOrdered ? "ol" : "ul";
  const attributes = { class: block.isLoose ? "loose" : "", dir: directionOf(block.raw) };
  const list = el(tag, attributes, block.items.map(drawItem));
  if (block.isOrdered && block.start !== 1) list.start = block.start;
  return list;
}

function drawItem(item) {
  return el("li", {}, item.blocks.map(draw));
}

function drawTable(block) {
  const head = drawRow(block.rows[0], "th", block.align);
  const rows = block.rows.slice(1).map((row) => drawRow(row, "td", block.align));
  const table = el("table", {}, el("thead", {}, head), el("tbody", {}, rows));
  return el("div", { class: "table", dir: directionOf(block.raw), tabindex: 0, role: "group", "aria-label": "Table" }, table);
}

function drawRow(row, tag, align) {
  const cells = row.cells.map((text, index) => {
    const cell = el(tag, { class: align[index] ? `to-${align[index]}` : "" }, spansOf(inline(text)));
    if (tag === "th") cell.scope = "col";
    return cell;
  });
  return el("tr", {}, cells);
}

/** Return the direction of a block, by its first letter. (dir=auto takes long with many lines.) */
function directionOf(text) {
  return RTL.test(/\p{L}/u.exec(text)?.[0] ?? "") ? "rtl" : "ltr";
}

function spans(block) {
  return spansOf(inline(taskMark(block.text), block.isOpen));
}

function taskMark(text) {
  return text.replace(/^\[( |x|X)\] /, (_, mark) => (mark === " " ? "☐ " : "☑ "));
}

function spansOf(nodes) {
  return nodes.map((node) => {
    switch (node.kind) {
      case "break":
        return el("br");
      case "code":
        return el("code", { dir: "ltr" }, harmless(node.text));
      case "math":
        return el("span", { class: "math", dir: "ltr" }, harmless(node.text));
      case "strong":
      case "em":
      case "del":
        return el(node.kind, {}, spansOf(node.children));
      case "link":
        return drawLink(node);
      default:
        return document.createTextNode(harmless(node.text));
    }
  });
}

function drawLink(node) {
  const url = safeUrl(node.href);
  if (!url) return el("span", {}, spansOf(node.children));
  return el("a", { href: url, title: url, target: "_blank", rel: "noopener noreferrer nofollow" }, spansOf(node.children));
}

/** Return a full address that is safe to open; null for any other, such as javascript: or file:. */
export function safeUrl(href) {
  try {
    const url = new URL(href);
    return SCHEMES.has(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}
