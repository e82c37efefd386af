// Actions on alerts, on every page that shows alerts: buttons with data-act, dialogs that ask for an end or a reason, and times in
// the reader's time zone.
"use strict";

(() => {
  const statusLine = () => document.getElementById("status-line");
  const say = (text, isProblem) => { const place = statusLine(); place.textContent = text; place.className = isProblem ? "problem" : "done"; };

  const ask = (id) => new Promise((resolve) => {
    const dialog = document.getElementById(id);
    if (!dialog) { resolve({}); return; }
    const form = dialog.querySelector("form");
    form.reset();
    dialog.returnValue = "cancel";
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "ok" ? Object.fromEntries(new FormData(form)) : null), { once: true });
    dialog.showModal();
  });

  const offset = () => Number(document.querySelector("[data-now]")?.dataset.now ?? Date.now()) - Date.now();

  const act = async (place, action) => {
    const { customer, number } = place.dataset;
    const given = ["snoozed", "dismissed"].includes(action) ? await ask(`ask-${action}`) : {};
    if (given === null) { return false; }
    const row = place.closest("tr, .card");
    row?.classList.add("sending");
    try {
      if (action === "claim") {
        await tierstream.send("/queue/claim", { customer });
      } else {
        const body = { action, number: Number(number) };
        if (given.reason) { body.reason = given.reason; }
        if (given.until) { body.until = new Date(given.until).toISOString(); }
        await tierstream.send(`/customers/${encodeURIComponent(customer)}/act`, body);
      }
      say(document.querySelector(`[data-act="${action}"]`)?.textContent + " ✓", false);
      return true;
    } catch (error) {
      say(error.message, true);
      return false;
    } finally {
      row?.classList.remove("sending");
    }
  };

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-act]");
    if (!button) { return; }
    button.disabled = true;
    const done = await act(button.closest(".acts"), button.dataset.act);
    button.disabled = false;
    if (done) { document.dispatchEvent(new CustomEvent("acted")); }
  });

  const language = document.documentElement.lang;
  const absolute = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "short" });
  const relative = new Intl.RelativeTimeFormat(language, { numeric: "auto" });
  const far = 14 * 24 * 3600e3;
  const inWords = (left) => Math.abs(left) < 3600e3 ? relative.format(Math.round(left / 60e3), "minute")
    : Math.abs(left) < 48 * 3600e3 ? relative.format(Math.round(left / 3600e3), "hour") : relative.format(Math.round(left / 864e5), "day");
  const localise = (root) => {
    const now = Date.now() + offset();
    for (const time of root.querySelectorAll("time[datetime]")) {
      const at = new Date(time.dateTime);
      time.title = absolute.format(at);
      time.textContent = Math.abs(at - now) < far ? inWords(at - now) : absolute.format(at);
    }
  };

  // Changes after those that the page shows; none that happens while the page loads is missed.
  const live = () => new EventSource(`/queue/live?after=${document.querySelector("[data-seen]").dataset.seen}`);

  window.alerts = { act, say, localise, live };
  localise(document);
})();
