// Controls: native inputs with a label and a number box, one for each that Python lists; and a point
// of the picture that can be dragged.

// Every explorer loads this file anew, and two on one page must not share their labels.
const ID = `muon-explorer-${Math.random().toString(36).slice(2)}`;
let controlsMade = 0;
const KEYS_ARE_OURS = "true"; // else JupyterLab takes the arrow keys of a focused slider

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
  box.addEventListener("keydown", ({ key }) => { // JupyterLab keeps Enter from committing
    if (key === "Enter") box.dispatchEvent(new Event("change"));
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

// Send what was set. Jupyter's server leaves Nagle's algorithm on: of its messages in answer, all but
// the first wait for the browser's next packet, or 40 ms. An empty message is that packet.
function save(model) {
  model.save_changes();
  const fedByKernel = model.get("scene") !== undefined;
  for (const delay of fedByKernel ? [4, 20] : []) setTimeout(() => model.send({}), delay);
}

function addControl(model, spec, react, panel) {
  const id = `${ID}-${(controlsMade += 1)}`;
  const control = makeControl[spec.kind](spec, id, (value) => {
    if (value !== undefined) {
      model.set(spec.trait, value);
      react(model, spec.trait);
      save(model);
    }
    control.show(model.get(spec.trait));
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
    save(model);
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
    save(model);
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
