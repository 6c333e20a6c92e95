"use strict";
// Draws a run: lanes of nodes over virtual time. All of the data is in the element `data`; times are in
// virtual microseconds. `view` is what is to be seen, and everything is drawn anew when it changes.
const run = JSON.parse(document.getElementById("data").textContent);
const $ = id => document.getElementById(id);
const canvas = $("canvas"), pen = canvas.getContext("2d"), tip = $("tip");
const LEFT = 64, RIGHT = 16, AXIS = 26, STRIP = 13, FAULT_ROWS = 7, MOMENT_ROWS = 2, FAULT_ROW = 16, CURVE = 62;
const GAP = run.nodes.length > 5 ? 26 : 40;
const ROW = Math.max(3, Math.min(14, Math.floor(92 / run.cells.length)));
const LANE = STRIP + 3 + ROW * run.cells.length + 3;
const END = Math.max(run.end, 1000);
const CLASSES = ["raft", "request", "bulk"];
const view = { from: 0, to: END };
let chosen = null, hits = [], wires = [], terms = [], colour = {}, width = 0, height = 0;

// -- the head of the page --

const add = (parent, tag, text, kind) => {
  const element = parent.appendChild(document.createElement(tag));
  if (text !== undefined) element.textContent = text;
  if (kind) element.className = kind;
  return element;
};
$("title").textContent = run.title;
$("again").textContent = run.again;
for (const [list, pairs] of [["setup", run.setup], ["numbers", run.numbers]]) {
  for (const [name, value] of pairs) {
    const item = add($(list), "li", name + " ", name === "known mistake" ? "mistake" : "");
    add(item, "b", value);
  }
}
$("verdict").className = run.ok ? "good" : "bad";
$("verdict").onclick = () => $("verdict").classList.toggle("all");
$("said").textContent = (run.ok ? "" : `at ${seconds(run.end, 6)} s  `) + run.verdict;
$("there").hidden = run.ok;

const frames = (() => {
  const n = run.frames.lines.length, at = new Float64Array(n);
  let time = 0;
  run.frames.lines.forEach((line, i) => { time += line[0]; at[i] = time; });
  return { at, lines: run.frames.lines };
})();
const SLOWEST = frames.lines.reduce((most, line) => Math.max(most, line[1]), 0);

function seconds(us, digits) { return (us / 1e6).toFixed(digits === undefined ? 3 : digits); }
function first(array, time) {
  let low = 0, high = array.length;
  while (low < high) { const middle = (low + high) >> 1; if (array[middle] < time) low = middle + 1; else high = middle; }
  return low;
}

// -- places --

const scale = () => (width - LEFT - RIGHT) / (view.to - view.from);
const X = time => LEFT + (time - view.from) * scale();
const timeAt = x => view.from + (x - LEFT) / scale();
const FAULTS = AXIS + 4, LANES = FAULTS + FAULT_ROWS * FAULT_ROW + 26;
const laneTop = node => LANES + node * (LANE + GAP);
const cellTop = (node, cell) => laneTop(node) + STRIP + 3 + cell * ROW;
const CURVES = LANES + run.nodes.length * (LANE + GAP) - GAP + 22;
const TOTAL = CURVES + 2 * CURVE + 16;

function cellColour(cell) {
  if (cell === run.cells.length - 1) return colour.soft;
  return `hsl(${(205 + cell * 137.5) % 360} 55% ${colour.dark ? 62 : 44}%)`;
}
function readColours() {
  const style = getComputedStyle(document.documentElement);
  colour = { dark: matchMedia("(prefers-color-scheme: dark)").matches };
  for (const name of ["paper", "panel", "ink", "soft", "line", "faint", "up", "starting", "paused", "down", "bad", "fault",
    "fault-soft", "raft", "request", "bulk", "lost", "bets", "money"]) colour[name] = style.getPropertyValue("--" + name).trim();
}

// -- drawing --

const font = (size, weight) => { pen.font = `${weight || 400} ${size}px system-ui, "DejaVu Sans", sans-serif`; };
function box(x0, y, x1, h, fill, text) {
  const left = Math.max(x0, LEFT), right = Math.min(Math.max(x1, x0 + 1), width - RIGHT);
  if (right <= left) return null;
  if (fill) { pen.fillStyle = fill; pen.fillRect(left, y, right - left, h); }
  if (text) hits.push({ x0: left, x1: right, y0: y, y1: y + h, text });
  return [left, right];
}
function line(x0, y0, x1, y1, stroke, thick, dash) {
  pen.strokeStyle = stroke; pen.lineWidth = thick || 1; pen.setLineDash(dash || []);
  pen.beginPath(); pen.moveTo(x0, y0); pen.lineTo(x1, y1); pen.stroke(); pen.setLineDash([]);
}
function label(text, x, y, fill, size, weight, align) {
  font(size || 11, weight); pen.fillStyle = fill; pen.textAlign = align || "left"; pen.textBaseline = "middle";
  pen.fillText(text, x, y);
}
function fitted(text, room) {
  if (pen.measureText(text).width <= room) return text;
  let keep = Math.floor(text.length * room / pen.measureText(text).width);
  while (keep > 2 && pen.measureText(text.slice(0, keep) + "…").width > room) keep -= 1;
  return keep > 2 ? text.slice(0, keep) + "…" : "";
}

function drawAxis() {
  const wanted = (view.to - view.from) / Math.max(4, (width - LEFT) / 110);
  const unit = Math.pow(10, Math.floor(Math.log10(wanted)));
  const step = [1, 2, 5, 10].map(n => n * unit).find(n => n >= wanted);
  const digits = Math.max(0, 6 - Math.floor(Math.log10(step) + 1e-9));
  for (let time = Math.ceil(view.from / step) * step; time <= view.to; time += step) {
    line(X(time), AXIS, X(time), TOTAL, colour.line, 1);
    label(seconds(time, digits) + " s", X(time), AXIS / 2 + 2, colour.soft, 11, 400, "center");
  }
}

function drawFaults() {
  label("faults", LEFT - 8, FAULTS + 8, colour.soft, 11, 600, "right");
  const ends = new Array(FAULT_ROWS).fill(-1e9);
  font(11);
  for (const [from, to, kind, text] of run.faults) {
    if (to < view.from || from > view.to) continue;
    const moment = kind === "moment", x0 = X(from), x1 = Math.max(X(to), x0 + 2);
    font(11);
    const room = moment ? pen.measureText(text).width + 14 : Math.max(x1 - x0, Math.min(pen.measureText(text).width + 10, 60));
    // What is over in a moment has the upper rows, what lasts the lower ones.
    const rows = moment ? [0, MOMENT_ROWS] : [MOMENT_ROWS, FAULT_ROWS], mine = ends.slice(...rows);
    let row = mine.findIndex(end => end <= Math.max(x0, LEFT) - 2), crowded = row < 0;
    if (crowded) row = mine.indexOf(Math.min(...mine));
    row += rows[0];
    const y = FAULTS + row * FAULT_ROW, told = `${text}\n${seconds(from)}${moment ? "" : " to " + seconds(to)} s`;
    ends[row] = Math.max(ends[row], Math.max(x0, LEFT) + room);
    if (moment) {
      if (x0 < LEFT) continue;
      pen.fillStyle = colour.fault; pen.beginPath();
      pen.moveTo(x0 - 4, y + 2); pen.lineTo(x0 + 4, y + 2); pen.lineTo(x0, y + 11); pen.fill();
      line(x0, y + 11, x0, CURVES - 12, colour["fault-soft"], 1, [3, 3]);
      hits.push({ x0: x0 - 5, x1: x0 + (crowded ? 5 : room), y0: y, y1: y + 13, text: told });
      if (!crowded) label(text, x0 + 7, y + 7, colour.fault, 11);
    } else {
      const drawn = box(x0, y + 1, x1, FAULT_ROW - 3, colour["fault-soft"], told);
      if (!drawn) continue;
      box(x0, y + 1, x0 + 2, FAULT_ROW - 3, colour.fault);
      font(11);
      const said = crowded ? "" : fitted(text, drawn[1] - drawn[0] - 8);
      if (said) label(said, drawn[0] + 5, y + 8, colour.fault, 11);
    }
  }
}

// Frames: as they are when few are to be seen, else those of a pair in one column as one line.
function drawFrames() {
  wires = [];
  const perMs = scale() * 1000, low = first(frames.at, view.from - SLOWEST), high = first(frames.at, view.to);
  const each = high - low < 4000 && perMs > 0.4, columns = new Map();
  for (let i = low; i < high; i++) {
    const [, took, from, to, kind, count] = frames.lines[i], at = frames.at[i];
    if (each) { wires.push({ at, took, from, to, kind, count }); continue; }
    const key = ((Math.floor(X(at) / 3) * 8 + from) * 8 + to) * 8 + kind * 2 + (took < 0 ? 1 : 0);
    const known = columns.get(key);
    if (known) known.count += count; else columns.set(key, { at, took, from, to, kind, count });
  }
  if (!each) wires = [...columns.values()];
  const most = wires.reduce((most, wire) => Math.max(most, wire.count), 1);
  for (const wire of wires) {
    const down = wire.to > wire.from, lost = wire.took < 0;
    let y0 = laneTop(wire.from) + (down ? LANE : 0), y1 = laneTop(wire.to) + (down ? 0 : LANE);
    let x0 = X(wire.at), x1 = X(wire.at + Math.max(wire.took, 0));
    if (lost) { y1 = y0 + (down ? 1 : -1) * GAP * 0.4; x1 = x0 + 3; }
    const thick = Math.min(3, 0.7 + Math.log2(wire.count) * 0.35);
    const strength = each ? (wire.kind === 0 ? 0.45 : 0.8) : 0.07 + 0.3 * wire.count / most;
    const tint = lost ? colour.lost : colour[CLASSES[wire.kind] || "raft"];
    line(x0, y0, x1, y1, `rgba(${tint}, ${lost ? Math.max(strength, 0.5) : strength})`, thick);
    if (lost && each) { line(x1 - 3, y1 - 3, x1 + 3, y1 + 3, `rgb(${tint})`, 1); line(x1 - 3, y1 + 3, x1 + 3, y1 - 3, `rgb(${tint})`, 1); }
    if (!lost && each && perMs > 3) {
      const angle = Math.atan2(y1 - y0, x1 - x0);
      for (const turn of [2.75, -2.75]) line(x1, y1, x1 + 7 * Math.cos(angle + turn), y1 + 7 * Math.sin(angle + turn), `rgba(${tint}, .8)`, 1);
    }
    Object.assign(wire, { x0, y0, x1, y1 });
  }
}

function drawNodes() {
  run.nodes.forEach((name, node) => {
    const top = laneTop(node);
    pen.globalAlpha = 0.8; box(LEFT, top, width - RIGHT, LANE, colour.faint); pen.globalAlpha = 1;
    label(name, 10, top + STRIP / 2, colour.ink, 14, 700);
    if (ROW >= 8) run.cells.forEach((cell, i) => label(cell, LEFT - 8, cellTop(node, i) + ROW / 2, cellColour(i), Math.min(10, ROW), 600, "right"));
  });
  for (const [node, from, to, state] of run.lives) {
    if (to < view.from || from > view.to) continue;
    const top = laneTop(node), told = `${run.nodes[node]} is ${state}\n${seconds(from)} to ${seconds(to)} s`;
    const drawn = box(X(from), top, X(to), state === "down" ? LANE : STRIP, colour[state], told);
    if (!drawn) continue;
    if (state === "down") {
      pen.save(); pen.beginPath(); pen.rect(drawn[0], top, drawn[1] - drawn[0], LANE); pen.clip();
      for (let x = drawn[0] - LANE; x < drawn[1]; x += 9) line(x, top + LANE, x + LANE, top, colour.line, 1);
      pen.restore();
    }
    font(10);
    const said = state === "up" ? "" : fitted(state, drawn[1] - drawn[0] - 8);
    if (said === state) label(said, drawn[0] + 5, top + STRIP / 2 + 0.5, colour.ink, 10);
  }
  for (const [node, cell, term, from, to] of run.leads) {
    if (to < view.from || from > view.to) continue;
    const y = cellTop(node, cell);
    const drawn = box(X(from), y, X(to), ROW - 1, cellColour(cell),
      `${run.nodes[node]} leads ${run.cells[cell]} in term ${term}\n${seconds(from)} to ${seconds(to)} s`);
    if (drawn && ROW >= 9) terms.push([...drawn, y, cell, term]);
  }
}

function drawEntries() {
  const seen = run.entries.filter(([at]) => at >= view.from && at <= view.to);
  const few = seen.length < 1500;
  for (const [at, node, cell, text] of seen) {
    const x = X(at), y = cellTop(node, cell);
    pen.fillStyle = colour.panel; pen.globalAlpha = few ? 0.95 : 0.35;
    pen.fillRect(x - 0.75, y + 1, 1.5, Math.max(1, ROW - 3));
    pen.globalAlpha = 1;
    if (few) hits.push({ x0: x - 2.5, x1: x + 2.5, y0: y, y1: y + ROW, text: `${text}\n${seconds(at)} s` });
  }
}

function drawTerms() {
  for (const [left, right, y, cell, term] of terms) {
    font(Math.min(10, ROW - 2), 600);
    const room = right - left - 6, long = `${run.cells[cell]} · term ${term}`;
    const said = pen.measureText(long).width <= room ? long : pen.measureText(String(term)).width <= room ? String(term) : "";
    if (!said) continue;
    // Over the marks of its entries.
    box(left, y, left + pen.measureText(said).width + 8, ROW - 1, cellColour(cell));
    label(said, left + 4, y + (ROW - 1) / 2 + 0.5, colour.panel, Math.min(10, ROW - 2), 600);
  }
}

function shape(kind, x, y) {
  const path = points => { pen.beginPath(); points.forEach(([dx, dy], i) => pen[i ? "lineTo" : "moveTo"](x + dx, y + dy)); pen.closePath(); pen.fill(); pen.stroke(); };
  pen.lineWidth = 1; pen.strokeStyle = colour.panel;
  if (kind === "power") { pen.fillStyle = colour.bad; path([[2, -9], [-6, 2], [-1, 2], [-3, 9], [6, -3], [1, -3]]); }
  else if (kind === "kill") { line(x - 5, y - 5, x + 5, y + 5, colour.bad, 2.5); line(x - 5, y + 5, x + 5, y - 5, colour.bad, 2.5); }
  else if (kind === "ended") { pen.fillStyle = colour.bad; path([[-4, -4], [4, -4], [4, 4], [-4, 4]]); }
  else if (kind === "disk") { pen.fillStyle = colour.fault; path([[0, -6], [6, 0], [0, 6], [-6, 0]]); }
  else if (kind === "clock") {
    pen.fillStyle = colour.panel; pen.strokeStyle = colour.fault; pen.lineWidth = 2;
    pen.beginPath(); pen.arc(x, y, 5.5, 0, 7); pen.fill(); pen.stroke();
    line(x, y, x, y - 4, colour.fault, 1.5); line(x, y, x + 3, y, colour.fault, 1.5);
  } else { pen.fillStyle = colour.soft; pen.beginPath(); pen.arc(x, y, 1.8, 0, 7); pen.fill(); }
}
function drawMarks() {
  const free = run.nodes.map(() => -1e9);
  for (const [node, at, kind, text] of run.marks) {
    if (at < view.from || at > view.to) continue;
    const x = X(at), seldom = kind === "seldom", y = laneTop(node) + (seldom ? STRIP - 2 : STRIP / 2);
    shape(kind, x, y);
    hits.push({ x0: x - 6, x1: x + 6, y0: y - 7, y1: y + 7, text: `${text}\n${seconds(at)} s` });
    font(10.5, 600);
    const wide = pen.measureText(text).width;
    if (!seldom && wide < 260 && x > free[node]) {
      const left = Math.min(x - 4, width - RIGHT - wide - 6);
      pen.fillStyle = colour.panel; pen.globalAlpha = 0.8; pen.fillRect(left - 2, laneTop(node) - 15, wide + 4, 13); pen.globalAlpha = 1;
      label(text, left, laneTop(node) - 8, kind === "disk" || kind === "clock" ? colour.fault : colour.bad, 10.5, 600);
      free[node] = left + wide + 10;
    }
  }
}

function drawCurve(points, top, name, tint, told) {
  const most = Math.max(1, ...points.map(point => Math.abs(point[1])));
  const low = points.some(point => point[1] < 0) ? most : 0, foot = top + CURVE - 14;
  const Y = value => foot - (value + low) / (most + low) * (CURVE - 24);
  label(name, LEFT - 8, top + 12, colour.ink, 11, 600, "right");
  label("in flight", LEFT - 8, top + 25, colour.soft, 10, 400, "right");
  label("≤ " + told(most), LEFT - 8, top + 38, colour.soft, 10, 400, "right");
  line(LEFT, Y(0), width - RIGHT, Y(0), colour.line);
  pen.save(); pen.beginPath(); pen.rect(LEFT, top, width - LEFT - RIGHT, CURVE); pen.clip();
  pen.beginPath(); pen.moveTo(X(0), Y(0));
  let last = 0;
  for (const [at, value] of points) { pen.lineTo(X(at), Y(last)); pen.lineTo(X(at), Y(value)); last = value; }
  pen.lineTo(X(END), Y(last)); pen.lineTo(X(END), Y(0));
  pen.fillStyle = tint; pen.globalAlpha = 0.22; pen.fill();
  pen.globalAlpha = 1; pen.strokeStyle = tint; pen.lineWidth = 1.3; pen.stroke(); pen.restore();
  hits.push({ x0: LEFT, x1: width - RIGHT, y0: top, y1: foot, text: time => {
    const at = first(points.map(point => point[0]), time + 1) - 1;
    return `${name} in flight: ${told(at < 0 ? 0 : points[at][1])}\n${seconds(time)} s`;
  } });
}

function drawMoments() {
  if (run.rest !== null && run.rest >= view.from && run.rest <= view.to) {
    line(X(run.rest), AXIS, X(run.rest), TOTAL, colour.soft, 1, [6, 4]);
    label("faults stop", X(run.rest) + 4, LANES - 16, colour.soft, 11);
  }
  if (chosen !== null && chosen >= view.from && chosen <= view.to) line(X(chosen), AXIS, X(chosen), TOTAL, colour.ink, 1.5, [2, 2]);
  if (!run.ok && END >= view.from && END <= view.to) {
    const x = X(END);
    line(x, AXIS, x, TOTAL, colour.bad, 2);
    font(12, 600);
    const said = fitted(run.verdict, Math.min(520, width - LEFT - RIGHT - 40)), wide = pen.measureText(said).width + 16;
    const left = Math.max(LEFT, Math.min(x - wide + 8, width - RIGHT - wide));
    pen.fillStyle = colour.bad; pen.beginPath(); pen.roundRect(left, CURVES - 21, wide, 20, 5); pen.fill();
    label(said, left + 8, CURVES - 10.5, colour.panel, 12, 600);
    hits.push({ x0: left, x1: left + wide, y0: CURVES - 21, y1: CURVES - 1, text: run.verdict });
  }
}

function draw() {
  const ratio = window.devicePixelRatio || 1;
  width = canvas.clientWidth; height = TOTAL;
  canvas.style.height = height + "px";
  canvas.width = Math.round(width * ratio); canvas.height = Math.round(height * ratio);
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.fillStyle = colour.panel; pen.fillRect(0, 0, width, height);
  hits = []; terms = [];
  drawAxis();
  pen.save(); pen.beginPath(); pen.rect(LEFT, 0, width - LEFT - RIGHT, TOTAL); pen.clip(); drawFrames(); pen.restore();
  drawNodes(); drawEntries(); drawTerms(); drawFaults(); drawMarks();
  drawCurve(run.bets, CURVES, "bets", colour.bets, value => String(value));
  drawCurve(run.money, CURVES + CURVE, "money", colour.money, value => (value / 100).toFixed(2));
  drawMoments();
}
