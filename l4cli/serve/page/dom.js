// Builds elements. There is no way here to make elements from a text.

const SVG = "http://www.w3.org/2000/svg";
const ICONS = {
  attach: "M13.5 7.2 8 12.7a3.4 3.4 0 0 1-4.8-4.8l5.9-5.9a2.2 2.2 0 0 1 3.2 3.2L6.5 11a1 1 0 0 1-1.5-1.5l5-5",
  send: "M8 13.5v-11M3.5 7 8 2.5 12.5 7",
  stop: "M4 4h8v8H4z",
  copy: "M5.5 5.5h8v8h-8zM10.500 5.500v-3h-8v8h3",
  done: "m3 8.500 3.500 3.500L13 4.500",
  again: "M13 8a5 5 0 1 1-1.500-3.600L13 6M13 2.500V6H9.500",
  edit: "m3 13 .8-3.200L11 2.500 13.500 5l-7.300 7.300zM9.500 4 12 6.500",
  left: "M10 3 5 8l5 5",
  right: "m6 3 5 5-5 5",
  down: "M8 2.500v11M3.500 9 8 13.500 12.500 9",
  close: "m4 4 8 8M12 4l-8 8",
  list: "M2.500 4h11M2.500 8h11M2.500 12h7",
  plus: "M8 3v10M3 8h10",
  more: "M3.500 8h.01M8 8h.01M12.500 8h.01",
  settings: "M2.500 5h6M12 5h1.500M2.500 11H4M7.500 11h6M10.250 3.250v3.500M5.750 9.250v3.500",
  theme: "M13.500 9.500A5.800 5.800 0 0 1 6.500 2.500a5.800 5.800 0 1 0 7 7",
  keys: "M1.500 4h13v8h-13zM4 6.500h.01M6.700 6.500h.01M9.300 6.500h.01M12 6.500h.01M5 9.500h6",
};

/** Return an element with attributes and children: nodes, texts, or lists of them. */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== "") element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null));
  return element;
}

/** Return a drawing that screen readers pass over. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

/** Return a button with an icon; its name is spoken, and shown when the pointer rests on it. */
export function iconButton(name, label, onClick, attributes = {}) {
  const button = el("button", { type: "button", class: "icon", "aria-label": label, title: label, ...attributes }, icon(name));
  button.addEventListener("click", onClick);
  return button;
}
