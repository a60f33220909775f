// The logit explorer's numbers: what logits.py computes.

const SCALES = Array.from({ length: 120 }, (_, i) =>
  Math.exp(Math.log(0.05) + (Math.log(100 / 0.05) * i) / 119));

const PATTERNS = {
  "near tie": (keys) => Array.from({ length: keys }, (_, i) =>
    (i < 2 ? [1, 0.97][i] : 0.5 - (1.5 * (i - 2)) / Math.max(keys - 3, 1))),
  "one ahead": (keys) => Array.from({ length: keys }, (_, i) => (i === 0 ? 1 : 0)),
};

const sum = (values) => values.reduce((total, each) => total + each, 0);

function attend(logits) {
  const largest = Math.max(...logits);
  const shifted = logits.map((each) => Math.exp(each - largest));
  const total = sum(shifted);
  const weights = shifted.map((each) => each / total);
  const entropy = Math.log(total) - sum(weights.map((each, i) => each * (logits[i] - largest)));
  return {
    logits, weights, entropy, effective: Math.exp(entropy),
    spread: entropy / Math.log(logits.length), answers: 1 - sum(weights.map((each) => each ** 2)),
  };
}

function bars(weights) {
  const [count, largest] = [weights.length, Math.max(...weights)];
  const places = weights.map((_, i) => (i + 0.5) / count);
  return {
    places, zeros: weights.map(() => 0), bar_width: Math.max(2, 200 / count),
    name_x: clamp(places[weights.indexOf(largest)], [0.06, 0.94]),
    name_y: Math.min(largest + 0.045, 1.02), largest_weight: largest,
  };
}

export function compute({ pattern, count, scale, data }) {
  const own = pattern === "your own";
  const found = PATTERNS[pattern]?.(count) ?? data[pattern].slice(0, own ? undefined : count);
  const scaled = (factor) => attend(found.map((each) => factor * each));
  const [now, curves] = [scaled(scale), SCALES.map(scaled)];
  return {
    ...now, ...bars(now.weights),
    largest: Math.max(...now.logits), keys: found.length, most_entropy: Math.log(found.length),
    saturated: now.answers < 0.02, scales: SCALES,
    over_scales: {
      spread: curves.map((each) => each.spread), answers: curves.map((each) => each.answers),
    },
    idle: own ? ["count"] : [],
  };
}

export default { render: explorer({ compute }) };
