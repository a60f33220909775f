// The matrix explorer's numbers: what matrix.py computes.

const UPDATES = ["SGD", "sign (Adam)", "Muon"];
const ANGLES = Array.from({ length: 121 }, (_, i) => (2 * Math.PI * i) / 120);
const CIRCLE = [ANGLES.map(Math.cos), ANGLES.map(Math.sin)];

const rotation = (angle) => [[Math.cos(angle), -Math.sin(angle)], [Math.sin(angle), Math.cos(angle)]];
const transpose = ([[a, b], [c, d]]) => [[a, c], [b, d]];
const degrees = ([[cosine], [sine]]) => (Math.atan2(sine, cosine) * 180) / Math.PI;

// (2, 2) times (2, n).
function product([[a, b], [c, d]], [first, second]) {
  return [first.map((x, i) => a * x + b * second[i]), first.map((x, i) => c * x + d * second[i])];
}

// U, the stretches and Vt, by the closed forms of the two angles' sum and difference.
function rotateStretchRotate([[a, b], [c, d]]) {
  const turned = [(a + d) / 2, (c - b) / 2];
  const mirrored = [(a - d) / 2, (c + b) / 2];
  const [large, small] = [turned, mirrored].map(([x, y]) => Math.sqrt(x * x + y * y));
  const [both, difference] = [turned, mirrored].map(([x, y]) => Math.atan2(y, x));
  let [first, last] = [(both - difference) / 2, (both + difference) / 2];
  if (Math.abs(first) > Math.PI / 2) {
    const half = Math.sign(first) * Math.PI;
    [first, last] = [first - half, last - half];
  }
  const stretches = [large + small, Math.abs(large - small)];
  if (stretches[1] < 1e-15 * stretches[0]) stretches[1] = 0; // rounding error
  const mirrors = large < small && stretches[1] > 0;
  const U = rotation(last).map(([x, y]) => [x, mirrors ? -y : y]);
  return { U, stretches, Vh: rotation(first), mirrors };
}

function describe(matrix, towards) {
  const { U, stretches, Vh, mirrors } = rotateStretchRotate(matrix);
  const goals = stretches.map((each) => (each > 4.5e-16 * stretches[0] ? 1 : 0));
  const blended = stretches.map((each, i) => (1 - towards) * each + towards * goals[i]);
  const stretched = Vh.map((row, i) => row.map((each) => blended[i] * each));
  const stages = [[[1, 0], [0, 1]], Vh, stretched, product(U, stretched)];
  return {
    stretches, blend_stretches: blended, mirrors, flat: goals.includes(0),
    first_angle: degrees(Vh), last_angle: degrees(U),
    stages: stages.map((stage) =>
      ({ circle: product(stage, CIRCLE), axes: product(stage, transpose(Vh)) })),
  };
}

function stableRank(values) {
  return values.reduce((sum, each) => sum + each ** 2, 0) / Math.max(...values) ** 2;
}

export function compute({ m11, m12, m21, m22, towards, spectrum, data }) {
  const found = describe([[m11, m12], [m21, m22]], towards);
  const spectra = data[spectrum]; // undefined until Python has sent it
  if (!spectra) return found;
  const count = spectra.SGD.length;
  const share = Array.from({ length: count }, (_, i) => i / Math.max(count - 1, 1));
  return { ...found, spectra, count, share, ranks: UPDATES.map((name) => stableRank(spectra[name])) };
}

export default { render: explorer({ compute }) };
