// The clip explorer's numbers: what clipping.py computes.

const FLOOR = 0.1; // where a head is drawn whose largest logit is less, or negative
const GROUPS = { "each head its own γ": 1, "pairs of heads share one": 2 };

// The γ of each head of a layer, the smallest of its group of neighbours.
function gammas(layer, tau, group) {
  const own = layer.map((largest) => tau / Math.max(largest, tau));
  const first = (i) => i - (i % group);
  return own.map((_, i) => Math.min(...own.slice(first(i), first(i) + group)));
}

export function compute({ tau, step, sharing, attention, data }) {
  const layers = data[attention][step - 1];
  const size = layers[0].length;
  const gamma = layers.flatMap((layer) => gammas(layer, tau, GROUPS[sharing] ?? size));
  const before = layers.flat();
  const after = before.map((largest, i) => largest * gamma[i]);
  const heads = before.map((_, i) => i);
  const [clipped, quiet] = [heads.filter((i) => gamma[i] < 1), heads.filter((i) => gamma[i] === 1)];
  const [high, low] = [before, after].map((maxima) => maxima.map((each) => Math.max(each, FLOOR)));
  const loudest = before.indexOf(Math.max(...before));
  const smallest = Math.min(...gamma);
  return {
    clipped: clipped.length, over_clipped: clipped.filter((i) => before[i] <= tau).length,
    clipped_x: clipped, clipped_before: clipped.map((i) => high[i]),
    clipped_after: clipped.map((i) => low[i]),
    quiet_x: quiet, quiet_after: quiet.map((i) => low[i]),
    steps_now: heads.map(() => step), recorded: high, heads: heads.length,
    layer: Math.floor(loudest / size), head: loudest % size,
    loudest: before[loudest], loudest_after: after[loudest], smallest, root: Math.sqrt(smallest),
  };
}

// Another run may have fewer steps, or heads that do not come in pairs.
function react(model, trait) {
  if (trait !== "attention") return;
  const maxima = model.get("data")[model.get("attention")];
  model.set("step", Math.min(model.get("step"), maxima.length));
  if (maxima[0][0].length % 2 && model.get("sharing") in GROUPS) {
    model.set("sharing", Object.keys(GROUPS)[0]);
  }
}

export default { render: explorer({ compute, react }) };
