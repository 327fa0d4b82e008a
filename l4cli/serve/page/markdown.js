// Reads Markdown into blocks, not HTML. Each block has its `raw` lines, by which unchanged blocks are
// recognized, and one of these kinds:
//   {kind: "paragraph", text}  {kind: "heading", level, text}  {kind: "rule"}  {kind: "math", text}
//   {kind: "code", language, text}  {kind: "quote", blocks}
//   {kind: "list", isOrdered, start, isLoose, items: [{blocks, raw}]}
//   {kind: "table", align, rows: [{cells, raw}]}  the first row has the heads
// `isOpen` in a block says that the text is still being written there.

const MOST_DEPTH = 16; // of lists and quotes within each other
const MOST_COLUMNS = 64;
const FENCE = /^( {0,3})(`{3,}|~{3,})[ \t]*([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})(?=[ \t]|$)/;
const RULE = /^ {0,3}([-*_])[ \t]*(?:\1[ \t]*){2,}$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( *)([-*+]|\d{1,9}[.)])(?:( +)|$)/;
const DELIMITER = /^:?-+:?$/;

/**
 * Return the blocks of a text. Each has `offset`, the place in the text where its first line begins.
 * `isOpen`: the text is still being written.
 */
export function parse(text, isOpen = false) {
  const given = text.split("\n");
  const lines = given.map((line) => line.replace(/\r$/, "").replaceAll("\t", "    "));
  const blocks = blocksOf(lines, isOpen, 0);
  let [offset, at] = [0, 0];
  for (const block of blocks) {
    for (; at < block.line; at++) offset += given[at].length + 1;
    block.offset = offset;
  }
  return blocks;
}

function blocksOf(lines, isOpen, depth) {
  const blocks = [];
  for (let at = 0; at < lines.length; ) {
    if (isBlank(lines[at])) {
      at++;
      continue;
    }
    const [block, end] = blockAt(lines, at, isOpen, depth);
    block.line = at;
    block.raw = lines.slice(at, end).join("\n");
    block.isOpen = isOpen && end >= lines.length;
    blocks.push(block);
    at = end;
  }
  return blocks;
}

function blockAt(lines, at, isOpen, depth) {
  const line = lines[at];
  let found;
  if ((found = FENCE.exec(line))) return fence(lines, at, found, isOpen);
  if ((found = HEADING.exec(line))) return [heading(line, found[1].length), at + 1];
  if (RULE.test(line)) return [{ kind: "rule" }, at + 1];
  if (depth < MOST_DEPTH && QUOTE.test(line)) return quote(lines, at, isOpen, depth);
  if (depth < MOST_DEPTH && isItem(line)) return list(lines, at, isOpen, depth);
  if (/^ {4}/.test(line)) return indented(lines, at);
  if (isTable(lines, at, isOpen)) return table(lines, at);
  if ((found = /^ {0,3}(\$\$|\\\[)/.exec(line))) return math(lines, at, found[1], isOpen);
  return paragraph(lines, at, isOpen, depth);
}

function fence(lines, at, [, indent, marks, info], isOpen) {
  const last = new RegExp(`^ {0,3}${marks[0]}{${marks.length},}\\s*$`);
  const text = [];
  let end = at + 1;
  while (end < lines.length && !last.test(lines[end])) {
    text.push(lines[end].slice(Math.min(indent.length, indentOf(lines[end]))));
    end++;
  }
  const isEnded = end < lines.length;
  const isEnding = !isEnded && isOpen && marks.startsWith(text.at(-1)?.trim() || "-");
  if (isEnding) text.pop(); // the first marks of the closing fence
  const language = info.trim().split(/\s/)[0].slice(0, 40);
  return [{ kind: "code", language, text: text.join("\n") }, isEnded ? end + 1 : end];
}

function heading(line, level) {
  let text = line.trim().slice(level).trim();
  const closed = text.replace(/#{1,20}$/, "");
  if (closed === "" || closed.endsWith(" ")) text = closed.trim();
  return { kind: "heading", level, text };
}

function quote(lines, at, isOpen, depth) {
  let end = at;
  const inner = [];
  while (end < lines.length && QUOTE.test(lines[end])) inner.push(lines[end++].replace(QUOTE, ""));
  return [{ kind: "quote", blocks: blocksOf(inner, isOpen && end >= lines.length, depth + 1) }, end];
}

/** Read a list. Items of a deeper list need only two blanks before them, as models write them. */
function list(lines, at, isOpen, depth) {
  const first = ITEM.exec(lines[at]);
  const isOrdered = isNumber(first[2]);
  const belongs = (line) => isItem(line) && !RULE.test(line) && isNumber(ITEM.exec(line)[2]) === isOrdered;
  const items = [];
  let isLoose = false;
  let end = at;
  while (end < lines.length && belongs(lines[end])) {
    const item = itemLines(lines, end, ITEM.exec(lines[end]));
    const isLast = item.end >= lines.length;
    const blocks = blocksOf(item.lines, isOpen && isLast, depth + 1);
    items.push({ blocks, raw: item.lines.join("\n"), isOpen: isOpen && isLast });
    isLoose ||= item.hasGap && !isLast && belongs(lines[item.end]);
    isLoose ||= item.lines.includes("") && blocks.filter((one) => one.kind === "paragraph").length > 1;
    end = item.end;
  }
  const start = isOrdered ? parseInt(first[2], 10) : 1;
  return [{ kind: "list", isOrdered, start, isLoose, items }, end];
}

function itemLines(lines, at, [head, indent, marker, blanks]) {
  const width = !blanks || blanks.length > 4 ? indent.length + marker.length + 1 : head.length;
  const inner = [lines[at].slice(Math.min(width, lines[at].length))];
  let end = at + 1;
  let numBlank = 0;
  let fenced = FENCE.exec(inner[0])?.[2];
  for (; end < lines.length; end++) {
    const line = lines[end];
    if (isBlank(line)) {
      numBlank++;
      continue;
    }
    const depth = indentOf(line);
    const isInner = depth >= width || (depth >= indent.length + 2 && ITEM.test(line));
    const isLazy = !numBlank && !fenced && !begins(lines, end) && !isItem(line);
    if (!isInner && !isLazy) break;
    inner.push(...Array(numBlank).fill(""), line.slice(Math.min(depth, width)));
    numBlank = 0;
    const mark = FENCE.exec(inner.at(-1))?.[2];
    if (mark && fenced && mark.startsWith(fenced)) fenced = null;
    else if (mark && !fenced) fenced = mark;
  }
  return { lines: inner, end, hasGap: numBlank > 0 };
}

function indented(lines, at) {
  let end = at;
  while (end < lines.length && (isBlank(lines[end]) || /^ {4}/.test(lines[end]))) end++;
  while (isBlank(lines[end - 1])) end--;
  const text = lines.slice(at, end).map((line) => line.slice(4));
  return [{ kind: "code", language: "", text: text.join("\n") }, end];
}

/** Whether a table begins here. While it is being written, its first line is enough. */
function isTable(lines, at, isOpen) {
  const line = lines[at];
  if (!line.includes("|")) return false;
  if (isOpen && at + 2 >= lines.length && line.trim().startsWith("|")) {
    return at + 1 >= lines.length || /^[\s|:-]*$/.test(lines[at + 1]);
  }
  const marks = cellsOf(lines[at + 1] ?? "");
  return marks.length === cellsOf(line).length && marks.every((mark) => DELIMITER.test(mark));
}

function table(lines, at) {
  const align = cellsOf(lines[at + 1] ?? "").map((mark) => {
    if (mark.endsWith(":")) return mark.startsWith(":") ? "center" : "right";
    return mark.startsWith(":") ? "left" : "";
  });
  const rows = [{ cells: cellsOf(lines[at]), raw: lines[at] }];
  let end = Math.min(at + 2, lines.length);
  for (; end < lines.length && lines[end].includes("|") && !isBlank(lines[end]); end++) {
    const cells = cellsOf(lines[end]).slice(0, rows[0].cells.length);
    while (cells.length < rows[0].cells.length) cells.push("");
    rows.push({ cells, raw: lines[end] });
  }
  return [{ kind: "table", align, rows }, end];
}

function cellsOf(line) {
  const inner = line.trim().replace(/^\|/, "").replace(/([^\\])\|$/, "$1");
  const cells = inner.split(/(?<!\\)\|/).slice(0, MOST_COLUMNS);
  return cells.map((cell) => cell.trim().replaceAll("\\|", "|"));
}

/** A formula over several lines, to its end. It is shown as it is written. */
function math(lines, at, begin, isOpen) {
  const last = begin === "$$" ? "$$" : "\\]";
  const first = lines[at].trim().slice(2);
  let end = at + 1;
  if (!first.includes(last)) {
    while (end < lines.length && !isBlank(lines[end]) && !lines[end].includes(last)) end++;
    const isEnded = end < lines.length && lines[end].includes(last);
    if (!isEnded && !(isOpen && end >= lines.length)) return paragraph(lines, at, isOpen, MOST_DEPTH);
    end = Math.min(end + 1, lines.length);
  } else if (!first.trimEnd().endsWith(last)) {
    return paragraph(lines, at, isOpen, MOST_DEPTH); // text follows the formula
  }
  const text = lines.slice(at, end).join("\n").trim().slice(2);
  return [{ kind: "math", text: text.replace(last, "").trim() }, end];
}

function paragraph(lines, at, isOpen, depth) {
  let end = at + 1;
  while (end < lines.length && !isBlank(lines[end]) && !begins(lines, end)) end++;
  const text = lines.slice(at, end).map((line) => line.replace(/^ +/, ""));
  return [{ kind: "paragraph", text: text.join("\n").trimEnd(), isDeep: depth >= MOST_DEPTH }, end];
}

/** Whether a block begins here that may follow a paragraph without a blank line between. */
function begins(lines, at) {
  const line = lines[at];
  return (
    FENCE.test(line) ||
    HEADING.test(line) ||
    RULE.test(line) ||
    QUOTE.test(line) ||
    /^ {0,3}(?:[-*+]|1[.)]) /.test(line) ||
    isTable(lines, at, false)
  );
}

function isItem(line) {
  const found = ITEM.exec(line);
  return found !== null && found[1].length <= 3;
}

function isNumber(marker) {
  return marker.length > 1;
}

function isBlank(line) {
  return line.trim() === "";
}

function indentOf(line) {
  return line.length - line.trimStart().length;
}
