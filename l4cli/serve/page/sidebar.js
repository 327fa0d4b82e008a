// The list of conversations: open, rename, export, delete.

import { el, iconButton } from "./dom.js";
import { asJson, asMarkdown, download, fileName } from "./exporting.js";
import { harmless } from "./printable.js";
import { say } from "./speaker.js";

const UNDO_SECONDS = 10;

export class Sidebar {
  /** `act` has open(id), fresh(), conversation(id), save(conv), remove(id). */
  constructor(list, menu, toast, act) {
    this.list = list;
    this.menu = menu;
    this.toast = toast;
    this.act = act;
    menu.addEventListener("click", (event) => this.choose(event.target.closest("button")?.value));
  }

  /** Draw the list. `current` is the id of the open conversation. */
  draw(heads, current) {
    if (this.list.querySelector("input")) return; // a title is being written
    const focused = this.list.contains(document.activeElement) ? document.activeElement.closest("li")?.dataset.id : null;
    const items = heads.map((head) => this.item(head, head.id === current));
    this.list.replaceChildren(...items);
    if (focused) this.list.querySelector(`[data-id="${CSS.escape(focused)}"] button`)?.focus();
  }

  item(head, isCurrent) {
    const title = head.title || "Untitled";
    const open = el("button", { type: "button", class: "title", "aria-current": isCurrent ? "true" : null }, el("bdi", {}, harmless(title)));
    open.addEventListener("click", () => this.act.open(head.id));
    open.addEventListener("keydown", (event) => {
      if (event.key === "Delete") this.remove(head.id);
      if (event.key === "F2") this.rename(head.id);
    });
    const more = iconButton("more", `More for ${title}`, () => this.openMenu(head.id, more), { "aria-haspopup": "true" });
    return el("li", { "data-id": head.id }, open, more);
  }

  openMenu(id, button) {
    this.chosen = id;
    this.menu.showPopover();
    const at = button.getBoundingClientRect();
    const { offsetWidth: width, offsetHeight: height } = this.menu;
    this.menu.style.left = `${Math.max(8, Math.min(at.left, innerWidth - width - 8))}px`;
    this.menu.style.top = `${Math.min(at.bottom + 4, innerHeight - height - 8)}px`;
    this.menu.querySelector("button").focus();
  }

  async choose(what) {
    if (!what) return;
    this.menu.hidePopover();
    if (what === "rename") return this.rename(this.chosen);
    if (what === "delete") return this.remove(this.chosen);
    const conv = await this.act.conversation(this.chosen);
    if (what === "markdown") download(asMarkdown(conv), fileName(conv, "md"), "text/markdown");
    else download(asJson(conv), fileName(conv, "json"), "application/json");
    return undefined;
  }

  async rename(id) {
    const conv = await this.act.conversation(id);
    const item = this.list.querySelector(`[data-id="${CSS.escape(id)}"]`);
    const field = el("input", { "aria-label": "Title of the conversation", maxlength: 200, dir: "auto" });
    field.value = conv.title;
    item.querySelector(".title").replaceWith(field);
    let isDone = false;
    const done = async (isKept) => {
      if (isDone) return;
      isDone = true;
      if (isKept && field.value.trim()) conv.title = field.value.trim();
      field.replaceWith(el("span"));
      await this.act.save(conv);
      this.list.querySelector(`[data-id="${CSS.escape(id)}"] button`)?.focus();
    };
    field.addEventListener("blur", () => done(true));
    field.addEventListener("keydown", (event) => {
      if (event.key === "Enter") done(true);
      if (event.key === "Escape") {
        event.stopPropagation();
        done(false);
      }
    });
    field.focus();
    field.select();
  }

  /** Delete a conversation; for some seconds it can be brought back. */
  async remove(id) {
    const conv = await this.act.conversation(id);
    await this.act.remove(id);
    const undo = el("button", { type: "button" }, "Undo");
    const hide = () => this.toast.replaceChildren();
    clearTimeout(this.timer);
    this.timer = setTimeout(hide, UNDO_SECONDS * 1000);
    undo.addEventListener("click", async () => {
      hide();
      await this.act.save(conv);
      this.act.open(id);
    });
    this.toast.replaceChildren(el("span", {}, `Deleted: ${harmless(conv.title || "Untitled")}`), undo);
    say("The conversation is deleted. Undo is at the end of the page.");
  }
}
