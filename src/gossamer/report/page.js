"use strict";
(() => {
  const report = JSON.parse(document.getElementById("report-data").textContent);
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  const shown = {};
  let printing = false;

  function themed(figure) {
    const text = JSON.stringify(figure);
    if (printing || !prefersDark.matches) return JSON.parse(text);
    return JSON.parse(text.replace(/#[0-9a-f]{6}/g, (colour) => report.dark[colour] || colour));
  }

  function draw(key) {
    const view = report.charts[key][shown[key]];
    const plot = document.getElementById("plot-" + key);
    const figure = themed(view.figure);
    // Hidden methods stay hidden when the view or the colours change; the zoom belongs to one view.
    figure.layout.uirevision = "kept";
    for (const name of Object.keys(figure.layout)) {
      if (/^[xy]axis/.test(name)) figure.layout[name].uirevision = "view " + shown[key];
    }
    const small = matchMedia("(pointer: coarse), (max-width: 45rem)").matches;
    if (small) figure.layout.dragmode = false;  // a finger scrolls the page
    if (printing) figure.layout.width = 680;  // the width of a sheet, not of the window
    plot.nextElementSibling.textContent = view.caption;
    return Plotly.react(plot, figure.data, figure.layout, {
      responsive: true,
      displaylogo: false,
      displayModeBar: small ? false : "hover",
      modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
      toImageButtonOptions: { filename: "gossamer-" + key, scale: 2 },
    });
  }

  const drawAll = () => Object.keys(shown).forEach(draw);

  for (const key of Object.keys(report.charts)) {
    shown[key] = 0;
    draw(key);
  }

  for (const button of document.querySelectorAll("button[data-view]")) {
    button.addEventListener("click", () => {
      for (const other of button.parentElement.children) other.setAttribute("aria-pressed", other === button);
      shown[button.dataset.chart] = Number(button.dataset.view);
      draw(button.dataset.chart);
    });
  }
  for (const select of document.querySelectorAll("select[data-chart]")) {
    select.addEventListener("change", () => {
      shown[select.dataset.chart] = Number(select.value);
      draw(select.dataset.chart);
    });
  }

  prefersDark.addEventListener("change", drawAll);
  window.addEventListener("beforeprint", () => {
    printing = true;
    drawAll();
  });
  window.addEventListener("afterprint", () => {
    printing = false;
    for (const key of Object.keys(shown)) draw(key).then(Plotly.Plots.resize);
  });

  const copy = document.getElementById("copy");
  if (copy) copy.addEventListener("click", async () => {
    const command = document.getElementById("command");
    try {
      await navigator.clipboard.writeText(command.textContent);
      copy.textContent = "Copied";
    } catch {
      // Some browsers forbid the clipboard to a file; then the text is marked, ready for the keyboard.
      getSelection().selectAllChildren(command);
      copy.textContent = "Marked: press Ctrl-C";
    }
    setTimeout(() => (copy.textContent = "Copy"), 2500);
  });
})();
