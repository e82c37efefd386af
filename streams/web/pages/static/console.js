// On every page: the chosen theme, and requests that carry the session's token.
"use strict";

(() => {
  const root = document.documentElement;
  const stored = () => { try { return localStorage.getItem("theme"); } catch { return null; } };
  const store = (theme) => { try { localStorage.setItem("theme", theme); } catch { /* then the theme lasts for this page only */ } };

  // Set before the page is drawn, so that it does not flash.
  if (stored()) root.dataset.theme = stored();

  addEventListener("DOMContentLoaded", () => {
    document.getElementById("theme")?.addEventListener("click", () => {
      const isDark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
      root.dataset.theme = isDark ? "light" : "dark";
      store(root.dataset.theme);
    });
  });

  // Sends JSON for a change, as `tierstream.send("/customers/1516/act", {action: "contacted"})`; throws an Error with the sentence
  // of an answer that reports a failure.
  window.tierstream = {
    async send(path, body) {
      const answer = await fetch(path, {
        method: "POST",
        headers: {
          "Content-Type": "application/json",
          "Accept": "application/json",
          "X-CSRF-Token": document.querySelector('meta[name="csrf-token"]').content,
        },
        body: JSON.stringify(body),
      });
      if (answer.status === 401) { location.reload(); }
      const result = await answer.json();
      if (!answer.ok) { throw new Error(result.detail); }
      return result;
    },
  };
})();
