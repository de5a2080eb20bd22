"use strict";
// Makes the figures interactive: legends toggle, pointer and arrow keys show values, maps zoom.

const tip = document.getElementById("tip");

function showTip(event, ...content) {
  tip.replaceChildren(...content);
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  const right = event.clientX + 16 + width > innerWidth;
  tip.style.left = Math.max(4, right ? event.clientX - 16 - width : event.clientX + 16) + "px";
  tip.style.top = Math.max(4, Math.min(event.clientY + 12, innerHeight - height - 4)) + "px";
}

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function drawn(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const key in attributes) made.setAttribute(key, attributes[key]);
  return made;
}

// The mark before a name in a legend: a piece of the line, or the marker.
function dash(color, dashes) {
  const made = drawn("svg", { viewBox: "0 0 22 8", "aria-hidden": true });
  made.append(drawn("line", { x2: 22, y1: 4, y2: 4, stroke: color, "stroke-width": 2.5, "stroke-dasharray": dashes }));
  return made;
}

// The color of a class, and the corners of its marker; none for the dot of the first classes.
function style(index) {
  const shape = Math.floor(index / COLORS.length), shapes = MARKERS.length + 1;
  const colors = Math.floor(shape / shapes) % 2 ? DARK : COLORS;
  return { color: colors[index % COLORS.length], corners: MARKERS[shape % shapes - 1] };
}

function marker({ color, corners }) {
  const made = drawn("svg", { class: "marker", viewBox: "-1.2 -1.2 2.4 2.4", "aria-hidden": true });
  made.append(corners ? drawn("polygon", { points: corners.join(" "), fill: color }) : drawn("circle", { r: 1.1, fill: color }));
  return made;
}

// A class's name: text, or the outlines of letters that the reader's fonts may lack.
function named(name) {
  const outline = OUTLINES.get(name);
  if (!outline) return name;
  const made = drawn("svg", { class: "name", viewBox: `0 -12 ${outline[1]} 16`, role: "img", "aria-label": name });
  made.append(drawn("path", { class: "ink", transform: `scale(${UNIT})`, d: outline[0] }));
  return made;
}

// A legend of buttons: each turns its entry on or off, shows it alone, or shows all again.
function legend(figure, what, names, marks, changed) {
  const on = names.map(() => true);
  const box = element("div", { className: "legend", role: "group", ariaLabel: what });
  const buttons = names.map((name, i) => element("button", { type: "button" }, marks[i], named(name)));
  const apply = () => {
    buttons.forEach((button, i) => button.setAttribute("aria-pressed", on[i]));
    changed(on);
  };
  buttons.forEach((button, i) => {
    const showAlone = () => {
      const alone = on.every((state, j) => state === (i === j));
      on.forEach((_, j) => { on[j] = alone || i === j; });
      apply();
    };
    button.onclick = () => { on[i] = !on[i]; apply(); };
    button.ondblclick = showAlone;
    button.onkeydown = event => {
      if (event.key !== "Enter" || !event.shiftKey) return;
      event.preventDefault();
      showAlone();
    };
  });
  box.append(...buttons);
  figure.querySelector("figcaption").before(box);
  apply();
  return on;
}

function lines(figure, plot) {
  const svg = figure.querySelector("svg"), area = svg.querySelector(".area");
  const [left, top, right, bottom] = area.dataset.area.split(" ").map(Number);
  const [low, high] = area.dataset.x.split(" ").map(Number);
  const scale = plot.x.log ? Math.log : x => x;
  const atX = x => left + (scale(x) - scale(low)) / (scale(high) - scale(low)) * (right - left);
  const names = [...new Set(plot.series.map(series => series.name))];
  const splits = [...new Set(plot.series.map(series => series.train))].length > 1;
  const hidden = { series: names.map(() => true), split: [true, true] };
  const visible = series => hidden.series[names.indexOf(series.name)] && hidden.split[Number(series.train)];
  const update = () => svg.querySelectorAll("[data-series]").forEach((group, i) =>
    group.classList.toggle("off", !visible(plot.series[i])));
  const marks = names.map((_, i) =>
    dash(COLORS[i % COLORS.length], DASHES[Math.floor(i / COLORS.length) % DASHES.length]));
  if (splits) {
    const kinds = ["after the epoch", "during training"], marks = [dash("#888", ""), dash("#888", "5 4")];
    legend(figure, "images", kinds, marks, on => { hidden.split = on; update(); });
  }
  legend(figure, "curves", names, marks, on => { hidden.series = on; update(); });

  const cursor = drawn("line", { class: "cursor", y1: top, y2: bottom });
  let current = null;
  const leave = () => { tip.hidden = true; cursor.remove(); current = null; };
  // Of the curves that are shown, in order.
  const positions = () => {
    const all = plot.series.filter(visible).flatMap(series => series.points.map(point => point[0]));
    return [...new Set(all)].sort((a, b) => a - b);
  };
  const move = event => {
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    const xs = positions();
    if (at.x < left - 5 || at.x > right + 5 || !xs.length) return leave();
    show(event, xs.reduce((best, x) => Math.abs(atX(x) - at.x) < Math.abs(atX(best) - at.x) ? x : best));
  };
  const show = (spot, x) => {
    const shown = plot.series.filter(visible), rows = new Map();
    current = x;
    for (const series of shown) {
      const index = series.points.findIndex(point => point[0] === x);
      if (index < 0) continue;
      const half = series.half_widths[index];
      const value = number(series.points[index][1]) + (half == null ? "" : " ± " + number(half));
      const name = series.name + (splits && series.train ? ", during training" : "");
      rows.set(name, [...(rows.get(name) || []), value]);
    }
    const table = element("table", {}, ...[...rows].map(([name, values]) =>
      element("tr", {}, element("td", { textContent: name }), element("td", { textContent: values.join("  ") }))));
    cursor.setAttribute("x1", atX(x));
    cursor.setAttribute("x2", atX(x));
    svg.append(cursor);
    showTip(spot, `${plot.x.label} ${x.toLocaleString("en")}`, table);
  };
  svg.tabIndex = 0;
  svg.addEventListener("keydown", event => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key], xs = positions();
    if (event.key === "Escape") leave();
    if (!step || !xs.length) return;
    event.preventDefault();
    const at = xs.indexOf(current), x = xs[at < 0 ? 0 : Math.min(xs.length - 1, Math.max(0, at + step))];
    const { x: clientX, y: clientY } = new DOMPoint(atX(x), top).matrixTransform(svg.getScreenCTM());
    show({ clientX, clientY }, x);
  });
  svg.addEventListener("blur", leave);
  svg.addEventListener("pointermove", move);
  svg.addEventListener("pointerdown", move);
  svg.addEventListener("pointerleave", leave);
}

const number = value => Math.abs(value) >= 10 ? value.toFixed(2) : value.toPrecision(4);

function map(figure, plot) {
  const canvas = figure.querySelector("canvas"), context = canvas.getContext("2d");
  const images = document.getElementById(canvas.dataset.images);
  // The visible part of the plane: its corner, and the magnification.
  const view = { x: 0, y: 0, zoom: 1 };
  let on = plot.classes.map(() => true);
  const styles = plot.classes.map((_, i) => style(i));
  const along = (axis, value) => (value / EXTENT * .94 + .03 - view[axis]) * view.zoom;
  const place = ([x, y]) => [along("x", x), along("y", y)];
  const draw = () => {
    const size = canvas.clientWidth * devicePixelRatio;
    canvas.width = canvas.height = size;
    const radius = (plot.points.length > 3000 ? 1.3 : 2.2) * devicePixelRatio * Math.sqrt(view.zoom);
    context.globalAlpha = .75;
    plot.points.forEach((point, i) => {
      if (!on[plot.labels[i]]) return;
      const [x, y] = place(point);
      if (x < 0 || y < 0 || x > 1 || y > 1) return;
      const { color, corners } = styles[plot.labels[i]];
      context.fillStyle = color;
      context.beginPath();
      // Larger than a dot: a shape takes more pixels to tell.
      if (corners) corners.forEach(([dx, dy]) => context.lineTo(x * size + dx * radius * 1.4, y * size + dy * radius * 1.4));
      else context.arc(x * size, y * size, radius, 0, 7);
      context.fill();
    });
    canvas.dataset.zoom = view.zoom.toFixed(3);
  };
  const zoomAt = (x, y, factor) => {
    const zoom = Math.min(60, Math.max(1, view.zoom * factor));
    view.x += x / view.zoom - x / zoom;
    view.y += y / view.zoom - y / zoom;
    view.zoom = zoom;
    keepInside();
    draw();
  };
  const keepInside = () => {
    for (const axis of ["x", "y"]) view[axis] = Math.min(1 - 1 / view.zoom, Math.max(0, view[axis]));
  };
  const relative = event => {
    const box = canvas.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  };
  canvas.addEventListener("wheel", event => {
    event.preventDefault();
    zoomAt(...relative(event), Math.exp(-event.deltaY * .002));
  }, { passive: false });
  const pointers = new Map();
  canvas.addEventListener("pointerdown", event => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, relative(event));
    ask(event);
  });
  const lift = event => pointers.delete(event.pointerId);
  canvas.addEventListener("pointerup", lift);
  canvas.addEventListener("pointercancel", lift);
  canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
  canvas.addEventListener("pointermove", event => {
    const before = pointers.get(event.pointerId), now = relative(event);
    if (!before) return ask(event);
    const others = [...pointers].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
    pointers.set(event.pointerId, now);
    if (others.length) {
      const [other] = others, apart = at => Math.hypot(at[0] - other[0], at[1] - other[1]);
      zoomAt((now[0] + other[0]) / 2, (now[1] + other[1]) / 2, apart(now) / Math.max(.01, apart(before)));
    } else {
      view.x -= (now[0] - before[0]) / view.zoom;
      view.y -= (now[1] - before[1]) / view.zoom;
      keepInside();
      draw();
    }
  });
  // The image of the point under the pointer.
  const ask = event => {
    const at = relative(event), reach = 10 / canvas.clientWidth;
    let best = -1, least = reach;
    plot.points.forEach((point, i) => {
      if (!on[plot.labels[i]]) return;
      const [x, y] = place(point), distance = Math.hypot(x - at[0], y - at[1]);
      if (distance < least) [best, least] = [i, distance];
    });
    if (best < 0) { tip.hidden = true; return; }
    show(event, best);
  };
  const show = (spot, index) => {
    current = index;
    const side = Number(images.dataset.side), columns = images.naturalWidth / side;
    const picture = element("canvas", { width: side, height: side });
    const from = [index % columns * side, Math.floor(index / columns) * side];
    picture.getContext("2d").drawImage(images, ...from, side, side, 0, 0, side, side);
    showTip(spot, picture, named(plot.classes[plot.labels[index]]), `, test image ${plot.images?.[index] ?? index}`);
  };
  // From image to image in their order, those out of sight left out.
  let current = -1;
  canvas.addEventListener("keydown", event => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key], n = plot.points.length;
    if (event.key === "Escape") tip.hidden = true;
    if (!step) return;
    event.preventDefault();
    const isSeen = i => on[plot.labels[i]] && place(plot.points[i]).every(at => at >= 0 && at <= 1);
    for (let i = current + step; i >= 0 && i < n; i += step) {
      if (!isSeen(i)) continue;
      const [x, y] = place(plot.points[i]), box = canvas.getBoundingClientRect();
      return show({ clientX: box.left + x * box.width, clientY: box.top + y * box.height }, i);
    }
  });
  canvas.addEventListener("blur", () => { tip.hidden = true; });
  const middle = factor => () => zoomAt(.5, .5, factor);
  const buttons = [["+", "zoom in", middle(1.6)], ["−", "zoom out", middle(1 / 1.6)], ["all", "show all", middle(0)]];
  figure.querySelector(".map").append(element("div", { className: "zoom" }, ...buttons.map(([text, title, onclick]) =>
    element("button", { type: "button", textContent: text, title, ariaLabel: title, onclick }))));
  legend(figure, "classes", plot.classes, styles.map(marker), state => { on = state; draw(); });
  new ResizeObserver(draw).observe(canvas);
}

// A large confusion matrix: the cell under the pointer, or the one that arrow keys reach.
function matrix(figure, plot) {
  const svg = figure.querySelector("svg"), area = svg.querySelector(".cells");
  const [left, top, side] = area.dataset.cells.split(" ").map(Number), n = plot.classes.length;
  const frame = drawn("rect", { class: "cell", width: side, height: side });
  let cell = [0, 0];
  const leave = () => { tip.hidden = true; frame.remove(); };
  const show = (spot, [row, column]) => {
    cell = [row, column];
    const counts = new Map(plot.counts[row]), all = plot.counts[row].reduce((sum, [, count]) => sum + count, 0);
    frame.setAttribute("x", left + column * side);
    frame.setAttribute("y", top + row * side);
    area.append(frame);
    const [name, predicted] = [row, column].map(index => named(plot.classes[index]));
    showTip(spot, name, ", predicted as ", predicted, `: ${counts.get(column) || 0} of ${all}`);
  };
  svg.addEventListener("pointermove", event => {
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    const [row, column] = [Math.floor((at.y - top) / side), Math.floor((at.x - left) / side)];
    if ([row, column].some(at => at < 0 || at >= n)) return leave();
    show(event, [row, column]);
  });
  svg.addEventListener("pointerleave", leave);
  svg.tabIndex = 0;
  svg.addEventListener("keydown", event => {
    const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    if (event.key === "Escape") leave();
    if (!step) return;
    event.preventDefault();
    const next = cell.map((at, i) => Math.min(n - 1, Math.max(0, at + step[i])));
    const at = new DOMPoint(left + (next[1] + .5) * side, top + (next[0] + .5) * side).matrixTransform(svg.getScreenCTM());
    show({ clientX: at.x, clientY: at.y }, next);
  });
  svg.addEventListener("blur", leave);
}

for (const figure of document.querySelectorAll("figure")) {
  const data = figure.querySelector("script");
  if (!data) continue;
  const plot = JSON.parse(data.textContent);
  if (plot.lines) lines(figure, plot.lines);
  if (plot.scatter) map(figure, plot.scatter);
  if (plot.matrix) matrix(figure, plot.matrix);
}

const hint = "Point at a figure, or use the arrow keys, to read its values; maps zoom with the wheel. In a legend, a click or " +
  "Enter turns an entry on or off, a double click or Shift+Enter shows it alone.";
document.querySelector(".figures")?.before(element("p", { className: "soft hint", textContent: hint }));
