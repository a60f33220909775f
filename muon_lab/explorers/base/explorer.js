// An explorer: controls above, the picture, sentences below. Its own file, which follows, has
// `compute(traits)`, and ends in `export default { render: explorer({ compute, ... }) }`.

// The axes and controls of the present setting: both depend on one trait at most.
function viewOf(model) {
  return model.get("views")[String(model.get(model.get("view_by")) ?? "")];
}

// What marks and sentences name: the controls' values, and what is computed from them and `data`.
function numbersOf(model, compute) {
  const settings = settingsOf(model);
  return { ...settings, ...compute({ ...settings, data: model.get("data") }) };
}

// The values of all controls by name.
function settingsOf(model) {
  const names = Object.keys(model.get("starting"));
  return Object.fromEntries(names.map((name) => [name, model.get(name)]));
}

// `react(model, trait)` sets what follows from a control's change; for `drag` see makeDraggable.
function explorer({ compute, react = () => {}, drag }) {
  return ({ model, el }) => {
    const view = buildView(model, el, drag);
    let pending = 0;
    const ask = () => {
      pending ||= requestAnimationFrame(() => { pending = 0; redraw(view, model, compute, react); });
    };
    const sized = new ResizeObserver(ask);
    sized.observe(view.picture.frame);
    const themed = new MutationObserver(ask);
    themed.observe(document.body, { attributes: true });
    const heard = [...Object.keys(model.get("starting")), "data", "views"];
    for (const name of heard) model.on(`change:${name}`, ask);
    fillPanel(view, model, react);
    return () => {
      cancelAnimationFrame(pending);
      sized.disconnect();
      themed.disconnect();
      for (const name of heard) model.off(`change:${name}`, ask);
      view.forget.forEach((forget) => forget());
    };
  };
}

function buildView(model, el, drag) {
  const panel = element("div", { className: "controls" });
  const picture = new Picture();
  const output = element("output");
  output.setAttribute("aria-live", "polite");
  const tip = element("p", { className: "tip", textContent: drag?.tip ?? "" });
  const root = element("div", { className: "muon-explorer" }, [panel, picture.frame, tip, output]);
  root.setAttribute("role", "group");
  root.setAttribute("aria-label", model.get("title"));
  if (drag) makeDraggable(picture.above, model, drag, (axes) => picture.layout?.maps[axes]);
  el.append(root);
  return { root, panel, picture, output, drawn: 0, forget: [] };
}

function fillPanel(view, model, react) {
  const { panel, forget } = view;
  const { controls } = viewOf(model);
  if (controls === view.controls) return;
  view.controls = controls;
  const focused = panel.querySelector(":focus")?.closest(".control")?.dataset.trait;
  forget.splice(0).forEach((each) => each());
  panel.replaceChildren();
  forget.push(...controls.map((spec) => addControl(model, spec, react, panel)));
  panel.append(resetButton(model));
  if (focused) panel.querySelector(`[data-trait="${focused}"] :is(input, select)`)?.focus();
}

async function redraw(view, model, compute, react) {
  if (!view.picture.frame.clientWidth) return; // hidden: it is drawn when it gets a size
  fillPanel(view, model, react);
  const [{ backdrop }, palettes] = [viewOf(model), model.get("palettes")];
  const image = await view.picture.load(backdrop, palettes);
  if (viewOf(model).backdrop !== backdrop) return; // another one has been asked for meanwhile
  view.picture.stand(backdrop, image, palettes);
  const began = performance.now();
  const numbers = numbersOf(model, compute);
  view.picture.move(model.get("marks"), numbers);
  showIdle(view.panel, numbers.idle ?? []);
  showReadouts(view.output, model.get("sentences"), numbers);
  view.root.dataset.work = performance.now() - began; // milliseconds for this picture, and
  view.root.dataset.drawn = view.drawn += 1; // how many there were
}

function showIdle(panel, idle) {
  for (const row of panel.querySelectorAll(".control")) {
    for (const part of row.querySelectorAll("input, select")) {
      part.disabled = idle.includes(row.dataset.trait);
    }
  }
}

function showReadouts(output, sentences, numbers) {
  for (const [name, template] of Object.entries(sentences)) {
    let line = output.querySelector(`[data-readout="${name}"]`);
    if (!line) {
      line = element("p");
      line.dataset.readout = name;
      output.append(line);
    }
    const sentence = say(template, numbers);
    if (line.textContent !== sentence) line.textContent = sentence;
  }
}
