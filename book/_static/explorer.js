/* The explorer of chapter "RAdam step by step": two sliders, and what they make of rho_t, r_t and
   the warmups beside it. The formulas are those of rectification.js; the variants and the colours
   come with the page, from radam_core and experiments.style. */
"use strict";

{
  document.addEventListener("DOMContentLoaded", () => {
    document.querySelectorAll(".explorer").forEach(explore);
  });

  // What the sliders stop at: beta2 from 0.6 to 0.9999, by the logarithm of 1 - beta2, and updates
  // from 1 to 100,000, the first twenty one by one.
  const range = (from, to) => Array.from({ length: to - from + 1 }, (_, i) => from + i);
  const SHARES = new Set(range(20, 200).map((k) => Number((10 ** (-k / 50)).toPrecision(2))));
  const BETAS = [...SHARES].map((share) => Number((1 - share).toFixed(6)));
  const UPDATES = [...new Set(range(0, 250).map((k) => Math.round(10 ** (k / 50))))];
  const CURVES = [
    ["rectified", "RAdam's r"],
    ["exponential", "untuned exponential warmup"],
    ["linear", "untuned linear warmup"],
    ["closest", "closest linear warmup"],
  ];

  const digits = (value, count = 3) =>
    value >= 1000
      ? Math.round(value).toLocaleString("en-US")
      : String(Number(value.toPrecision(count)));
  const percent = (share) => `${digits(100 * share)}\u00a0%`;

  function drawn(name, attributes = {}, text = "") {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    Object.entries(attributes).forEach(([key, value]) => made.setAttribute(key, value));
    made.textContent = text;
    return made;
  }

  /* Put the controls, the plot and the words into the page, and renew them at every change. */
  function explore(box) {
    const variants = JSON.parse(box.dataset.variants);
    const controls = {
      beta2: slider("explorer-beta2", BETAS, BETAS.indexOf(0.999)),
      t: slider("explorer-t", UPDATES, UPDATES.indexOf(100)),
      variant: choice("explorer-variant", Object.keys(variants)),
      axes: choice("explorer-axes", ["logarithmic", "linear"]),
    };
    const parts = {
      plot: drawn("svg", { role: "img", class: "explorer-plot" }),
      legend: element("ul", { class: "explorer-legend" }),
      words: element("output", { class: "explorer-words", "aria-live": "polite" }),
      rows: element("tbody"),
    };
    box.replaceChildren(
      element(
        "div",
        { class: "explorer-controls" },
        labelled("β₂", controls.beta2),
        labelled("update t", controls.t),
        labelled("variant", controls.variant),
        labelled("axes", controls.axes),
      ),
      ...[parts.plot, parts.legend, parts.words, table(parts.rows)],
    );
    const renew = () => show(parts, variants, stateOf(controls, variants));
    Object.values(controls).forEach((control) => control.addEventListener("input", renew));
    followPointer(parts.plot, controls.t);
    new ResizeObserver(renew).observe(box);
  }

  function slider(id, stops, at) {
    const input = element("input", { id, type: "range", min: 0, max: stops.length - 1, value: at });
    input.stops = stops;
    return input;
  }

  function choice(id, names) {
    return element("select", { id }, ...names.map((name) => element("option", {}, name)));
  }

  function labelled(words, control) {
    const label = element("label", { for: control.id }, words);
    if (control.type === "range") {
      label.append(" = ", element("span", { id: `${control.id}-value` }));
    }
    return element("div", {}, label, control);
  }

  function table(rows) {
    const heads = ["variant", "first adaptive update", "r then", "updates before"];
    const head = element("tr", {}, ...heads.map((name) => element("th", { scope: "col" }, name)));
    const whole = element("table", { class: "table" }, element("thead", {}, head), rows);
    const name = { role: "region", "aria-label": "first adaptive update, by variant", tabindex: 0 };
    return element("div", { class: "explorer-table", ...name }, whole);
  }

  const found = new Map();

  /* The closest linear warmups, worked out once for every variant and beta2. */
  function closestTo(beta2, variant) {
    const key = `${beta2} ${JSON.stringify(variant)}`;
    if (!found.has(key)) found.set(key, rectification.closestLinear(beta2, variant));
    return found.get(key);
  }

  /* What the controls stand at, and all that follows from it. */
  function stateOf(controls, variants) {
    for (const control of [controls.beta2, controls.t]) {
      const stop = control.stops[control.value];
      const value = stop.toLocaleString("en-US", { maximumFractionDigits: 6 });
      control.setAttribute("aria-valuetext", value);
      document.getElementById(`${control.id}-value`).textContent = value;
    }
    const beta2 = BETAS[controls.beta2.value];
    const variant = variants[controls.variant.value];
    const closest = closestTo(beta2, variant);
    const factors = {
      rectified: (t) => rectification.factor(t, beta2, variant),
      exponential: (t) => rectification.untunedExponential(t, beta2),
      linear: (t) => rectification.untunedLinear(t, beta2),
      closest: closest && ((t) => rectification.linear(t, closest.nearest)),
    };
    const logarithmic = controls.axes.value === "logarithmic";
    const name = controls.variant.value;
    return { beta2, t: UPDATES[controls.t.value], name, variant, closest, factors, logarithmic };
  }

  function show(parts, variants, state) {
    draw(parts.plot, state);
    parts.legend.replaceChildren(...CURVES.map(([key, name]) => legendItem(key, name, state)));
    parts.words.textContent = inWords(state);
    parts.rows.replaceChildren(
      ...Object.keys(variants).map((name) => variantRow(name, variants[name], state)),
    );
  }

  function legendItem(key, name, { factors, t, closest }) {
    const swatch = drawn("svg", { class: "explorer-swatch", "aria-hidden": "true" });
    swatch.append(drawn("path", { class: `curve ${key}`, d: "M0 6H28" }));
    const over = key === "closest" && closest ? ` (${digits(closest.nearest)} updates)` : "";
    const value = factors[key] ? digits(factors[key](t)) : "none";
    return element("li", {}, swatch, ` ${name}${over}: `, element("b", {}, value));
  }

  function before(variant) {
    return variant.early === "skip" ? "the weights rest" : "momentum SGD";
  }

  function inWords({ beta2, t, name, variant, closest, factors }) {
    const length = rectification.rho(t, beta2);
    const limit = digits(rectification.rhoInf(beta2));
    const start =
      `Update ${digits(t)}, β₂ = ${beta2}, variant ${name}: the average is ` +
      `ρ = ${digits(length, 4)} gradients long, of ${limit} in the end. `;
    const sign = variant.strict ? "more than" : "at least";
    if (!closest) return `${start}It never is ${sign} ${variant.threshold}: no update is adaptive.`;
    const step = rectification.isAdaptive(t, beta2, variant)
      ? `The step is Adam's times r = ${digits(factors.rectified(t))}. `
      : `That is not ${sign} ${variant.threshold} yet: ${before(variant)}. `;
    return (
      `${start}${step}The untuned exponential warmup takes ${percent(factors.exponential(t))} of ` +
      `Adam's step, the untuned linear one ${percent(factors.linear(t))}. The linear warmup that ` +
      `comes closest lasts ${digits(closest.nearest)} updates and takes ` +
      `${percent(factors.closest(t))}. In all, r withholds ${digits(closest.withheld)} updates, ` +
      `as many as a linear warmup of ${digits(closest.fair)}.`
    );
  }

  function variantRow(name, variant, { beta2, name: chosen }) {
    const first = rectification.firstAdaptive(beta2, variant);
    const factor = first === null ? "–" : digits(rectification.factor(first, beta2, variant));
    const cells = [first === null ? "never" : digits(first), factor, before(variant)];
    const head = element("th", { scope: "row" }, element("code", {}, name));
    const row = element("tr", {}, head, ...cells.map((cell) => element("td", {}, cell)));
    if (name === chosen) row.setAttribute("aria-current", "true");
    return row;
  }

  /* ---- the plot: rho above, the multiples of Adam's step below, one axis of updates */

  const [MARGIN, TOP, UPPER, GAP, LOWER, BOTTOM] = [44, 24, 130, 56, 220, 42];

  function draw(plot, state) {
    const width = Math.max(240, plot.parentElement.clientWidth);
    const height = TOP + UPPER + GAP + LOWER + BOTTOM;
    plot.setAttribute("viewBox", `0 0 ${width} ${height}`);
    plot.setAttribute("aria-label", `rho and the multiples of Adam's step. ${inWords(state)}`);
    const x = axisOfUpdates(state, width);
    plot.updateAt = x.inverse;
    const lengths = axisOfLengths(state);
    const shares = { of: (value) => TOP + UPPER + GAP + LOWER * (1 - value), ticks: [0, 0.5, 1] };
    plot.replaceChildren(
      ...frame(x, lengths, TOP, UPPER, "length of the average, ρ"),
      ...frame(x, shares, TOP + UPPER + GAP, LOWER, "multiple of Adam's step"),
      drawn("text", { x: width - 20, y: height - 6, "text-anchor": "end" }, "update t"),
      ...curvesOf(state, x, lengths, shares),
    );
  }

  function axisOfUpdates({ beta2, t, logarithmic }, width) {
    const span = width - MARGIN - 20;
    if (logarithmic) {
      const of = (value) => MARGIN + (span * Math.log10(value)) / 5;
      const ticks = [1, 10, 100, 1e3, 1e4, 1e5];
      return { of, ticks, at: UPDATES, inverse: (x) => 10 ** ((5 * (x - MARGIN)) / span) };
    }
    const end = Math.ceil(8 / (1 - beta2));
    const of = (value) => MARGIN + (span * Math.min(value, end)) / end;
    const at = range(1, Math.min(end, 400)).map((k) => Math.ceil((k * end) / Math.min(end, 400)));
    const unit = 10 ** Math.floor(Math.log10(end / 2));
    const step = unit * Math.ceil(end / unit / 4);
    const ticks = range(0, Math.floor(end / step)).map((k) => k * step);
    return { of, ticks, at, inverse: (x) => (end * (x - MARGIN)) / span };
  }

  function axisOfLengths({ beta2, logarithmic }) {
    const end = logarithmic ? 1e5 : rectification.rhoInf(beta2);
    const share = logarithmic ? (rho) => Math.log10(rho) / 5 : (rho) => rho / end;
    const ticks = logarithmic ? [1, 100, 1e4] : [0, end];
    return { of: (rho) => TOP + UPPER * (1 - share(Math.max(rho, logarithmic ? 1 : 0))), ticks };
  }

  function frame(x, y, top, height, title) {
    const [left, right] = [MARGIN, x.of(x.at.at(-1))];
    const across = y.ticks.flatMap((tick) => [
      drawn("path", { class: "grid", d: `M${left} ${y.of(tick)}H${right}` }),
      drawn("text", { x: left - 6, y: y.of(tick) + 4, "text-anchor": "end" }, short(tick)),
    ]);
    const down = x.ticks.flatMap((tick) => [
      drawn("path", { class: "grid", d: `M${x.of(tick)} ${top}v${height}` }),
      drawn("text", { x: x.of(tick), y: top + height + 17, "text-anchor": "middle" }, short(tick)),
    ]);
    return [...across, ...down, drawn("text", { class: "title", x: left, y: top - 8 }, title)];
  }

  const short = (value) => (value >= 1e4 ? `${digits(value / 1e3)}k` : digits(value));

  function curvesOf({ beta2, t, variant, factors }, x, lengths, shares) {
    const path = (f, y) => "M" + x.at.map((at) => `${x.of(at)} ${y.of(f(at))}`).join("L");
    const length = (at) => rectification.rho(at, beta2);
    const across = `H${x.of(x.at.at(-1))}`;
    const threshold = `M${x.of(x.at[0])} ${lengths.of(variant.threshold)}${across}`;
    const shown = CURVES.map(([key]) => key).filter((key) => factors[key]);
    const dot = (key, value, y) =>
      drawn("circle", { class: `dot ${key}`, cx: x.of(t), cy: y.of(value), r: 5 });
    const curves = shown.map((key) =>
      drawn("path", { class: `curve ${key}`, d: path(factors[key], shares) }),
    );
    return [
      drawn("path", { class: "threshold", d: threshold }),
      drawn("path", { class: "marker", d: `M${x.of(t)} ${TOP}V${shares.of(0)}` }),
      drawn("path", { class: "curve length", d: path(length, lengths) }),
      ...curves.reverse(),
      dot("length", length(t), lengths),
      ...shown.map((key) => dot(key, factors[key](t), shares)).reverse(),
    ];
  }

  /* Pressing or dragging in the plot moves the slider of t. */
  function followPointer(plot, slider) {
    const move = (event) => {
      if (event.type === "pointermove" && event.buttons !== 1) return;
      const t = plot.updateAt(event.clientX - plot.getBoundingClientRect().left);
      const behind = UPDATES.findIndex((stop) => stop >= t);
      slider.value = behind < 0 ? UPDATES.length - 1 : behind;
      slider.dispatchEvent(new Event("input"));
    };
    plot.addEventListener("pointerdown", move);
    plot.addEventListener("pointermove", move);
  }
}
