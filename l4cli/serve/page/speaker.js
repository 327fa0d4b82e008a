// What screen readers say: short notes, and answers in whole sentences instead of token by token.

const MOST_KEPT = 30; // sentences in the live region
const SENTENCES = typeof Intl.Segmenter === "function" ? new Intl.Segmenter(undefined, { granularity: "sentence" }) : null;

/** Have a screen reader say a note. */
export function say(note) {
  add(document.getElementById("spoken-notes"), note);
}

/** Says an answer while it is generated. */
export class Speaker {
  constructor() {
    this.numSaid = 0; // characters
  }

  /** Say the sentences that are complete now. `isOpen`: more will follow. */
  update(text, isOpen) {
    const fresh = text.slice(this.numSaid);
    const end = isOpen ? endOfSentences(fresh) : fresh.length;
    if (!end) return;
    this.numSaid += end;
    const spoken = plain(fresh.slice(0, end));
    if (spoken) add(document.getElementById("spoken-answer"), spoken);
  }
}

/** Return how many characters belong to sentences after which another one has begun. */
function endOfSentences(text) {
  const block = text.lastIndexOf("\n\n");
  const from = block < 0 ? 0 : block + 2;
  if (!SENTENCES) return from;
  const last = [...SENTENCES.segment(text.slice(from))].at(-1);
  return from + (last?.index ?? 0);
}

/** Return a text as it is spoken: without the marks of Markdown. */
function plain(text) {
  return text
    .replace(/[`~]{3,}\s*(\w*)/g, " Code. ")
    .replace(/\]\([^)\s]{0,2000}\)/g, "")
    .replace(/[*_#>|`[\]]+/g, " ")
    .replace(/\s+/g, " ")
    .trim();
}

function add(region, text) {
  const line = document.createElement("p");
  line.textContent = text;
  region.append(line);
  while (region.children.length > MOST_KEPT) region.firstChild.remove();
}
