// What a conversation asks for: model, system prompt, sampling. Fields that are left empty are not
// sent, and the model's own defaults hold.

const NUMBERS = ["temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_tokens", "seed"];
const LAST = "l4-settings"; // what the next new conversation begins with

/** Return the settings for a new conversation: those that were used last. */
export function lastSettings() {
  try {
    return JSON.parse(localStorage.getItem(LAST)) ?? {};
  } catch {
    return {};
  }
}

/** Return the fields of a request body for settings. */
export function fieldsOf(settings, model) {
  const fields = { model };
  for (const name of NUMBERS) {
    if (settings[name] !== undefined) fields[name] = settings[name];
  }
  return fields;
}

/** The dialog that shows and changes the settings of a conversation. */
export class SettingsDialog {
  constructor(dialog, onChange) {
    this.dialog = dialog;
    this.form = dialog.querySelector("form");
    this.onChange = onChange;
    this.settings = {};
    this.form.addEventListener("input", () => this.read());
    this.form.addEventListener("reset", () => setTimeout(() => this.read()));
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  }

  /** Offer the models; without a choice the field is not shown. */
  offer(models) {
    const field = this.form.elements.model;
    field.replaceChildren(...models.map((model) => new Option(model.id, model.id)));
    field.closest("label").hidden = models.length < 2;
  }

  open(settings) {
    this.settings = settings;
    const fields = this.form.elements;
    fields.system.value = settings.system ?? "";
    for (const name of NUMBERS) fields[name].value = settings[name] ?? "";
    if (settings.model) fields.model.value = settings.model;
    this.dialog.showModal();
  }

  read() {
    const fields = this.form.elements;
    this.settings.system = fields.system.value;
    if (fields.model.value) this.settings.model = fields.model.value;
    for (const name of NUMBERS) {
      const value = fields[name].value;
      if (value === "" || !fields[name].validity.valid) delete this.settings[name];
      else this.settings[name] = Number(value);
    }
    try {
      localStorage.setItem(LAST, JSON.stringify(this.settings));
    } catch {
      // The browser stores nothing: new conversations begin with the defaults.
    }
    this.onChange();
  }
}
