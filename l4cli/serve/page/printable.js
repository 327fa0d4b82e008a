// Text of a model or a file that cannot control anything, whoever wrote it (see l4cli/printable.py).

const CONTROL = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]/g;

/** Return a text with visible symbols in place of control characters and of those that turn it. */
export function harmless(text) {
  return text.replace(CONTROL, (character) => {
    const code = character.codePointAt(0);
    if (code === 0x0d) return "";
    if (code < 0x20) return String.fromCodePoint(0x2400 + code);
    return code === 0x7f ? "\u2421" : "\ufffd";
  });
}
