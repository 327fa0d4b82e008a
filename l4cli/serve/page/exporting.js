// Saves a conversation as a file: Markdown to read, JSON with all versions.

import { path } from "./tree.js";

/** Return the shown branch of a conversation as Markdown. */
export function asMarkdown(conv) {
  const parts = [`# ${conv.title || "Conversation"}`];
  if (conv.settings.system?.trim()) parts.push(`**System:** ${conv.settings.system.trim()}`);
  for (const node of path(conv)) {
    parts.push(node.role === "user" ? "## You" : `## ${node.model ?? "Answer"}`);
    for (const one of node.documents ?? []) parts.push(`*${one.name}, ${one.tokens} tokens*`);
    parts.push(node.content.trim());
  }
  return `${parts.join("\n\n")}\n`;
}

/** Return a whole conversation, with all versions, as JSON. */
export function asJson(conv) {
  return `${JSON.stringify({ format: "l4 conversation 1", ...conv }, null, 2)}\n`;
}

/** Have the browser save a text as a file. */
export function download(text, name, type) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** Return a file's name for a conversation. */
export function fileName(conv, ending) {
  const name = (conv.title || "conversation").replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "");
  return `${name.slice(0, 60).toLowerCase() || "conversation"}.${ending}`;
}
