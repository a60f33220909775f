// What all explorers share: controls from a list, marks over matplotlib's still axes, sentences.
// An explorer's own file follows this one in the same module and ends in
// `export default { render: explorer({...}) }`.

let controlsMade = 0;
const KEYS_ARE_OURS = "true"; // else JupyterLab takes the arrow keys of a focused slider

function element(tag, properties = {}, children = []) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// --- from data to pixels ---------------------------------------------------------------------

// A function from a data value to a pixel; far outside the axes it stops, so that paths stay finite.
function mapping([low, high], isLog, start, length) {
  const warp = isLog ? (value) => Math.log10(Math.max(value, 1e-300)) : (value) => value;
  const [first, last] = [warp(low), warp(high)];
  return (value) => {
    const share = (warp(value) - first) / (last - first);
    return start + length * Math.min(Math.max(share, -50), 50);
  };
}

// Where the sheet's parts go in a page of this width: the whole sheet where it fits, else its panels
// one after another in rows. A place takes `from` (fractions of the sheet) to `to` (pixels).
function layOut(backdrop, width) {
  const whole = { from: [0, 0, 1, 1], natural: [backdrop.width, backdrop.height] };
  const panels = backdrop.axes.map(({ panel }) => ({
    from: panel, natural: [panel[2] * backdrop.width, panel[3] * backdrop.height],
  }));
  const rows = [[]];
  for (const part of width < 0.8 * backdrop.width ? panels : [whole]) {
    const taken = rows.at(-1).reduce((sum, { natural }) => sum + natural[0], 0);
    if (taken && taken + part.natural[0] > 1.1 * width) rows.push([]);
    rows.at(-1).push(part);
  }
  let top = 0;
  for (const row of rows) {
    const scale = Math.min(width / row.reduce((sum, { natural }) => sum + natural[0], 0), 1.25);
    let left = 0;
    for (const part of row) {
      part.to = [left, top, scale * part.natural[0], scale * part.natural[1]];
      left += part.to[2];
    }
    top += Math.max(...row.map(({ to }) => to[3]));
  }
  const parts = rows.flat();
  return { height: top, parts, maps: backdrop.axes.map((axes, i) => pixelMaps(axes, parts[i] ?? parts[0])) };
}

function pixelMaps(axes, { from, to }) {
  const [wide, high] = [to[2] / from[2], to[3] / from[3]]; // of the whole sheet at this scale
  const [left, top] = [to[0] + (axes.box[0] - from[0]) * wide, to[1] + (axes.box[1] - from[1]) * high];
  const [across, down] = [axes.box[2] * wide, axes.box[3] * high];
  return {
    left, top, across, down,
    x: mapping(axes.x, axes.logs[0], left, across),
    y: mapping(axes.y, axes.logs[1], top + down, -down),
  };
}

function fromPixel(axes, which, share) {
  const [low, high] = axes[which];
  if (axes.logs[which === "x" ? 0 : 1]) return low * (high / low) ** share;
  return low + (high - low) * share;
}

// --- marks -----------------------------------------------------------------------------------

// The kernel sends an array as bytes; an explorer that computes here gives a Float64Array.
function numbers(values) {
  if (!(values instanceof DataView)) return values;
  const end = values.byteOffset + values.byteLength;
  return new Float64Array(values.buffer.slice(values.byteOffset, end));
}

const draw = {
  line(context, mark, to) {
    const [x, y] = [numbers(mark.x), numbers(mark.y)];
    context.lineWidth = mark.width;
    context.setLineDash(mark.dash);
    context.beginPath();
    let drawing = false;
    for (let i = 0; i < x.length; i++) {
      if (Number.isNaN(y[i])) { drawing = false; continue; }
      if (drawing) context.lineTo(to.x(x[i]), to.y(y[i]));
      else context.moveTo(to.x(x[i]), to.y(y[i]));
      drawing = true;
    }
    context.stroke();
  },
  dots(context, mark, to) {
    const [x, y] = [numbers(mark.x), numbers(mark.y)];
    context.lineWidth = 1.6;
    context.setLineDash([]);
    for (let i = 0; i < x.length; i++) {
      if (Number.isNaN(y[i])) continue;
      context.beginPath();
      context.arc(to.x(x[i]), to.y(y[i]), mark.size / 2, 0, 2 * Math.PI);
      if (mark.hollow) context.stroke(); else context.fill();
    }
  },
  band(context, mark, to) {
    const [low, high] = [to.y(mark.low), to.y(mark.high)];
    context.fillRect(to.left, high, to.across, low - high);
  },
  label(context, mark, to) {
    context.textAlign = mark.align;
    context.textBaseline = "middle";
    context.fillText(mark.text, to.x(mark.x), to.y(mark.y));
  },
};

function drawMarks(context, marks, maps, inks) {
  context.font = "12.5px system-ui, sans-serif";
  for (const mark of marks) {
    const to = maps[mark.axes];
    context.save();
    if (mark.kind !== "label") {
      context.beginPath();
      context.rect(to.left, to.top, to.across, to.down);
      context.clip();
    }
    context.strokeStyle = context.fillStyle = inks[mark.ink];
    context.globalAlpha = mark.alpha ?? 1;
    draw[mark.kind](context, mark, to);
    context.restore();
  }
}

// The page is dark where its text is light; no front end has to tell us its theme.
function themeOf(node) {
  const [red, green, blue] = getComputedStyle(node).color.match(/[\d.]+/g).map(Number);
  return 0.3 * red + 0.6 * green + 0.1 * blue > 128 ? "dark" : "light";
}

// --- controls --------------------------------------------------------------------------------

function shown(value) {
  return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(6)));
}

function slider(spec, id, change) {
  const isLog = spec.scale === "log";
  const [low, high] = isLog ? [Math.log10(spec.low), Math.log10(spec.high)] : [spec.low, spec.high];
  const step = isLog ? 0.02 : spec.step;
  const range = element("input", { type: "range", id, min: low, max: high, step });
  const box = element("input", { type: "number", min: spec.low, max: spec.high, step: "any" });
  box.setAttribute("aria-label", `${spec.label}, as a number`);
  range.addEventListener("input", () => {
    const value = isLog ? Number((10 ** range.valueAsNumber).toPrecision(4)) : range.valueAsNumber;
    change(Math.min(Math.max(value, spec.low), spec.high));
  });
  box.addEventListener("change", () => {
    const typed = spec.step === 1 ? Math.round(box.valueAsNumber) : box.valueAsNumber;
    change(Number.isFinite(typed) ? Math.min(Math.max(typed, spec.low), spec.high) : undefined);
  });
  const show = (value) => {
    range.value = isLog ? Math.log10(value) : value;
    box.value = shown(value);
    range.setAttribute("aria-valuetext", shown(value));
  };
  return { parts: [range, box], show };
}

function choice(spec, id, change) {
  const options = spec.options.map((name) => element("option", { value: name, textContent: name }));
  const select = element("select", { id }, options);
  select.addEventListener("change", () => change(select.value));
  return { parts: [select], show: (value) => { select.value = value; } };
}

function toggle(spec, id, change) {
  const box = element("input", { type: "checkbox", id });
  box.addEventListener("change", () => change(box.checked));
  return { parts: [box], show: (value) => { box.checked = value; } };
}

const makeControl = { slider, choice, toggle };

function addControl(model, spec, react, panel) {
  const id = `muon-explorer-${(controlsMade += 1)}`;
  const control = makeControl[spec.kind](spec, id, (value) => {
    if (value === undefined) { control.show(model.get(spec.trait)); return; }
    model.set(spec.trait, value);
    react(model, spec.trait);
    model.save_changes();
  });
  for (const part of control.parts) part.dataset.lmSuppressShortcuts = KEYS_ARE_OURS;
  const name = element("label", { htmlFor: id, textContent: spec.label });
  name.style.color = `var(--ink-${spec.ink})`;
  const row = element("div", { className: `control ${spec.kind}` }, [name, ...control.parts]);
  row.dataset.trait = spec.trait;
  panel.append(row);
  const show = () => control.show(model.get(spec.trait));
  show();
  model.on(`change:${spec.trait}`, show);
  return () => model.off(`change:${spec.trait}`, show);
}

function resetButton(model) {
  const button = element("button", { type: "button", className: "reset", textContent: "Reset" });
  button.addEventListener("click", () => {
    model.set(model.get("starting"));
    model.save_changes();
  });
  return button;
}

// --- a point that can be dragged -------------------------------------------------------------

// `drag` is {axes, label, position(model) -> [x, y], move(model, x, y)}.
function makeDraggable(canvas, model, drag, mapOf) {
  canvas.tabIndex = 0;
  canvas.dataset.lmSuppressShortcuts = KEYS_ARE_OURS;
  canvas.setAttribute("role", "application");
  canvas.setAttribute("aria-label", drag.label);
  const axes = () => model.get("backdrop").axes[drag.axes];
  const move = (x, y) => {
    const keep = (value, [low, high]) => Math.min(Math.max(value, low), high);
    drag.move(model, keep(x, axes().x), keep(y, axes().y));
    model.save_changes();
  };
  const shares = (event) => {
    const map = mapOf(drag.axes);
    return [(event.offsetX - map.left) / map.across, 1 - (event.offsetY - map.top) / map.down];
  };
  const follow = (event) => {
    const [right, up] = shares(event);
    move(fromPixel(axes(), "x", right), fromPixel(axes(), "y", up));
  };
  const inside = (event) => shares(event).every((share) => share >= 0 && share <= 1);
  canvas.addEventListener("pointerdown", (event) => {
    if (!drag.enabled(model) || !inside(event)) return;
    canvas.setPointerCapture(event.pointerId);
    follow(event);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (canvas.hasPointerCapture(event.pointerId)) follow(event);
  });
  const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  canvas.addEventListener("keydown", (event) => {
    const way = arrows[event.key];
    if (!way || !drag.enabled(model)) return;
    event.preventDefault();
    event.stopPropagation();
    const [x, y] = drag.position(model);
    const pace = ([low, high]) => (high - low) / 50;
    move(x + way[0] * pace(axes().x), y + way[1] * pace(axes().y));
  });
}

// --- the whole -------------------------------------------------------------------------------

// A canvas of this size in CSS pixels, sharp on any screen, and empty.
function cleared(canvas, width, height) {
  const sharpness = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * sharpness);
  canvas.height = Math.round(height * sharpness);
  const context = canvas.getContext("2d");
  context.scale(sharpness, sharpness);
  return context;
}

// Two canvases in a frame: below what stands still, above what moves.
class Picture {
  constructor() {
    this.below = element("canvas");
    this.above = element("canvas");
    this.frame = element("div", { className: "picture" }, [this.below, this.above]);
    this.sheet = new Image();
  }

  // Draw the sheet again where it, the theme, the width or the screen is another; say what it is.
  async stand(backdrop) {
    const theme = themeOf(this.frame);
    const width = this.frame.clientWidth;
    const state = [theme, width, window.devicePixelRatio].join();
    if (state === this.state && backdrop === this.backdrop) return;
    const { picture, inks } = backdrop[theme];
    if (this.sheet.src !== picture) {
      const sheet = new Image();
      sheet.src = picture;
      await sheet.decode();
      this.sheet = sheet;
    }
    Object.assign(this, { state, backdrop, inks, width, layout: layOut(backdrop, width) });
    this.frame.style.height = `${this.layout.height}px`;
    for (const [ink, colour] of Object.entries(inks)) {
      this.frame.parentElement.style.setProperty(`--ink-${ink}`, colour);
    }
    const context = cleared(this.below, width, this.layout.height);
    const [wide, high] = [this.sheet.naturalWidth, this.sheet.naturalHeight];
    for (const { from, to } of this.layout.parts) {
      const cut = [from[0] * wide, from[1] * high, from[2] * wide, from[3] * high];
      context.drawImage(this.sheet, ...cut, ...to);
    }
  }

  move(marks) {
    const context = cleared(this.above, this.width, this.layout.height);
    drawMarks(context, marks, this.layout.maps, this.inks);
  }
}

// `scene(model)` returns {marks, readouts}; `watch` names the traits it reads; `react(model, trait)`
// sets what follows from a control's change before both are saved; `drag` as above.
function explorer({ scene, watch, react = () => {}, drag } = {}) {
  const sceneOf = scene ?? ((model) => model.get("scene"));
  const names = [...(watch ?? ["scene"]), "backdrop"];
  return ({ model, el }) => {
    const panel = element("div", { className: "controls" });
    const picture = new Picture();
    const output = element("output");
    output.setAttribute("aria-live", "polite");
    const root = element("div", { className: "muon-explorer" }, [panel, picture.frame, output]);
    root.setAttribute("role", "group");
    root.setAttribute("aria-label", model.get("title"));
    if (drag) makeDraggable(picture.above, model, drag, (axes) => picture.layout.maps[axes]);
    el.append(root);

    let undo = [];
    const fillPanel = () => {
      const focused = panel.querySelector(":focus")?.closest(".control")?.dataset.trait;
      for (const forget of undo) forget();
      panel.replaceChildren();
      undo = model.get("controls").map((spec) => addControl(model, spec, react, panel));
      panel.append(resetButton(model));
      if (focused) panel.querySelector(`[data-trait="${focused}"] :is(input, select)`)?.focus();
    };
    let drawn = 0;
    const redraw = async () => {
      await picture.stand(model.get("backdrop"));
      const began = performance.now();
      const { marks, readouts, idle } = sceneOf(model);
      picture.move(marks);
      showIdle(panel, idle ?? []);
      showReadouts(output, readouts);
      root.dataset.work = performance.now() - began; // milliseconds for this picture, and
      root.dataset.drawn = drawn += 1; // how many there were
    };
    let pending = 0;
    const ask = () => {
      pending ||= requestAnimationFrame(() => { pending = 0; redraw(); });
    };
    const sized = new ResizeObserver(ask);
    sized.observe(picture.frame);
    const themed = new MutationObserver(ask);
    themed.observe(document.body, { attributes: true });
    const heard = [...names.map((name) => [`change:${name}`, ask]), ["change:controls", fillPanel]];
    for (const [event, answer] of heard) model.on(event, answer);
    fillPanel();
    return () => {
      cancelAnimationFrame(pending);
      sized.disconnect();
      themed.disconnect();
      for (const [event, answer] of heard) model.off(event, answer);
      for (const forget of undo) forget();
    };
  };
}

function showIdle(panel, idle) {
  for (const row of panel.querySelectorAll(".control")) {
    for (const part of row.querySelectorAll("input, select")) {
      part.disabled = idle.includes(row.dataset.trait);
    }
  }
}

function showReadouts(output, readouts) {
  for (const [name, sentence] of Object.entries(readouts)) {
    let line = output.querySelector(`[data-readout="${name}"]`);
    if (!line) {
      line = element("p");
      line.dataset.readout = name;
      output.append(line);
    }
    if (line.textContent !== sentence) line.textContent = sentence;
  }
}
