// Draws each figure of the page from the JSON beside it: point, tap or use the arrow keys to read
// values, press a name to hide its line, drag to enlarge, double-click or Escape to see all again.
"use strict";

const colour = (number) =>
  getComputedStyle(document.documentElement).getPropertyValue(number).trim();
const shown = (value) => (value == null ? "-" : String(Number(value.toPrecision(5))));

function intervals(spec) {
  // Vertical bars at the points of the series that have intervals and are no bands.
  return (u) => {
    for (const [place, one] of spec.series.entries()) {
      if (!one.low || one.band || !u.series[place + 1].show) continue;
      u.ctx.save();
      u.ctx.strokeStyle = colour(`--c${one.colour}`);
      u.ctx.lineWidth = 1.5 * devicePixelRatio;
      u.ctx.setLineDash([]);
      u.ctx.beginPath();
      for (const [at, x] of spec.x.entries()) {
        if (one.low[at] == null || one.high[at] == null) continue;
        const left = u.valToPos(x, "x", true);
        u.ctx.moveTo(left, u.valToPos(one.low[at], "y", true));
        u.ctx.lineTo(left, u.valToPos(one.high[at], "y", true));
      }
      u.ctx.stroke();
      u.ctx.restore();
    }
  };
}

function range(spec) {
  // Of the y axis: what is drawn, with its intervals and a margin.
  return (u, least, most) => {
    for (const [place, one] of spec.series.entries()) {
      if (!u.series[place + 1].show) continue;
      const ends = [...(one.low || []), ...(one.high || [])].filter((end) => end != null);
      least = Math.min(least, ...ends);
      most = Math.max(most, ...ends);
    }
    const margin = 0.06 * (most - least) || 0.05 * Math.abs(most) || 1;
    return [least - margin, most + margin];
  };
}

function across(spec) {
  // Of the x axis: all values, with room for the first and the last point.
  return (u, least, most) => {
    if (spec.log) return [least / 1.1, most * 1.1];
    const margin = 0.03 * (most - least) || 0.5;
    return [least - margin, most + margin];
  };
}

function options(spec, width, read) {
  const axis = {
    stroke: () => colour("--ink"),
    grid: { stroke: () => colour("--line"), width: 1 },
    ticks: { show: false },
    labelFont: "13px system-ui, sans-serif",
    labelSize: 22,
    values: (u, places) => places.map((place) => (place == null ? "" : shown(place))),
  };
  const x = { ...axis, label: spec.x_name, size: 32 };
  if (spec.x.length <= 10) {
    x.splits = () => spec.x;
    x.filter = (u, places) => places; // a logarithmic axis would name powers of ten alone
  }
  if (spec.ticks) x.values = () => spec.ticks;
  else if (!spec.log && spec.x.every(Number.isInteger)) {
    x.incrs = Array.from({ length: 9 }, (_, power) => [1, 2, 5].map((n) => n * 10 ** power)).flat();
  }
  const series = spec.series.map((one) => ({
    label: one.label,
    stroke: () => colour(`--c${one.colour}`),
    width: one.line ? 2 : 0,
    dash: one.dash,
    spanGaps: true,
    points: { show: one.points, size: 7, fill: () => colour(`--c${one.colour}`) },
  }));
  const hidden = { stroke: "transparent", points: { show: false }, width: 0, spanGaps: true };
  const bands = [];
  for (const one of spec.series.filter((each) => each.band && each.low)) {
    const first = series.length + 1;
    series.push({ ...hidden }, { ...hidden });
    bands.push({ series: [first + 1, first], fill: () => colour(`--c${one.colour}`) + "33" });
  }
  return {
    width,
    height: Math.round(Math.min(340, Math.max(240, width * 0.5))),
    legend: { show: false },
    scales: {
      x: { time: false, distr: spec.log ? 3 : 1, range: across(spec) },
      y: { range: range(spec) },
    },
    axes: [x, { ...axis, label: spec.y_name, size: 56 }],
    series: [{}, ...series],
    bands,
    hooks: { draw: [intervals(spec)], setCursor: [read] },
  };
}

function columns(spec) {
  const bands = spec.series.filter((each) => each.band && each.low);
  return [
    spec.x,
    ...spec.series.map((one) => one.values),
    ...bands.flatMap((one) => [one.low, one.high]),
  ];
}

function draw(chart) {
  const spec = JSON.parse(chart.querySelector("script").textContent);
  const plot = chart.querySelector(".plot");
  const where = document.createElement("span");
  const names = spec.series.map((one) => {
    const button = document.createElement("button");
    const line = document.createElement("i");
    line.style.borderTopColor = `var(--c${one.colour})`;
    line.style.borderTopStyle = one.dash.length ? "dashed" : "solid";
    button.type = "button";
    button.setAttribute("aria-pressed", "true");
    button.append(line, `${one.label} `, document.createElement("b"));
    return button;
  });
  chart.querySelector(".legend").append(...names, where);
  const read = (u) => {
    const at = u.cursor.idx;
    if (at == null) return;
    const x = spec.ticks ? spec.ticks[at] : shown(spec.x[at]);
    where.textContent = `at ${spec.x_name}: ${x}`;
    names.forEach((button, place) => {
      button.lastChild.textContent = shown(spec.series[place].values[at]);
    });
  };
  let u = null;
  const again = () => {
    const off = names.map((button) => button.getAttribute("aria-pressed") === "false");
    if (u) u.destroy();
    u = new uPlot(options(spec, plot.clientWidth, read), columns(spec), plot);
    off.forEach((hide, place) => hide && u.setSeries(place + 1, { show: false }));
  };
  names.forEach((button, place) =>
    button.addEventListener("click", () => {
      const show = button.getAttribute("aria-pressed") === "false";
      button.setAttribute("aria-pressed", String(show));
      u.setSeries(place + 1, { show });
    }),
  );
  plot.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.key === "Escape") again();
    if (!step) return;
    event.preventDefault();
    const at = u.cursor.idx == null ? -1 : u.cursor.idx;
    const next = Math.min(spec.x.length - 1, Math.max(0, at + step));
    u.setCursor({ left: u.valToPos(spec.x[next], "x"), top: 0 });
  });
  again();
  let width = plot.clientWidth;
  new ResizeObserver(() => {
    if (plot.clientWidth !== width) again();
    width = plot.clientWidth;
  }).observe(plot);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
}

document.querySelectorAll(".chart").forEach(draw);
