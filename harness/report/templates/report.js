"use strict";
// Draws each chart's chosen panel from its block of JSON; on a dark page with the colours of the theme exchanged.
(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const theme = Object.entries(JSON.parse(document.getElementById("theme").textContent));
  const options = { responsive: true, displaylogo: false, displayModeBar: false };

  // A legend below the plots has room for its lines in a wide chart; a narrow one needs more of them.
  function fit(layout, width) {
    if (!layout.meta) return;
    const { entries, entry, line, lines } = layout.meta;
    const more = Math.max(line * (Math.ceil(entries / Math.max(Math.floor(width / entry), 1)) - lines), 0);
    layout.height += more;
    layout.margin.b += more;
    layout.legend.y = layout.margin.b / layout.height;
  }

  function draw(plot, printing) {
    let text = document.getElementById(plot.id + "-data").textContent;
    if (dark.matches && !printing) for (const [light, other] of theme) text = text.replaceAll(light, other);
    const choice = document.getElementById(plot.id + "-choice");
    const figure = JSON.parse(text)[choice ? choice.selectedIndex : 0];
    fit(figure.layout, plot.clientWidth);
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
