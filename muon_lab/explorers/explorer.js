// An explorer: controls above, the picture, sentences below. Its own file, which follows, ends in
// `export default { render: explorer({...}) }`.

// `scene(model)` returns {marks, readouts}; `watch` names the traits it reads; `react(model, trait)`
// sets what follows from a control's change before both are saved; `drag` as above.
function explorer({ scene, watch, react = () => {}, drag } = {}) {
  const sceneOf = scene ?? ((model) => unpack(model.get("scene")));
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
