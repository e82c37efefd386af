// The queue: keys, claiming the next alert, and rows that follow changes by themselves.
"use strict";

(() => {
  const rows = document.getElementById("rows");
  const all = () => [...rows.querySelectorAll("tbody tr")];
  const current = () => document.activeElement?.closest?.("tbody tr");

  const refresh = async () => {
    const focused = current()?.dataset.customer;
    const answer = await fetch(rows.dataset.rows, { headers: { "Accept": "text/html" } });
    if (!answer.ok || answer.redirected) { location.reload(); return; }
    if (document.querySelector("dialog[open]")) { return; }
    rows.innerHTML = await answer.text();
    alerts.localise(rows);
    if (focused) { rows.querySelector(`tr[data-customer="${CSS.escape(focused)}"]`)?.focus(); }
  };
  let waiting = null;
  const soon = () => { waiting ??= setTimeout(() => { waiting = null; refresh(); }, 400); };

  const live = alerts.live();
  live.addEventListener("change", soon);
  live.addEventListener("open", () => rows.dataset.live = "yes");
  document.addEventListener("acted", soon);

  document.getElementById("next")?.addEventListener("click", async () => {
    try {
      const asked = new URLSearchParams(location.search);
      const wanted = Object.fromEntries(["tier", "cause", "category", "region"].map((name) => [name, asked.get(name) || null]));
      const { customer } = await tierstream.send("/queue/claim", wanted);
      location.href = `/customers/${encodeURIComponent(customer)}`;
    } catch (error) { alerts.say(error.message, true); }
  });

  const keys = { c: "claim", d: "contacted", s: "snoozed", x: "dismissed" };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea, dialog[open]")) { return; }
    const list = all(), at = list.indexOf(current());
    if (event.key === "n") { document.getElementById("next")?.click(); }
    else if (event.key === "j") { list[Math.min(at + 1, list.length - 1)]?.focus(); }
    else if (event.key === "k") { list[Math.max(at - 1, 0)]?.focus(); }
    else if (event.key === "Enter" && event.target.matches("tr")) { current().querySelector("a").click(); }
    else if (keys[event.key] && at >= 0) { list[at].querySelector(`[data-act="${keys[event.key]}"]`)?.click(); }
    else { return; }
    event.preventDefault();
  });
})();
