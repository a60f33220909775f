// Controls: native inputs with a label and a number box, one for each that Python lists; and what can
// be dragged in the picture.

// Every explorer loads this file again, and two on one page must not share their labels.
const ID = `muon-explorer-${Math.random().toString(36).slice(2)}`;
let controlsMade = 0;
const THUMB = 16; // pixels
const KEYS = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10 };

const clamp = (value, [low, high]) => Math.min(Math.max(value, low), high);
const shown = (value) => String(Number(value.toPrecision(6)));

// A slider's place is its value, or the value's power of ten. The track shows the range `visible`:
// all of it, or `span` around the value, more where it was pushed beyond an end.
function slider(spec, id, change) {
  const whole = spec.step === 1 && !spec.log;
  const toPlace = spec.log ? Math.log10 : (value) => value;
  const limits = [toPlace(spec.low), toPlace(spec.high)];
  let visible = spec.span ? [0, 0] : limits;
  let place = NaN;
  const range = element("input", { type: "range", id, step: "any" });
  const box = element("input", { type: "number", min: spec.low, max: spec.high, step: "any" });
  box.setAttribute("aria-label", `${spec.label}, as a number`);
  range.title = "Shift + drag for a tenth of the pace; arrow and page keys step";

  const move = (wanted, step) => {
    const next = clamp(step ? step * Math.round(wanted / step) : wanted, limits);
    visible = [Math.min(visible[0], next), Math.max(visible[1], next)];
    const value = spec.log ? Number((10 ** next).toPrecision(4)) : Number(next.toPrecision(10));
    change(clamp(value, [spec.low, spec.high]));
  };
  const show = (value) => {
    place = toPlace(value);
    if (place < visible[0] || place > visible[1]) {
      visible = [clamp(place - spec.span / 2, limits), clamp(place + spec.span / 2, limits)];
    }
    Object.assign(range, { min: visible[0], max: visible[1], value: place });
    range.setAttribute("aria-valuetext", shown(value));
    box.value = shown(value);
  };

  makeSlidable(range, whole ? 1 : spec.step, () => [place, visible], move, whole);
  range.addEventListener("input", () => move(range.valueAsNumber, spec.step));
  box.addEventListener("change", () => {
    const typed = whole ? Math.round(box.valueAsNumber) : box.valueAsNumber;
    change(Number.isFinite(typed) ? clamp(typed, [spec.low, spec.high]) : undefined);
  });
  box.addEventListener("keydown", ({ key }) => { // JupyterLab keeps Enter from committing
    if (key === "Enter") box.dispatchEvent(new Event("change"));
  });
  return { parts: [range, box], show };
}

// Pointer and keys move a slider relative to where it is, a tenth as far with Shift.
function makeSlidable(range, step, where, move, whole) {
  const pace = (event) => (event.shiftKey && !whole ? 0.1 : 1);
  let held = null;
  range.addEventListener("pointerdown", (event) => {
    event.preventDefault(); // the native drag has one pace
    range.focus();
    range.setPointerCapture(event.pointerId);
    const [place, [low, high]] = where();
    const perPixel = (high - low) / (range.clientWidth - THUMB);
    const pressed = low + (event.offsetX - THUMB / 2) * perPixel;
    const onThumb = Math.abs(pressed - place) < (THUMB / 2) * perPixel;
    held = { perPixel, x: event.clientX, place: onThumb ? place : pressed };
    if (!onThumb) move(pressed, step);
  });
  range.addEventListener("pointermove", (event) => {
    if (!held) return;
    held.place += pace(event) * held.perPixel * (event.clientX - held.x);
    held.x = event.clientX;
    move(held.place, pace(event) * step);
  });
  range.addEventListener("lostpointercapture", () => { held = null; });
  range.addEventListener("keydown", (event) => {
    const [place, visible] = where();
    const ends = { Home: visible[0], End: visible[1] };
    const next = ends[event.key] ?? place + KEYS[event.key] * step * pace(event);
    if (Number.isNaN(next)) return;
    event.preventDefault();
    move(next);
  });
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

function setAll(model, values) {
  for (const [name, value] of Object.entries(values)) model.set(name, value);
}

// Add a control to the panel; return what makes it stop listening. `react(model, trait)` sets what
// follows from a change before both are saved.
function addControl(model, spec, react, panel) {
  const id = `${ID}-${(controlsMade += 1)}`;
  const control = makeControl[spec.kind](spec, id, (value) => {
    if (value !== undefined) {
      model.set(spec.trait, value);
      react(model, spec.trait);
      model.save_changes();
    }
    control.show(model.get(spec.trait));
  });
  // Without this, JupyterLab takes the arrow keys of a focused slider.
  for (const part of control.parts) part.dataset.lmSuppressShortcuts = "true";
  const name = element("label", { htmlFor: id, textContent: spec.label });
  name.style.color = `var(--color-${spec.color})`;
  const isWide = spec.span || (spec.kind === "slider" && spec.label.length > 12);
  const look = `control ${isWide ? "wide " : ""}${spec.kind}`;
  const row = element("div", { className: look }, [name, ...control.parts]);
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
    setAll(model, model.get("starting"));
    model.save_changes();
  });
  return button;
}

// --- what can be dragged ---------------------------------------------------------------------

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

// Pointer and finger drag what `drag` describes: {axes, tip, grabs(model, x, y, map) -> boolean,
// move(model, x, y, held)}, where `held` are the settings at the press. With position(model) ->
// [x, y] the arrow keys move it too.
function makeDraggable(canvas, model, drag, mapOf) {
  const axes = () => viewOf(model).backdrop.axes[drag.axes];
  const move = ([x, y], held) => {
    drag.move(model, clamp(x, axes().x), clamp(y, axes().y), held);
    model.save_changes();
  };
  const at = ([low, high], share, isLog) =>
    (isLog ? low * (high / low) ** share : low + (high - low) * share);
  const pointOf = ({ clientX, clientY }) => {
    const [map, box] = [mapOf(drag.axes), canvas.getBoundingClientRect()];
    const right = (clientX - box.left - map.left) / map.across;
    const up = 1 - (clientY - box.top - map.top) / map.down;
    return [at(axes().x, right, axes().logs[0]), at(axes().y, up, axes().logs[1])];
  };
  const grabs = (event) => {
    if (!mapOf(drag.axes)) return false; // nothing is drawn yet
    const [x, y] = pointOf(event);
    const inside = clamp(x, axes().x) === x && clamp(y, axes().y) === y;
    return inside && drag.grabs(model, x, y, mapOf(drag.axes));
  };

  let held = null;
  canvas.addEventListener("pointerdown", (event) => {
    if (!grabs(event)) return;
    held = settingsOf(model);
    canvas.setPointerCapture(event.pointerId);
    canvas.style.cursor = "grabbing";
    if (drag.position) move(pointOf(event), held); // a point comes to where it is pressed
  });
  canvas.addEventListener("pointermove", (event) => {
    if (held) move(pointOf(event), held);
    else canvas.style.cursor = grabs(event) ? "grab" : "";
  });
  canvas.addEventListener("lostpointercapture", () => { held = null; });
  // A finger on what can be dragged does not scroll the page; elsewhere it does.
  canvas.addEventListener("touchstart", (event) => {
    if (grabs(event.touches[0])) event.preventDefault();
  }, { passive: false });
  if (drag.position) makeMovableByKeys(canvas, model, drag, axes, move);
}

function makeMovableByKeys(canvas, model, drag, axes, move) {
  canvas.tabIndex = 0;
  canvas.dataset.lmSuppressShortcuts = "true";
  canvas.setAttribute("role", "application");
  canvas.setAttribute("aria-label", drag.tip);
  canvas.addEventListener("keydown", (event) => {
    const way = ARROWS[event.key];
    const [x, y] = drag.position(model);
    if (!way || !drag.grabs(model, x, y)) return;
    event.preventDefault();
    event.stopPropagation();
    const pace = ([low, high]) => (high - low) / 50;
    move([x + way[0] * pace(axes().x), y + way[1] * pace(axes().y)]);
  });
}
