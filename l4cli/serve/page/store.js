// Keeps conversations in the browser, in IndexedDB. Nothing of them is kept on the server.

import { merged } from "./tree.js";

const CONVERSATIONS = "conversations";
const HEADS = "heads"; // what the list shows of each conversation

/**
 * The conversations of this browser. Other tabs may change them, too; `onChange` tells. `onSaving`
 * tells whether something is being kept just now.
 */
export class Store {
  constructor(database) {
    this.database = database;
    this.channel = new BroadcastChannel("l4-conversations");
    this.onChange = () => {};
    this.onSaving = () => {};
    this.numSaving = 0;
    this.channel.onmessage = () => this.onChange();
  }

  /** Return all conversations as {id, title, changed}, the latest first. */
  async list() {
    const heads = await result(this.database.transaction(HEADS).objectStore(HEADS).getAll());
    return heads.sort((one, other) => other.changed - one.changed);
  }

  /** Return a conversation; undefined if there is none with this id. */
  load(id) {
    return result(this.database.transaction(CONVERSATIONS).objectStore(CONVERSATIONS).get(id));
  }

  /** Keep a conversation, together with what other tabs have added to it. */
  async save(conv) {
    this.onSaving(++this.numSaving > 0);
    try {
      await this.put(conv);
    } finally {
      this.onSaving(--this.numSaving > 0);
    }
    this.tell();
  }

  async put(conv) {
    const change = this.database.transaction([CONVERSATIONS, HEADS], "readwrite");
    const whole = change.objectStore(CONVERSATIONS);
    const stored = await result(whole.get(conv.id));
    Object.assign(conv, merged(conv, stored));
    whole.put(conv);
    change.objectStore(HEADS).put({ id: conv.id, title: conv.title, changed: conv.changed });
    await finished(change);
  }

  async remove(id) {
    const change = this.database.transaction([CONVERSATIONS, HEADS], "readwrite");
    change.objectStore(CONVERSATIONS).delete(id);
    change.objectStore(HEADS).delete(id);
    await finished(change);
    this.tell();
  }

  tell() {
    this.channel.postMessage("changed");
    this.onChange();
  }
}

/** Keeps conversations until the page is closed, for browsers that do not allow more. */
class Memory {
  constructor() {
    this.kept = new Map();
    this.onChange = () => {};
    this.isTemporary = true;
  }

  async list() {
    const all = [...this.kept.values()].map(({ id, title, changed }) => ({ id, title, changed }));
    return all.sort((one, other) => other.changed - one.changed);
  }

  async load(id) {
    return this.kept.get(id);
  }

  async save(conv) {
    this.kept.set(conv.id, conv);
    this.onChange();
  }

  async remove(id) {
    this.kept.delete(id);
    this.onChange();
  }
}

/** Return the browser's store. */
export async function openStore() {
  try {
    const request = indexedDB.open("l4", 1);
    request.onupgradeneeded = () => {
      request.result.createObjectStore(CONVERSATIONS, { keyPath: "id" });
      request.result.createObjectStore(HEADS, { keyPath: "id" });
    };
    return new Store(await result(request));
  } catch {
    return new Memory();
  }
}

function result(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

function finished(transaction) {
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve();
    transaction.onerror = transaction.onabort = () => reject(transaction.error);
  });
}
