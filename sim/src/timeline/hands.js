// What a person does with the picture: zoom, move, ask what something is, choose a line of the story.
let due = false;
function later() { if (!due) { due = true; requestAnimationFrame(() => { due = false; draw(); }); } }
function look(from, to) {
  const most = END * 1.06, wide = Math.min(most, Math.max(200, to - from));
  const start = Math.max(-END * 0.02, Math.min(from, END * 1.05 - wide));
  view.from = start; view.to = start + wide;
  later();
}
function zoom(factor, x) {
  const middle = timeAt(x === undefined ? (LEFT + width - RIGHT) / 2 : x);
  look(middle - (middle - view.from) * factor, middle + (view.to - middle) * factor);
}
const whole = () => look(-END * 0.01, END * 1.02);
const there = () => { chosen = null; look(END - 1.6e6, END + 0.16e6); };

canvas.addEventListener("wheel", event => {
  event.preventDefault();
  if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
    const by = event.deltaX / scale();
    look(view.from + by, view.to + by);
  } else zoom(Math.exp(Math.max(-120, Math.min(120, event.deltaY)) * 0.002), event.offsetX);
}, { passive: false });

let held = null;
canvas.addEventListener("pointerdown", event => {
  held = { x: event.offsetX, from: view.from, to: view.to };
  canvas.setPointerCapture(event.pointerId); canvas.classList.add("held"); tip.hidden = true;
});
canvas.addEventListener("pointerup", () => { held = null; canvas.classList.remove("held"); });
canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
canvas.addEventListener("pointermove", event => {
  if (held) {
    const by = (held.x - event.offsetX) / scale();
    look(held.from + by, held.to + by);
  } else tell(event.offsetX, event.offsetY);
});

function distance(wire, x, y) {
  const dx = wire.x1 - wire.x0, dy = wire.y1 - wire.y0, along = ((x - wire.x0) * dx + (y - wire.y0) * dy) / (dx * dx + dy * dy || 1);
  const t = Math.max(0, Math.min(1, along));
  return Math.hypot(x - wire.x0 - t * dx, y - wire.y0 - t * dy);
}
function tell(x, y) {
  let text = null;
  for (let i = hits.length - 1; i >= 0 && text === null; i--) {
    const hit = hits[i];
    if (x >= hit.x0 && x <= hit.x1 && y >= hit.y0 && y <= hit.y1) text = typeof hit.text === "function" ? hit.text(timeAt(x)) : hit.text;
  }
  if (text === null && x > LEFT) {
    let near = null, least = 5;
    for (const wire of wires) { const far = distance(wire, x, y); if (far < least) { least = far; near = wire; } }
    if (near) {
      const what = ["consensus", "a client's call", "bulk"][near.kind] || "frame";
      const how = near.took < 0 ? "never arrives" : `takes ${(near.took / 1000).toFixed(1)} ms`;
      const many = near.count > 1 ? `${near.count} frames, the first of them: ` : "";
      text = `${many}${run.nodes[near.from]} → ${run.nodes[near.to]}, ${what}, ${how}\nsent ${seconds(near.at)} s`;
    }
  }
  tip.hidden = text === null;
  if (text === null) return;
  tip.textContent = text;
  tip.style.left = Math.max(4, Math.min(x + 14, width - tip.offsetWidth - 6)) + "px";
  tip.style.top = Math.max(4, y + 18 + tip.offsetHeight > height ? y - tip.offsetHeight - 10 : y + 18) + "px";
}

// -- buttons, keys, the legend, the story --

$("whole").onclick = whole; $("there").onclick = there;
$("wider").onclick = () => zoom(1.6); $("closer").onclick = () => zoom(1 / 1.6);
addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const by = (view.to - view.from) * 0.2;
  const does = { "0": whole, v: run.ok ? whole : there, "+": () => zoom(1 / 1.6), "=": () => zoom(1 / 1.6), "-": () => zoom(1.6),
    ArrowLeft: () => look(view.from - by, view.to - by), ArrowRight: () => look(view.from + by, view.to + by) }[event.key];
  if (does) { does(); event.preventDefault(); }
});
function legend() {
  $("legend").textContent = "";
  const entry = (tint, text) => {
    const item = add($("legend"), "span");
    add(item, "i").style.background = tint;
    item.append(text);
  };
  for (const state of ["up", "starting", "paused"]) entry(colour[state], state);
  entry(`repeating-linear-gradient(135deg, ${colour.line} 0 2px, ${colour.down} 2px 5px)`, "down");
  entry(`rgb(${colour.raft})`, "consensus"); entry(`rgb(${colour.request})`, "calls");
  entry(`rgb(${colour.bulk})`, "bulk"); entry(`rgb(${colour.lost})`, "lost");
  entry(`linear-gradient(90deg, ${cellColour(0)} 50%, ${cellColour(Math.min(1, run.cells.length - 1))} 50%)`, "leads a cell");
  entry(colour.bets, "bets without an answer"); entry(colour.money, "money between cells");
}
if (run.story.length) {
  $("story").hidden = false;
  $("about").textContent = run.about.join(" · ");
  if (run.left_out) $("more").textContent = `${run.left_out} more lines about the same were left out.`;
  for (const [at, text] of run.story) {
    const item = add($("lines"), "li");
    item.className = text.startsWith("fault:") ? "fault" : text.startsWith("VIOLATION") ? "bad" : / leads? /.test(text) ? "lead" : "";
    add(item, "time", seconds(at) + " s");
    add(item, "span", text);
    item.onclick = () => {
      for (const other of $("lines").children) other.classList.toggle("on", other === item);
      const wide = Math.min(view.to - view.from, 4e5);
      chosen = at; look(at - wide / 2, at + wide / 2);
      $("stage").scrollIntoView({ block: "nearest" });
    };
  }
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { readColours(); legend(); later(); });
addEventListener("resize", later);
readColours(); legend();
// `#at=4.2,4.9` in the address shows that stretch of seconds.
const asked = /^#at=([\d.]+),([\d.]+)$/.exec(location.hash);
if (asked) { look(asked[1] * 1e6, asked[2] * 1e6); } else if (run.ok) { whole(); } else { there(); }
draw();
