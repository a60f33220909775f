// The polynomial explorer computes here, so that it needs no kernel: polynomials.py and
// polynomial.py again, in the same order of operations. A test holds the two together.

function evaluate(x, triple) {
  const square = x * x;
  return x * (triple[0] + square * (triple[1] + square * triple[2]));
}

function resolve(table, steps) {
  return Array.from({ length: steps }, (_, k) => table[Math.min(k, table.length - 1)]);
}

function applySteps(x, triples) {
  for (let k = 0; k < triples.length; k++) x = evaluate(x, triples[k]);
  return x;
}

const FOR_EVER = 300; // steps
const WATCHED = 8; // further steps, in which what oscillates turns round
const HORIZON = 100; // steps in which what diverges is seen to

// Go on with a table's last triple; stop early where a value rests, since no later step moves it.
function applyForEver(x, table, steps) {
  x = applySteps(x, table);
  const last = table.at(-1);
  for (let k = 0; k < steps; k++) {
    const next = evaluate(x, last);
    if (next === x) break;
    x = next;
  }
  return x;
}
function geometric(low, high, count) {
  const [first, last] = [Math.log(low), Math.log(high)];
  return Float64Array.from({ length: count }, (_, i) =>
    Math.exp(first + ((last - first) * i) / (count - 1)));
}
const BAND_GRID = geometric(0.01, 1, 20001);
const REACH_GRID = geometric(1e-8, 1, 1601);
const RUN_GRID = geometric(0.01, 1, 200);

// Step by step over the whole grid, several times as fast as point by point.
function bandOf(triples) {
  const values = Float64Array.from(BAND_GRID);
  for (const [a, b, c] of triples) {
    for (let i = 0; i < values.length; i++) {
      const square = values[i] * values[i];
      values[i] *= a + square * (b + square * c);
    }
  }
  let [low, high] = [Infinity, -Infinity];
  for (let i = 0; i < values.length; i++) {
    if (Number.isNaN(values[i])) return [NaN, NaN];
    if (values[i] < low) low = values[i];
    if (values[i] > high) high = values[i];
  }
  return [low, high];
}

// The x > 0 where a + b x^2 + c x^4 = 0, ascending.
function positiveRoots(a, b, c) {
  let squares = [];
  if (c !== 0) {
    const inside = b * b - 4 * a * c;
    if (inside < 0) return [];
    const far = b < 0 ? -b + Math.sqrt(inside) : -b - Math.sqrt(inside);
    squares = far === 0 ? [0] : [far / (2 * c), (2 * a) / far];
  } else if (b !== 0) squares = [-a / b];
  return squares.filter((square) => square > 0).map(Math.sqrt).sort((x, y) => x - y);
}

function fixedPoints([a, b, c]) {
  return [0, ...positiveRoots(a - 1, b, c)].map((x) => [x, a + 3 * b * x ** 2 + 5 * c * x ** 4]);
}

// True where [0, bound] is sent into itself, so that nothing inside can ever escape.
function traps([a, b, c], bound) {
  const turns = positiveRoots(a, 3 * b, 5 * c).filter((x) => x < bound);
  return turns.every((x) => Math.abs(evaluate(x, [a, b, c])) <= bound);
}

function divergenceBound(table) {
  const [a, b, c] = table.at(-1);
  if (c === 0 && b === 0 && Math.abs(a) <= 1) return Infinity;
  const turning = [...positiveRoots(a - 1, b, c), ...positiveRoots(a + 1, b, c)];
  const trapped = turning.length ? Math.max(...turning) : 1;
  const reach = 1.5 * Math.max(1, trapped);
  // Beyond the last |p(x)| = x every value grows: mostly that already says what escapes.
  const escapes = turning.length && traps([a, b, c], trapped)
    ? (x) => !(Math.abs(applySteps(x, table)) <= trapped * (1 + 1e-15))
    : (x) => !(Math.abs(applyForEver(x, table, HORIZON)) <= 10 * reach);
  const count = 10 * HORIZON;
  const grid = (i) => i * (reach / count);
  let first = 0;
  while (first <= count && !escapes(grid(first))) first += 1;
  if (first > count) return Infinity;
  let [inside, outside] = [grid(first - 1), grid(first)];
  for (let k = 0; k < 50; k++) {
    const middle = (inside + outside) / 2;
    if (escapes(middle)) outside = middle; else inside = middle;
  }
  return outside;
}

function smallestReaching(triples, level) {
  const first = REACH_GRID.findIndex((x) => applySteps(x, triples) >= level);
  if (first < 0) return Infinity;
  let [below, above] = [first > 0 ? REACH_GRID[first - 1] : 0, REACH_GRID[first]];
  for (let k = 0; k < 50; k++) {
    const middle = (below + above) / 2;
    if (applySteps(middle, triples) >= level) above = middle; else below = middle;
  }
  return above;
}

function longRun(table) {
  const last = Array.from(RUN_GRID, (x) => applyForEver(x, table, FOR_EVER));
  if (last.some((x) => !(Math.abs(x) <= 100))) return ["diverges", NaN];
  const ways = last.map((x) => directions(x, table.at(-1))).filter((way) => way.size);
  const turns = ways.some((way) => way.has(1) && way.has(-1));
  if (ways.length) return [turns ? "oscillates" : "creeps", NaN];
  if (last.every((x) => Math.abs(x - 1) < 1e-3)) return ["converges", 1];
  const apart = Math.max(...last) - Math.min(...last) >= 1e-3;
  return ["settles", apart ? NaN : Number(last.at(-1).toFixed(6))];
}

// The signs of the next steps' moves; none where the first one is hardly a move.
function directions(x, triple) {
  const signs = new Set();
  for (let k = 0; k < WATCHED; k++) {
    const next = evaluate(x, triple);
    if (k === 0 && !(Math.abs(next - x) > 1e-6)) break;
    signs.add(Math.sign(next - x));
    x = next;
  }
  return signs;
}

function explore({ values, table, steps, normFactor, tolerance }) {
  const triples = resolve(table, steps);
  const starts = Float64Array.from(values, (value) => value / normFactor);
  const [low, high] = bandOf(triples);
  const [longTerm, settlesAt] = longRun(table);
  const after = Array.from(starts, (x) => applySteps(x, triples));
  return {
    triples, last: table.at(-1), is_table: table.length > 1, starts, low, high, after,
    slope: triples.reduce((product, [a]) => product * a, 1),
    reaches_half: smallestReaching(triples, 0.5),
    long_run: longTerm, settles_at: settlesAt, diverges_beyond: divergenceBound(table),
    landed: after.filter((x) => Math.abs(x - 1) <= tolerance).length,
  };
}

// --- the picture -----------------------------------------------------------------------------

// Write a number as Python's format ".4g" does.
function short(value, digits = 4) {
  const [mantissa, exponent] = value.toExponential(digits - 1).split("e");
  const power = Number(exponent);
  let text = String(Number(value.toPrecision(digits)));
  if (power < -4 || power >= digits) {
    text = `${Number(mantissa)}e${power < 0 ? "-" : "+"}${String(Math.abs(power)).padStart(2, "0")}`;
  }
  return text.replaceAll("-", "−");
}
const counted = (steps) => (steps === 1 ? "1 step" : `${steps} steps`);

function about(found, name) {
  const triple = found.last.map((k) => short(k, 5)).join(", ");
  if (!found.is_table) return `${name}: (a, b, c) = (${triple}) at every step.`;
  return `${name} is a table with a triple for each step. The sliders show its last, (${triple}), ` +
    "which it repeats past its end; moving a, b or c leaves the table and uses that one triple " +
    "at every step.";
}

function forEver(found) {
  const fate = {
    converges: () => "converges to 1", oscillates: () => "oscillates and never settles",
    settles: () => `settles at ${Number.isNaN(found.settles_at) ? "several values"
      : `${short(found.settles_at)}, not at 1`}`,
    creeps: () => `is still on its way after ${FOR_EVER} steps`,
    diverges: () => "diverges for some or all of its values",
  }[found.long_run]();
  const bound = found.diverges_beyond;
  let beyond = " It never diverges.";
  if (found.long_run === "diverges") beyond = ""; // where it begins is then as jagged as a fractal
  else if (Number.isFinite(bound)) beyond = ` It diverges beyond σ = ${short(bound)}.`;
  else if (found.long_run === "creeps") beyond = ""; // perhaps to infinity
  return `σ from 0.01 to 1 ${fate}.${beyond}`;
}

function sentences(found, name, tolerance) {
  const steps = counted(found.triples.length);
  const landing = Number.isFinite(found.low) && Number.isFinite(found.high)
    ? `lands in [${short(found.low)}, ${short(found.high)}]` : "has grown past all bounds";
  const half = Number.isFinite(found.reaches_half)
    ? `The smallest σ that reaches 0.5 is ${short(found.reaches_half)}.`
    : "No σ up to 1 reaches 0.5.";
  return {
    schedule: about(found, name),
    band: `After ${steps} σ from 0.01 to 1 ${landing}. ` +
      `Slope at zero: ${short(found.slope)}. ${half}`,
    long_run: `Repeated for ever, ${forEver(found)}`,
    values: found.starts.length === 0 ? "This matrix has yet to come from Python."
      : `${found.landed} of ${found.starts.length} singular values are within ` +
      `${short(tolerance, 6)} of 1 after ${steps}.`,
  };
}

const DASHED = [6, 4];
const ROWS = 64;
const CURVE = 500;

function curveMarks(found, axes, tolerance) {
  const isLog = axes.logs[0];
  const x = isLog ? geometric(axes.x[0], axes.x[1], CURVE)
    : Float64Array.from({ length: CURVE }, (_, i) => (axes.x[1] * i) / (CURVE - 1));
  const y = x.map((value) => applySteps(value, found.triples));
  const points = fixedPoints(found.last);
  const spot = (keep, hollow) => {
    const at = Float64Array.from(points.filter(([, slope]) => keep(Math.abs(slope))), ([x]) => x);
    return { kind: "dots", axes: 0, x: at, y: at, ink: "orange", size: 9, hollow };
  };
  return [
    { kind: "band", axes: 0, low: 1 - tolerance, high: 1 + tolerance, ink: "green", alpha: 0.15 },
    { kind: "line", axes: 0, x, y, ink: "blue", width: 2.2, dash: [] },
    spot((slope) => slope < 1, false), spot((slope) => slope >= 1, true),
  ];
}

function valueMarks(found, axes, tolerance, steps) {
  const count = Math.min(ROWS, found.starts.length);
  const row = (i) => {
    const place = (i * (found.starts.length - 1)) / Math.max(count - 1, 1);
    const path = [found.starts[Math.round(place)]];
    for (const triple of found.triples) path.push(evaluate(path.at(-1), triple));
    return path;
  };
  if (count === 0) return stepLabels(steps, axes); // Python has yet to send the matrix
  const rows = Array.from({ length: count }, (_, i) => row(i));
  const times = Float64Array.from({ length: steps + 1 }, (_, k) => k / steps);
  const all = { x: [], y: [] };
  for (const path of rows) { all.x.push(...times, 1); all.y.push(...path, NaN); }
  const one = (path, ink, dash) =>
    ({ kind: "line", axes: 1, x: times, y: path, ink, width: 2.4, dash });
  const [largest, smallest] = [rows[0], rows.at(-1)];
  return [
    { kind: "band", axes: 1, low: 1 - tolerance, high: 1 + tolerance, ink: "green", alpha: 0.15 },
    { kind: "line", axes: 1, ...all, ink: "blue", width: 1, dash: [], alpha: 0.35 },
    one(largest, "blue", []), one(smallest, "orange", DASHED),
    ...endLabels([
      ["largest", largest.at(-1), "blue"], ["smallest", smallest.at(-1), "orange"],
    ], axes),
    ...stepLabels(steps, axes),
  ];
}

// Where a value lies in the height of the axes, 0 at the bottom; a label stays inside.
function share(value, { y: [low, high], logs }) {
  const kept = Math.min(Math.max(Number.isNaN(value) ? high : value, low), high);
  return logs[1] ? Math.log(kept / low) / Math.log(high / low) : (kept - low) / (high - low);
}

const label = (x, y, text, ink, align) => ({ kind: "label", axes: 1, x, y, text, ink, align });

function endLabels(ends, axes) {
  const byHeight = ends.map(([, value], i) => [share(value, axes), i]).sort((p, q) => p[0] - q[0]);
  const heights = [];
  let floor = 0.03;
  for (const [height, i] of byHeight) {
    heights[i] = Math.max(height, floor);
    floor = heights[i] + 0.07;
  }
  const over = Math.max(0, floor - 0.07 - 0.97);
  return ends.map(([text, , ink], i) =>
    label(1.02, fromPixel(axes, "y", heights[i] - over), text, ink, "left"));
}

function stepLabels(steps, axes) {
  const stride = steps <= 10 ? 1 : 2;
  const y = fromPixel(axes, "y", -0.055);
  const labels = [];
  for (let k = 0; k <= steps; k += stride) {
    labels.push(label(k / steps, y, String(k), "text", "center"));
  }
  return labels;
}

function tableOf(model) {
  const name = model.get("schedule");
  const known = model.get("schedules")[name];
  const sliders = [model.get("a"), model.get("b"), model.get("c")];
  return known ?? { table: [sliders], norm_factor: 1 };
}

export function scene(model) {
  const [left, right] = model.get("backdrop").axes;
  const { table, norm_factor: normFactor } = tableOf(model);
  const [steps, tolerance] = [model.get("steps"), model.get("tolerance")];
  const values = numbers(model.get("spectra")[model.get("spectrum")] ?? []);
  const found = explore({ values, table, steps, normFactor, tolerance });
  return {
    marks: [...curveMarks(found, left, tolerance), ...valueMarks(found, right, tolerance, steps)],
    readouts: sentences(found, model.get("schedule"), tolerance),
  };
}

// A schedule brings its a, b, c; moving one of them leaves the schedule.
function react(model, trait) {
  const known = model.get("schedules")[model.get("schedule")];
  if (!known) return;
  const [a, b, c] = known.table.at(-1);
  if (trait === "schedule") model.set({ a, b, c });
  else if (trait.length === 1) model.set("schedule", "custom");
}

const watch = ["schedule", "a", "b", "c", "steps", "spectrum", "spectra", "tolerance"];
export default { render: explorer({ scene, watch, react }) };
