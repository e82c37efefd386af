// The page of a customer: reloads it on changes, answers "what if", and moves the slider over the customer's past.
"use strict";

(() => {
  document.addEventListener("acted", () => setTimeout(() => location.reload(), 700));
  const live = alerts.live();
  const here = decodeURIComponent(location.pathname.split("/").pop());
  live.addEventListener("change", (event) => {
    if (JSON.parse(event.data).customer === here) { reload(); }
  });

  // Not while a dialog is open; and only after somebody has finished writing in the form.
  const reload = () => {
    if (document.querySelector("dialog[open]")) { return; }
    const writes = document.activeElement?.closest("#what-if form");
    if (writes) { writes.addEventListener("focusout", () => setTimeout(reload), { once: true }); } else { location.reload(); }
  };

  const form = document.querySelector("#what-if form");
  if (form) {
    const place = document.getElementById("what-if-answer"), what = document.getElementById("what");
    const fit = () => {
      for (const field of form.querySelectorAll("[data-for]")) { field.hidden = !field.dataset.for.split(" ").includes(what.value); }
    };
    what.addEventListener("change", fit);
    fit();
    let latest = 0;
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const asked = new URLSearchParams(new FormData(form)), turn = ++latest;
      place.setAttribute("aria-busy", "true");
      place.textContent = place.dataset.asking;
      try {
        const answer = await fetch(`${form.dataset.answers}?${asked}`, { headers: { "Accept": "text/html" } });
        if (answer.redirected) { location.reload(); return; }
        const text = await answer.text();
        if (turn !== latest) { return; }
        if (text.startsWith("<!doctype")) { throw new Error("a page, not an answer"); }
        place.innerHTML = text;
        // When the page is loaded again, as after a change of the customer, it asks the same.
        history.replaceState(null, "", `?${asked}#what-if`);
      } catch { if (turn === latest) { place.textContent = place.dataset.failed; } }
      place.removeAttribute("aria-busy");
    });
  }

  const slider = document.getElementById("slider");
  if (!slider) { return; }
  const samples = JSON.parse(slider.dataset.samples);
  if (!samples.length) { return; }
  const cursor = document.querySelector(".timeline .cursor"), then = document.getElementById("then");
  const date = new Intl.DateTimeFormat(document.documentElement.lang, { dateStyle: "medium" });
  const left = Number(cursor.dataset.left), right = Number(cursor.dataset.right);
  const show = () => {
    const [at, probability, tier, level] = samples[Number(slider.value)];
    const x = left + (right - left) * (at - samples[0][0]) / Math.max(samples.at(-1)[0] - samples[0][0], 1);
    cursor.setAttribute("x1", x);
    cursor.setAttribute("x2", x);
    then.textContent = `${date.format(new Date(at))}: ${tier} · ${level} · ${Math.round(probability * 100)} %`;
    slider.setAttribute("aria-valuetext", then.textContent);
  };
  slider.max = samples.length - 1;
  slider.value = samples.length - 1;
  slider.addEventListener("input", show);
  show();
})();
