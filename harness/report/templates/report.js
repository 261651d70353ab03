"use strict";
// Draws each chart's chosen panel from its block of JSON; on a dark page with the colours of the theme exchanged.
(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const theme = Object.entries(JSON.parse(document.getElementById("theme").textContent));
  const options = { responsive: true, displaylogo: false, displayModeBar: false };

  function draw(plot, printing) {
    let text = document.getElementById(plot.id + "-data").textContent;
    if (dark.matches && !printing) for (const [light, other] of theme) text = text.replaceAll(light, other);
    const choice = document.getElementById(plot.id + "-choice");
    const figure = JSON.parse(text)[choice ? choice.selectedIndex : 0];
    plot.style.minHeight = figure.layout.height + "px";
    Plotly.react(plot, figure.data, figure.layout, options);
  }

  const plots = [...document.querySelectorAll(".plot")];
  const all = (printing) => plots.forEach((plot) => draw(plot, printing));
  document.querySelectorAll(".choice select").forEach((choice) =>
    choice.addEventListener("change", () => draw(document.getElementById(choice.id.replace(/-choice$/, "")), false)));
  dark.addEventListener("change", () => all(false));
  addEventListener("beforeprint", () => all(true));
  addEventListener("afterprint", () => all(false));
  all(false);
  document.documentElement.dataset.drawn = "yes";
})();
