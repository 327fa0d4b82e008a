// A conversation is a tree of messages: an edited question or a second answer is a new version beside
// the old one. `chosen` says which version of each is shown. Pure: nothing here draws or stores.

export const ROOT = "root";

/** Return a name that no other conversation or message has. */
export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Return a conversation without messages. */
export function conversation(settings = {}) {
  const now = Date.now();
  return { id: newId(), title: "", created: now, changed: now, settings, nodes: {}, chosen: {} };
}

/** Add a message under another one (or ROOT), and show it. Return it. */
export function add(conv, parent, message) {
  const node = { id: newId(), parent, created: Date.now(), ...message };
  conv.nodes[node.id] = node;
  conv.chosen[parent] = node.id;
  conv.changed = Date.now();
  if (!conv.title && node.role === "user") conv.title = titleOf(node);
  return node;
}

/** Return the messages that follow a message (or ROOT), the oldest first. */
export function children(conv, parent) {
  return Object.values(conv.nodes)
    .filter((node) => node.parent === parent && !node.isGone)
    .sort((one, other) => one.created - other.created);
}

/** Return the messages that are shown, from the first to the last. */
export function path(conv) {
  const byParent = new Map();
  for (const node of Object.values(conv.nodes)) {
    if (node.isGone) continue;
    if (!byParent.has(node.parent)) byParent.set(node.parent, []);
    byParent.get(node.parent).push(node);
  }
  const shown = [];
  for (let at = ROOT, next; (next = byParent.get(at)); ) {
    next.sort((one, other) => one.created - other.created);
    const node = next.find((one) => one.id === conv.chosen[at]) ?? next.at(-1);
    shown.push(node);
    at = node.id;
  }
  return shown;
}

/** Return the messages that are shown up to this one. */
export function pathTo(conv, id) {
  const above = [];
  for (let node = conv.nodes[id]; node; node = conv.nodes[node.parent]) above.unshift(node);
  return above;
}

/** Return all versions of a message, and the index of this one among them. */
export function versions(conv, node) {
  const all = children(conv, node.parent);
  return { all, index: all.findIndex((one) => one.id === node.id) };
}

/** Show the version that stands `step` places beside this one. Return it; null if there is none. */
export function turn(conv, node, step) {
  const { all, index } = versions(conv, node);
  const other = all[index + step];
  if (!other) return null;
  conv.chosen[node.parent] = other.id;
  return other;
}

/** Take a message out. It stays as a mark, or the states of other tabs would bring it back. */
export function drop(conv, node) {
  conv.nodes[node.id] = { id: node.id, parent: node.parent, created: node.created, isGone: true };
  if (conv.chosen[node.parent] === node.id) delete conv.chosen[node.parent];
}

/** Return both states of a conversation as one: other tabs may have added messages to `stored`. */
export function merged(ours, stored) {
  return { ...ours, nodes: { ...stored?.nodes, ...ours.nodes }, chosen: { ...stored?.chosen, ...ours.chosen } };
}

/** Return the text of a question as the model gets it: the documents first, as in `l4 ask`. */
export function questionText(node) {
  const documents = node.documents ?? [];
  const shown =
    documents.length === 1
      ? [documents[0].text.trim()]
      : documents.map((one) => `<document name="${one.name}">\n${one.text.trim()}\n</document>`);
  return [...shown, node.content].join("\n\n");
}

/** Return messages as the server's API takes them. An answer without a text is left out. */
export function messagesOf(nodes, system) {
  const messages = system?.trim() ? [{ role: "system", content: system }] : [];
  for (const node of nodes) {
    const content = node.role === "user" ? questionText(node) : node.content;
    if (node.role === "user" || content) messages.push({ role: node.role, content });
  }
  return messages;
}

function titleOf(node) {
  const line = node.content.trim().split("\n")[0].trim() || node.documents?.[0]?.name || "";
  return line.length > 60 ? `${line.slice(0, 59).trimEnd()}…` : line;
}
