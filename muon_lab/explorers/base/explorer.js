// An explorer: controls above, the picture, sentences below. Its own file, which follows, ends in
// `export default { render: explorer({...}) }`.

// `scene(model)` returns {marks, readouts, idle}; without it the scene comes from Python. `watch`
// names the traits that it reads; `react(model, trait)` sets what follows from a control's change
// before both are saved; for `drag` see makeDraggable.
function explorer({ scene, watch, react = () => {}, drag } = {}) {
  const sceneOf = scene ?? ((model) => unpack(model.get("scene")));
  const changes = [...(watch ?? ["scene"]), "backdrop"].map((name) => `change:${name}`);
  return ({ model, el }) => {
    const view = buildView(model, el, drag);
    const emptyPanel = () => view.forget.splice(0).forEach((forget) => forget());
    const fill = () => { emptyPanel(); fillPanel(view, model, react); };
    let pending = 0;
    const ask = () => {
      pending ||= requestAnimationFrame(() => { pending = 0; redraw(view, model, sceneOf); });
    };
    const sized = new ResizeObserver(ask);
    sized.observe(view.picture.frame);
    const themed = new MutationObserver(ask);
    themed.observe(document.body, { attributes: true });
    const heard = [...changes.map((name) => [name, ask]), ["change:controls", fill]];
    for (const [event, answer] of heard) model.on(event, answer);
    fill();
    return () => {
      cancelAnimationFrame(pending);
      sized.disconnect();
      themed.disconnect();
      for (const [event, answer] of heard) model.off(event, answer);
      emptyPanel();
    };
  };
}

function buildView(model, el, drag) {
  const panel = element("div", { className: "controls" });
  const picture = new Picture();
  const output = element("output");
  output.setAttribute("aria-live", "polite");
  const root = element("div", { className: "muon-explorer" }, [panel, picture.frame, output]);
  root.setAttribute("role", "group");
  root.setAttribute("aria-label", model.get("title"));
  if (drag) makeDraggable(picture.above, model, drag, (axes) => picture.layout.maps[axes]);
  el.append(root);
  return { root, panel, picture, output, drawn: 0, forget: [] };
}

function fillPanel({ panel, forget }, model, react) {
  const focused = panel.querySelector(":focus")?.closest(".control")?.dataset.trait;
  panel.replaceChildren();
  forget.push(...model.get("controls").map((spec) => addControl(model, spec, react, panel)));
  panel.append(resetButton(model));
  if (focused) panel.querySelector(`[data-trait="${focused}"] :is(input, select)`)?.focus();
}

async function redraw(view, model, sceneOf) {
  await view.picture.stand(model.get("backdrop"));
  const began = performance.now();
  const { marks, readouts, idle } = sceneOf(model);
  view.picture.move(marks);
  showIdle(view.panel, idle ?? []);
  showReadouts(view.output, readouts);
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
