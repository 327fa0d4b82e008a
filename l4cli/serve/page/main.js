// Puts the page together.

import { ApiError, models } from "./api.js";
import { Chat } from "./chat.js";
import { Composer } from "./composer.js";
import { el } from "./dom.js";
import { SettingsDialog, lastSettings } from "./settings.js";
import { Sidebar } from "./sidebar.js";
import { say } from "./speaker.js";
import { openStore } from "./store.js";
import { conversation, path } from "./tree.js";
import { View } from "./view.js";
import { amount, inWords } from "./words.js";

const $ = (id) => document.getElementById(id);
const isNarrow = matchMedia("(max-width: 56rem)");

async function main() {
  const store = await openStore();
  const served = await models();
  const on = { show: () => show(), grow: (node) => view.grow(node), end: (node) => ended(node) };
  const chat = new Chat(store, served, on);
  const act = {
    ask: (text, documents) => {
      view.isFollowing = true;
      chat.ask(text, documents);
    },
    stop: () => chat.stop(),
    edit: (node, text) => chat.edit(node, text),
    again: (node) => chat.again(node),
    turn: (node, step) => {
      view.isFollowing = false;
      const other = chat.isRunning ? null : chat.turn(node, step);
      if (other) view.focus(other, document.activeElement === document.body ? step : 0);
    },
    editLast: () => view.editLast(),
    signIn: () => location.assign("/"),
  };
  const view = new View($("messages"), $("scroller"), act);
  const composer = new Composer($("composer"), chat, act);
  const settings = new SettingsDialog($("settings"), () => settingsChanged());
  const sidebar = new Sidebar($("conversations"), $("menu"), $("toast"), {
    open: (id) => openConversation(id),
    conversation: (id) => (id === chat.conv.id ? chat.conv : store.load(id)),
    save: async (conv) => {
      await store.save(conv);
      if (conv.id === chat.conv.id) show();
    },
    remove: async (id) => {
      chat.forget(id);
      await store.remove(id);
      if (id === chat.conv.id) fresh();
    },
  });

  function show() {
    const shown = path(chat.conv);
    $("welcome").hidden = shown.length > 0;
    $("title").textContent = chat.conv.title || "New conversation";
    document.title = chat.conv.title ? `${chat.conv.title} – l4` : "l4";
    $("model").textContent = chat.model.id;
    $("welcome-model").textContent = chat.model.id;
    $("welcome-context").textContent =
      `${amount(chat.model.max_model_len)} tokens of context, counted exactly as you write.`;
    $("settings-button").classList.toggle("set", Boolean(chat.conv.settings.system?.trim()));
    view.show(chat);
    composer.update();
    composer.countSoon();
  }

  function ended(node) {
    view.end(node);
    if (node.finish === "stopped") say("Stopped.");
    composer.countSoon();
  }

  async function list() {
    sidebar.draw(await store.list(), chat.conv.id);
  }

  function open(conv) {
    view.isFollowing = true;
    chat.open(conv);
    history.replaceState(null, "", path(conv).length ? `#${conv.id}` : location.pathname);
    void list();
  }

  async function openConversation(id) {
    const conv = await store.load(id);
    if (!conv) return;
    closeSidebar();
    open(conv);
    view.toEnd();
    composer.field.focus();
  }

  function fresh() {
    closeSidebar();
    open(conversation(lastSettings()));
    composer.field.focus();
  }

  function settingsChanged() {
    if (path(chat.conv).length) void store.save(chat.conv);
    show();
  }

  function toggleSidebar(isOpen = !isSidebarOpen()) {
    document.body.dataset.sidebar = isOpen ? "open" : "closed";
    $("sidebar-button").setAttribute("aria-expanded", String(isOpen));
    $("main").inert = isOpen && isNarrow.matches;
    if (isOpen) ($("conversations").querySelector("button") ?? $("new")).focus();
    else if (document.activeElement === document.body) $("sidebar-button").focus();
  }

  function isSidebarOpen() {
    return getComputedStyle($("sidebar")).visibility === "visible";
  }

  function closeSidebar() {
    if (isNarrow.matches && isSidebarOpen()) toggleSidebar(false);
  }

  function onKey(event) {
    const keys = { KeyN: fresh, KeyL: toggleSidebar, KeyS: () => settings.open(chat.conv.settings), KeyK: () => $("keys").showModal() };
    if (event.altKey && !event.ctrlKey && !event.metaKey && Object.hasOwn(keys, event.code)) {
      event.preventDefault();
      if (!document.querySelector("dialog[open]")) keys[event.code]();
    } else if (event.key === "Escape" && !document.querySelector("dialog[open], [popover]:popover-open")) {
      if (isNarrow.matches && isSidebarOpen()) toggleSidebar(false);
      else if (chat.isRunning) chat.stop();
      else composer.field.focus();
    }
  }

  store.onChange = () => {
    if (path(chat.conv).length && location.hash !== `#${chat.conv.id}`) history.replaceState(null, "", `#${chat.conv.id}`);
    void list();
  };
  store.onSaving = (isSaving) => document.body.toggleAttribute("data-saving", isSaving);
  $("new").addEventListener("click", fresh);
  $("new-short").addEventListener("click", fresh);
  $("sidebar-button").addEventListener("click", () => toggleSidebar());
  $("curtain").addEventListener("click", () => toggleSidebar(false));
  $("settings-button").addEventListener("click", () => settings.open(chat.conv.settings));
  $("keys-button").addEventListener("click", () => $("keys").showModal());
  $("keys").addEventListener("click", (event) => event.target === $("keys") && $("keys").close());
  $("to-end").addEventListener("click", () => view.toEnd());
  document.addEventListener("keydown", onKey);
  addEventListener("hashchange", () => openConversation(location.hash.slice(1)));
  acceptDrops(composer);
  settings.offer(served);
  if (store.isTemporary) notice("This browser keeps nothing here: conversations are lost when the page is closed.");
  const linked = location.hash.length > 1 ? await store.load(location.hash.slice(1)) : null;
  open(linked ?? conversation(lastSettings()));
  if (linked) view.toEnd();
  if (!isNarrow.matches) composer.field.focus();
  $("sidebar-button").setAttribute("aria-expanded", String(isSidebarOpen()));
  document.body.dataset.ready = "yes";
}

/** Take files that are dropped anywhere on the page. */
function acceptDrops(composer) {
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  document.addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    document.body.classList.add("dropping");
  });
  document.addEventListener("dragleave", (event) => event.relatedTarget || document.body.classList.remove("dropping"));
  document.addEventListener("drop", (event) => {
    document.body.classList.remove("dropping");
    if (!hasFiles(event)) return;
    event.preventDefault();
    composer.attach(event.dataTransfer.files);
  });
}

function notice(text) {
  $("notice").textContent = text;
  $("notice").hidden = false;
}

$("theme-button").addEventListener("click", () => say(globalThis.l4Theme.toggle() === "dark" ? "Dark." : "Light."));
main().catch((error) => {
  const { what, todo } = inWords(error);
  const reload = el("button", { type: "button" }, error instanceof ApiError && error.status === 401 ? "Sign in" : "Try again");
  reload.addEventListener("click", () => location.reload());
  $("notice").replaceChildren(`${what} ${todo} `, reload);
  $("notice").hidden = false;
});
