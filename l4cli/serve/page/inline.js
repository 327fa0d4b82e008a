// Reads Markdown within a paragraph: emphasis, code, links. Returns nodes, not HTML:
//   {kind: "text" | "code" | "math", text}  {kind: "break"}
//   {kind: "strong" | "em" | "del", children}  {kind: "link", href, children}
// Each function takes time in proportion to the text, whatever the text is.

const PUNCTUATION = /[\p{P}\p{S}]/u;
const ESCAPABLE = /[!-/:-@[-`{-~]/;
const URL_START = /https?:\/\/[^\s<>"`[\]]+/y;
const AUTOLINK = /<((?:https?:\/\/|mailto:)[^\s<>]*|[^\s<>@:/]{1,100}@[^\s<>@:/]{1,100})>/y;
const LINE_BREAK = /<br\s*\/?>/iy;
const ENTITY = /&(?:#(\d{1,7})|#x([0-9a-f]{1,6})|(amp|lt|gt|quot|apos|nbsp));/iy;
const ENTITIES = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", nbsp: "\u00a0" };
const TARGET = /\s*<?([^\s()<>]*(?:\([^\s()<>]*\)[^\s()<>]*)*)>?(?:\s+(?:"[^"\n]{0,500}"|'[^'\n]{0,500}')?)?\s*/y;
const MOST_OPENERS = 100; // of emphasis and links that are open at the same time
const MOST_URL = 4000; // characters

/**
 * Return the nodes of a text. `isOpen`: the text is still being written, so that what has begun at
 * its end is taken as if it were complete.
 */
export function inline(text, isOpen = false) {
  return new Reader(isOpen ? text.replace(/(?:\*{1,3}|`+|~~?)$/, "") : text, isOpen).read();
}

class Reader {
  constructor(text, isOpen) {
    this.text = text;
    this.isOpen = isOpen;
    this.at = 0;
    this.out = []; // nodes, and delimiters that may still become emphasis or a link
    this.open = []; // those delimiters
    this.missing = new Set(); // what is known not to follow any more
    this.ticks = null; // positions of runs of backticks by their length
  }

  read() {
    while (this.at < this.text.length) this.step();
    this.settle(0, this.isOpen);
    return this.out;
  }

  step() {
    const character = this.text[this.at];
    if (character === "\\") return this.backslash();
    if (character === "`") return this.code();
    if (character === "*" || character === "_" || character === "~") return this.emphasis(character);
    if (character === "[") return this.push({ mark: "[", at: this.at + 1 }, 1);
    if (character === "!" && this.text[this.at + 1] === "[") {
      return this.push({ mark: "[", at: this.at + 2, isPicture: true }, 2);
    }
    if (character === "]") return this.bracket();
    if (character === "<" && (this.autolink() || this.lineBreak())) return undefined;
    if (character === "$" && this.text[this.at + 1] === "$" && this.math("$$", "$$")) return undefined;
    if (character === "&" && this.entity()) return undefined;
    if (character === "h" && this.bareUrl()) return undefined;
    if (character === "\n") return this.newLine();
    return this.plain();
  }

  plain() {
    const next = this.text.slice(this.at + 1, this.at + 2000).search(/[\\`*_~[\]!<$&h\n]/);
    const end = next < 0 ? Math.min(this.text.length, this.at + 2000) : this.at + 1 + next;
    this.write(this.text.slice(this.at, end));
    this.at = end;
  }

  write(text) {
    const last = this.out.at(-1);
    if (last?.kind === "text") last.text += text;
    else this.out.push({ kind: "text", text });
  }

  literal(length) {
    this.write(this.text.slice(this.at, this.at + length));
    this.at += length;
  }

  backslash() {
    const next = this.text[this.at + 1];
    if (next === "(" && this.math("\\(", "\\)")) return;
    if (next === "[" && this.math("\\[", "\\]")) return;
    if (next === "\n") {
      this.out.push({ kind: "break" });
      this.at += 2;
    } else if (next && ESCAPABLE.test(next)) {
      this.write(next);
      this.at += 2;
    } else {
      this.literal(1);
    }
  }

  /** Formulas are shown as they are written; what looks like emphasis in them is none. */
  math(begin, end) {
    const found = this.missing.has(end) ? -1 : this.text.indexOf(end, this.at + begin.length);
    if (found < 0) this.missing.add(end);
    if (found < 0 && !this.isOpen) return false;
    const stop = found < 0 ? this.text.length : found;
    this.out.push({ kind: "math", text: this.text.slice(this.at + begin.length, stop).trim() });
    this.at = found < 0 ? stop : stop + end.length;
    return true;
  }

  code() {
    this.ticks ??= runsOfTicks(this.text);
    let length = 1;
    while (this.text[this.at + length] === "`") length++;
    const runs = this.ticks.get(length) ?? [];
    while (runs.length && runs[0] <= this.at) runs.shift();
    const begin = this.at + length;
    if (!runs.length && !this.isOpen) return this.literal(length);
    const end = runs.length ? runs[0] : this.text.length;
    let text = this.text.slice(begin, end).replaceAll("\n", " ");
    if (text.startsWith(" ") && text.endsWith(" ") && text.trim()) text = text.slice(1, -1);
    this.out.push({ kind: "code", text });
    this.at = runs.length ? end + length : end;
    return undefined;
  }

  push(delimiter, length) {
    this.out.push({ ...delimiter, source: this.text.slice(this.at, this.at + length) });
    this.open.push(this.out.at(-1));
    this.at += length;
    if (this.open.length > MOST_OPENERS) this.open.shift();
  }

  emphasis(mark) {
    let count = 1;
    while (this.text[this.at + count] === mark) count++;
    if (count > 3 || (mark === "~" && count !== 2)) return this.literal(count);
    const before = this.text[this.at - 1] ?? " ";
    const after = this.text[this.at + count] ?? " ";
    const [isSpaceBefore, isSpaceAfter] = [/\s/.test(before), /\s/.test(after)];
    const [isMarkBefore, isMarkAfter] = [PUNCTUATION.test(before), PUNCTUATION.test(after)];
    const left = !isSpaceAfter && (!isMarkAfter || isSpaceBefore || isMarkBefore);
    const right = !isSpaceBefore && (!isMarkBefore || isSpaceAfter || isMarkAfter);
    const canOpen = left && (mark !== "_" || !right || isMarkBefore);
    const canClose = right && (mark !== "_" || !left || isMarkAfter);
    const from = this.at;
    this.at += count;
    let rest = canClose ? this.close(mark, count) : count;
    if (!rest) return undefined;
    this.at = from + count - rest;
    return canOpen ? this.push({ mark, count: rest }, rest) : this.literal(rest);
  }

  /** End emphasis that was begun with the same mark; return how many marks are left over. */
  close(mark, count) {
    let rest = count;
    while (rest) {
      const found = this.open.findLastIndex((one) => one.mark === mark || one.mark === "[");
      const opener = this.open[found];
      if (!opener || opener.mark === "[") break;
      const used = mark === "~" ? 2 : Math.min(2, rest, opener.count);
      const at = this.out.lastIndexOf(opener);
      this.flatten(found + 1, at + 1);
      const children = merge(this.out.splice(at + 1));
      this.out.pop();
      this.open.pop();
      opener.count -= used;
      if (opener.count) {
        opener.source = mark.repeat(opener.count);
        this.out.push(opener);
        this.open.push(opener);
      }
      const kind = mark === "~" ? "del" : used === 2 ? "strong" : "em";
      this.out.push({ kind, children });
      rest -= used;
    }
    return rest;
  }

  /** Take delimiters that were opened at or after an index as plain text. */
  flatten(index, from) {
    this.open.length = index;
    for (let at = from; at < this.out.length; at++) {
      if (this.out[at].mark) this.out[at] = { kind: "text", text: this.out[at].source };
    }
  }

  bracket() {
    const found = this.open.findLastIndex((one) => one.mark === "[");
    const opener = this.open[found];
    const target = opener && this.text[this.at + 1] === "(" ? this.target(this.at + 2) : null;
    if (!target) {
      if (opener) this.open.splice(found, 1);
      return this.literal(1);
    }
    const at = this.out.lastIndexOf(opener);
    this.settle(found + 1, false);
    const children = withoutLinks(merge(this.out.splice(at + 1)));
    this.out.pop();
    this.open.length = found;
    this.at = target.end;
    if (target.href === null) this.out.push(...children);
    else {
      const text = children.length ? children : [{ kind: "text", text: target.href }];
      const shown = opener.isPicture ? [{ kind: "text", text: "Picture: " }, ...text] : text;
      this.out.push({ kind: "link", href: target.href, children: shown });
    }
    return undefined;
  }

  /** Read `address "title")`. Returns null if it is none; an href of null if it is incomplete. */
  target(from) {
    const text = this.text;
    TARGET.lastIndex = from;
    const [whole, href] = TARGET.exec(text);
    const at = from + whole.length;
    if (text[at] === ")") return { href, end: at + 1 };
    return this.isOpen && at >= text.length ? { href: null, end: text.length } : null;
  }

  autolink() {
    const found = this.match(AUTOLINK);
    if (!found) return false;
    const [whole, address] = found;
    const href = /^(?:https?|mailto):/i.test(address) ? address : `mailto:${address}`;
    this.out.push({ kind: "link", href, children: [{ kind: "text", text: address }] });
    this.at += whole.length;
    return true;
  }

  bareUrl() {
    if (/[\p{L}\p{N}]/u.test(this.text[this.at - 1] ?? "")) return false;
    const found = this.match(URL_START);
    if (!found) return false;
    let url = found[0].slice(0, MOST_URL);
    const opened = url.split("(").length - 1;
    let closed = url.split(")").length - 1;
    for (;;) {
      const last = url.at(-1);
      if (last === ")" && closed > opened) closed--;
      else if (!"*_~.,:;!?'|".includes(last)) break;
      url = url.slice(0, -1);
    }
    if (!/^https?:\/\/./.test(url)) return false;
    this.out.push({ kind: "link", href: url, children: [{ kind: "text", text: url }] });
    this.at += url.length;
    return true;
  }

  lineBreak() {
    const found = this.match(LINE_BREAK);
    if (!found) return false;
    this.out.push({ kind: "break" });
    this.at += found[0].length;
    return true;
  }

  entity() {
    const found = this.match(ENTITY);
    if (!found) return false;
    const code = found[1] ? parseInt(found[1], 10) : parseInt(found[2], 16);
    if (code > 0x10ffff) return false;
    this.write(found[3] ? ENTITIES[found[3].toLowerCase()] : String.fromCodePoint(code));
    this.at += found[0].length;
    return true;
  }

  /** Models break lines where they mean it: in addresses and poems. So a break is kept. */
  newLine() {
    const last = this.out.at(-1);
    if (last?.kind === "text") last.text = last.text.replace(/[ \t]{1,100}$/, "");
    this.out.push({ kind: "break" });
    this.at++;
    while (this.text[this.at] === " ") this.at++;
  }

  match(pattern) {
    pattern.lastIndex = this.at;
    return pattern.exec(this.text);
  }

  /** Take open delimiters from an index on as text; or end them here, if the text goes on. */
  settle(index, isOpen) {
    while (this.open.length > index) {
      const opener = this.open.pop();
      const at = this.out.lastIndexOf(opener);
      if (isOpen && opener.mark !== "[" && at < this.out.length - 1) {
        const children = merge(this.out.splice(at + 1));
        this.out.pop();
        const kind = opener.mark === "~" ? "del" : opener.count > 1 ? "strong" : "em";
        this.out.push({ kind, children });
      } else {
        this.out[at] = { kind: "text", text: opener.source };
      }
    }
    if (index === 0) this.out = merge(this.out);
  }
}

/** Return nodes with what is left of delimiters as text, and texts beside each other as one. */
function merge(nodes) {
  const whole = [];
  for (const node of nodes) {
    const text = node.mark ? node.source : node.kind === "text" ? node.text : null;
    if (text !== null && whole.at(-1)?.kind === "text") whole.at(-1).text += text;
    else whole.push(text === null ? node : { kind: "text", text });
  }
  return whole;
}

function withoutLinks(nodes) {
  return nodes.flatMap((node) => (node.kind === "link" ? node.children : [node]));
}

function runsOfTicks(text) {
  const runs = new Map();
  for (const found of text.matchAll(/`+/g)) {
    const length = found[0].length;
    if (!runs.has(length)) runs.set(length, []);
    runs.get(length).push(found.index);
  }
  return runs;
}
