// The polynomial explorer's numbers: what polynomials.py and polynomial.py compute.

function evaluate(x, [a, b, c]) {
  const square = x * x;
  return x * (a + square * (b + square * c));
}

function applySteps(x, triples) {
  for (let k = 0; k < triples.length; k++) x = evaluate(x, triples[k]);
  return x;
}

const FOREVER = 300; // steps
const WATCHED = 8; // further steps, in which what oscillates turns round
const HORIZON = 100; // steps in which what diverges is seen to

// Continue with a table's last triple; stop early where a value rests, since no step moves it.
function applyForever(x, table, steps) {
  x = applySteps(x, table);
  const last = table.at(-1);
  for (let k = 0; k < steps; k++) {
    const next = evaluate(x, last);
    if (next === x) break;
    x = next;
  }
  return x;
}

function linear(low, high, count) {
  return Float64Array.from({ length: count }, (_, i) => low + ((high - low) * i) / (count - 1));
}
const geometric = (low, high, count) => linear(Math.log(low), Math.log(high), count).map(Math.exp);
const BAND_GRID = geometric(0.01, 1, 20001);
const REACH_GRID = geometric(1e-8, 1, 1601);
const RUN_GRID = geometric(0.01, 1, 200);

function bandOf(triples) {
  const values = BAND_GRID.map((x) => applySteps(x, triples));
  return [Math.min(...values), Math.max(...values)];
}

// The x > 0, ascending, where a + b x^2 + c x^4 = 0.
function positiveRoots(a, b, c) {
  const inside = b * b - 4 * a * c;
  if (inside < 0) return [];
  const large = b < 0 ? (-b + Math.sqrt(inside)) / 2 : -(b + Math.sqrt(inside)) / 2;
  const squares = [c ? large / c : Infinity, large ? a / large : 0];
  return squares.filter((each) => each > 0 && each < Infinity).map(Math.sqrt).sort((x, y) => x - y);
}

function fixedPoints([a, b, c]) {
  return [0, ...positiveRoots(a - 1, b, c)].map((x) => [x, a + 3 * b * x ** 2 + 5 * c * x ** 4]);
}

function bisect(holds, outside, inside) {
  for (let k = 0; k < 50; k++) {
    const middle = (outside + inside) / 2;
    if (holds(middle)) inside = middle; else outside = middle;
  }
  return inside;
}

function divergenceBound(table) {
  const [a, b, c] = table.at(-1);
  if (c === 0 && b === 0 && Math.abs(a) <= 1) return Infinity;
  const turning = [...positiveRoots(a - 1, b, c), ...positiveRoots(a + 1, b, c)];
  const reach = 1.5 * Math.max(1, ...turning); // beyond the last |p(x)| = x every value grows
  const escapes = (x) => !(Math.abs(applyForever(x, table, HORIZON)) <= 10 * reach);
  const grid = linear(0, reach, 10 * HORIZON + 1);
  const first = grid.findIndex(escapes);
  return first < 0 ? Infinity : bisect(escapes, grid[first - 1], grid[first]);
}

function smallestReaching(triples, level) {
  const reaches = (x) => applySteps(x, triples) >= level;
  const first = REACH_GRID.findIndex(reaches);
  return first < 0 ? Infinity : bisect(reaches, REACH_GRID[first - 1] ?? 0, REACH_GRID[first]);
}

function longRun(table) {
  const last = Array.from(RUN_GRID, (x) => applyForever(x, table, FOREVER));
  if (last.some((x) => !(Math.abs(x) <= 100))) return ["diverges", null];
  const ways = last.map((x) => directions(x, table.at(-1))).filter((way) => way.size);
  const turns = ways.some((way) => way.has(1) && way.has(-1));
  if (ways.length) return [turns ? "oscillates" : "creeps", null];
  if (last.every((x) => Math.abs(x - 1) < 1e-3)) return ["converges", 1];
  const together = Math.max(...last) - Math.min(...last) < 1e-3;
  return ["settles", together ? Number(last.at(-1).toFixed(6)) : null];
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

const tame = (value) => Math.min(Math.max(value, -1e6), 1e6);

function curves(triples, last, isLog) {
  const x = isLog ? geometric(1e-4, 1.3, 500) : linear(0, 1.3, 500);
  const points = fixedPoints(last);
  const where = (keep) => points.filter(([, slope]) => keep(Math.abs(slope))).map(([at]) => at);
  return {
    curve_x: x, curve: x.map((value) => tame(applySteps(value, triples))),
    one_step: x.map((value) => tame(evaluate(value, last))),
    attracting: where((slope) => slope < 1), repelling: where((slope) => slope >= 1),
  };
}

// At most 64 singular values' paths over the steps.
function pathsOf(starts, triples) {
  if (starts.length === 0) return {};
  const count = Math.min(64, starts.length);
  const paths = Array.from({ length: count }, (_, i) => {
    const path = [starts[Math.round((i * (starts.length - 1)) / Math.max(count - 1, 1))]];
    for (const triple of triples) path.push(evaluate(path.at(-1), triple));
    return path.map(tame);
  });
  return { times: linear(0, 1, triples.length + 1), paths, largest: paths[0], smallest: paths.at(-1) };
}

export function compute({ schedule, spectrum, a, b, c, steps, log, data }) {
  const known = data.schedules[schedule];
  const [table, factor] = known ? [known.table, known.norm_factor] : [[[a, b, c]], 1];
  const triples = known ? known.by_steps[steps - 1] : Array(steps).fill([a, b, c]);
  const starts = Float64Array.from(data.spectra[spectrum] ?? [], (value) => value / factor);
  const after = starts.map((x) => applySteps(x, triples));
  const missed = after.map((x) => Math.abs(x - 1));
  const [low, high] = bandOf(triples);
  const [fate, settlesAt] = longRun(table);
  return {
    triples, last: table.at(-1), is_table: table.length > 1, low, high,
    slope: triples.reduce((product, triple) => product * triple[0], 1),
    reaches_half: smallestReaching(triples, 0.5),
    long_run: fate, settles_at: settlesAt, diverges_beyond: divergenceBound(table),
    starts, after, count: starts.length,
    tolerance: data.tolerance, target: [1 - data.tolerance, 1 + data.tolerance],
    landed: missed.filter((each) => each <= data.tolerance).length,
    score: missed.every(Number.isFinite) ? Math.max(...missed) : Infinity,
    ...curves(triples, table.at(-1), log), ...pathsOf(starts, triples),
  };
}

// A schedule brings its a, b, c; moving one of them leaves the schedule.
function react(model, trait) {
  const known = model.get("data").schedules[model.get("schedule")];
  if (!known) return;
  const [a, b, c] = known.table.at(-1);
  if (trait === "schedule") setAll(model, { a, b, c });
  else if (trait.length === 1) model.set("schedule", "custom");
}

// --- the curve of one step can be dragged ------------------------------------------------------

// The inverse of the integrals from 0 to 1.3, the picture's width, of products of x, x³ and x⁵.
const INVERSE = inverseOf([1, 3, 5].map((m) => [1, 3, 5].map((n) => 1.3 ** (m + n + 1) / (m + n + 1))));

function inverseOf([[a, b, c], [, e, f], [, , i]]) { // of a symmetric matrix, by its cofactors
  const [first, second, third] = [e * i - f * f, c * f - b * i, b * f - c * e];
  const determinant = a * first + b * second + c * third;
  const rows = [
    [first, second, third], [second, a * i - c * c, b * c - a * f], [third, b * c - a * f, a * e - b * b],
  ];
  return rows.map((row) => row.map((each) => each / determinant));
}

// The (a, b, c) whose p passes through (x, y) and, over the picture's width, is nearest to the old p
// in the mean square; where a slider ends, as far towards it as the sliders go.
export function pulled(old, x, y, limits) {
  const powers = [x, x ** 3, x ** 5];
  const dot = (row) => row.reduce((sum, each, i) => sum + each * powers[i], 0);
  const way = INVERSE.map(dot);
  const moves = way.map((each) => (each * (y - evaluate(x, old))) / dot(way));
  const room = moves.map((move, i) => (move ? (limits[i][move > 0 ? 1 : 0] - old[i]) / move : 1));
  const share = Math.min(1, ...room);
  return old.map((each, i) => Number((each + share * moves[i]).toFixed(4)));
}

const drag = {
  axes: 0,
  tip: "Drag the dashed curve up or down: it passes through the pointer, and elsewhere it changes as "
    + "little as it can.",
  grabs(model, x, y, to) { // within 14 pixels
    const triple = ["a", "b", "c"].map((name) => model.get(name));
    const height = (at) => to.y(evaluate(at, triple));
    const slope = (height(1.001 * x) - height(x)) / (to.x(1.001 * x) - to.x(x));
    return Math.abs(height(x) - to.y(y)) < 14 * Math.hypot(1, slope);
  },
  move(model, x, y, held) {
    const { controls } = viewOf(model);
    const limits = ["a", "b", "c"].map((name) => {
      const { low, high } = controls.find(({ trait }) => trait === name);
      return [low, high];
    });
    const [a, b, c] = pulled([held.a, held.b, held.c], x, y, limits);
    setAll(model, { schedule: "custom", a, b, c });
  },
};

export default { render: explorer({ compute, react, drag }) };
