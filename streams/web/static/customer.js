// The slider over a customer's past: a line in the chart, and what was true at that instant.
"use strict";

(() => {
  document.addEventListener("acted", () => setTimeout(() => location.reload(), 700));
  const live = alerts.live();
  const here = decodeURIComponent(location.pathname.split("/").pop());
  live.addEventListener("change", (event) => {
    if (JSON.parse(event.data).customer === here && !document.querySelector("dialog[open]")) { location.reload(); }
  });

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
