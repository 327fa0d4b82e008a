// Light or dark. This runs before the page is drawn, so that it does not flash.

(() => {
  const root = document.documentElement;
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");

  function chosen() {
    try {
      return localStorage.getItem("l4-theme");
    } catch {
      return null;
    }
  }

  function current() {
    return root.dataset.theme ?? (prefersDark.matches ? "dark" : "light");
  }

  /** Switch to the other one. What the system prefers anyway is not stored. */
  function toggle() {
    const theme = current() === "dark" ? "light" : "dark";
    const isUsual = (theme === "dark") === prefersDark.matches;
    if (isUsual) delete root.dataset.theme;
    else root.dataset.theme = theme;
    try {
      if (isUsual) localStorage.removeItem("l4-theme");
      else localStorage.setItem("l4-theme", theme);
    } catch {
      // The browser stores nothing: the switch lasts until the page is closed.
    }
    return theme;
  }

  const stored = chosen();
  if (stored === "dark" || stored === "light") root.dataset.theme = stored;
  globalThis.l4Theme = { current, toggle };
})();
