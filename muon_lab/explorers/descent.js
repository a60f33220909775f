// The descent explorer's numbers: what descent.py, problems.py and orthogonalize.py compute.

const NONE = "none";
const BETAS = {
  momentum: "beta", nesterov: "beta", rmsprop: "beta", muon: "beta", adam: "beta1", adamw: "beta1",
};

// --- problems: value and gradient of points, which are flat lists of numbers -------------------

const valley = {
  value: ([x, y]) => 0.5 * (x * x + 25 * y * y),
  gradient: ([x, y]) => [x, 25 * y],
};
const TURN = Math.SQRT1_2; // the sine and cosine of 45 degrees
const turnBack = ([x, y]) => [TURN * x + TURN * y, -TURN * x + TURN * y];
const turn = ([x, y]) => [TURN * x - TURN * y, TURN * x + TURN * y];

const PROBLEMS = {
  rosenbrock: () => ({
    value: ([x, y]) => (1 - x) ** 2 + 100 * (y - x * x) ** 2,
    gradient: ([x, y]) => [-2 * (1 - x) - 400 * x * (y - x * x), 200 * (y - x * x)],
  }),
  valley: () => valley,
  "turned valley": () => ({
    value: (point) => valley.value(turnBack(point)),
    gradient: (point) => turn(valley.gradient(turnBack(point))),
  }),
  cliff: () => ({
    value: ([x, y]) => Math.sqrt(1 + x * x) + Math.sqrt(1 + y * y) - 2
      + 500 * Math.min(x + 3, 0) ** 2,
    gradient: ([x, y]) => [
      x / Math.sqrt(1 + x * x) + 1000 * Math.min(x + 3, 0), y / Math.sqrt(1 + y * y),
    ],
  }),
  matrix: ({ minimum, covariance }) => {
    const [rows, columns, target] = [minimum.length, minimum[0].length, minimum.flat()];
    const skew = covariance.flat();
    const errorOf = (point) => point.map((each, i) => each - target[i]);
    const gradient = (point) => product(errorOf(point), skew, rows, columns, columns);
    return { gradient, value: (point) => 0.5 * dot(gradient(point), errorOf(point)) };
  },
};

// --- matrices are flat too, row after row: a race of 500 steps spends its time in their products --

function dot(left, right) {
  let sum = 0;
  for (let i = 0; i < left.length; i++) sum += left[i] * right[i];
  return sum;
}

function transpose(matrix, rows, columns) {
  const made = [];
  for (let j = 0; j < columns; j++) for (let i = 0; i < rows; i++) made.push(matrix[i * columns + j]);
  return made;
}

// times * left @ right + factor * addend, of shapes (rows, inner) and (inner, columns).
function product(left, right, rows, inner, columns, times = 1, addend = null, factor = 0) {
  const made = [];
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < columns; j++) {
      let sum = 0;
      for (let k = 0; k < inner; k++) sum += left[i * inner + k] * right[k * columns + j];
      made.push(addend ? times * sum + factor * addend[i * columns + j] : times * sum);
    }
  }
  return made;
}

function newtonSchulz(matrix, columns, options) {
  const rows = matrix.length / columns;
  if (rows > columns) {
    const turned = newtonSchulz(transpose(matrix, rows, columns), rows, options);
    return transpose(turned, columns, rows);
  }
  const { table, norm_factor: factor, eps = 1e-7 } = options;
  const scale = factor * Math.max(Math.sqrt(dot(matrix, matrix)) || 1, eps);
  let x = matrix.map((each) => each / scale);
  for (const [a, b, c] of table) {
    const gram = product(x, transpose(x, rows, columns), rows, columns, rows);
    const inner = product(gram, gram, rows, rows, rows, c, gram, b);
    x = product(inner, x, rows, rows, columns, 1, x, a);
  }
  return x;
}

// One-sided Jacobi: rotate pairs of columns until all are orthogonal; their lengths are left.
function singularValues(matrix, count) {
  const columns = Array.from({ length: count }, (_, j) => matrix.filter((_, i) => i % count === j));
  for (let rotated = true, sweep = 0; rotated && sweep < 30; sweep++) {
    rotated = false;
    for (let p = 0; p < columns.length; p++) {
      for (let q = p + 1; q < columns.length; q++) rotated = orthogonalizePair(columns, p, q) || rotated;
    }
  }
  return columns.map((column) => Math.sqrt(dot(column, column))).sort((x, y) => y - x);
}

function orthogonalizePair(columns, p, q) {
  const [left, right] = [columns[p], columns[q]];
  const [alpha, beta, gamma] = [dot(left, left), dot(right, right), dot(left, right)];
  if (Math.abs(gamma) <= 1e-15 * Math.sqrt(alpha * beta)) return false;
  const zeta = (beta - alpha) / (2 * gamma);
  const tangent = (zeta < 0 ? -1 : 1) / (Math.abs(zeta) + Math.sqrt(1 + zeta * zeta));
  const cosine = 1 / Math.sqrt(1 + tangent * tangent);
  const sine = cosine * tangent;
  columns[p] = left.map((each, i) => cosine * each - sine * right[i]);
  columns[q] = left.map((each, i) => sine * each + cosine * right[i]);
  return true;
}

// --- rules: (point, gradient, state, options) to the next point and state ----------------------

const average = (old, beta, now) => now.map((each, i) => beta * (old?.[i] ?? 0) + (1 - beta) * each);

const RULES = {
  sgd: (point, gradient, _, { lr }) => [point.map((x, i) => x - lr * gradient[i])],
  momentum: (point, gradient, old, { lr, beta }) => {
    const velocity = gradient.map((g, i) => beta * (old?.[i] ?? 0) + g);
    return [point.map((x, i) => x - lr * velocity[i]), velocity];
  },
  nesterov: (point, gradient, old, { lr, beta }) => {
    const velocity = gradient.map((g, i) => beta * (old?.[i] ?? 0) + g);
    return [point.map((x, i) => x - lr * (gradient[i] + beta * velocity[i])), velocity];
  },
  adagrad: (point, gradient, old, { lr, eps = 1e-10 }) => {
    const total = gradient.map((g, i) => (old?.[i] ?? 0) + g * g);
    return [point.map((x, i) => x - (lr * gradient[i]) / (Math.sqrt(total[i]) + eps)), total];
  },
  rmsprop: (point, gradient, old, { lr, beta, eps = 1e-8 }) => {
    const square = average(old, beta, gradient.map((g) => g * g));
    return [point.map((x, i) => x - (lr * gradient[i]) / (Math.sqrt(square[i]) + eps)), square];
  },
  adam: (point, gradient, old, options) => {
    const { lr, beta1, beta2 = 0.999, eps = 1e-8, weight_decay: decay = 0 } = options;
    const slope = gradient.map((g, i) => g + decay * point[i]);
    const step = (old?.step ?? 0) + 1;
    const mean = average(old?.mean, beta1, slope);
    const square = average(old?.square, beta2, slope.map((g) => g * g));
    const corrected = options.bias_correction ?? true;
    const [full1, full2] = corrected ? [1 - beta1 ** step, 1 - beta2 ** step] : [1, 1];
    const move = (m, i) => (m / full1) / (Math.sqrt(square[i] / full2) + eps);
    return [point.map((x, i) => x - lr * move(mean[i], i)), { step, mean, square }];
  },
  adamw: (point, gradient, old, { weight_decay: decay = 1e-2, ...options }) =>
    RULES.adam(point.map((x) => x * (1 - options.lr * decay)), gradient, old, options),
  muon: (point, gradient, old, options) => {
    const { lr, beta, columns, nesterov = true, weight_decay: decay = 0.1 } = options;
    const mean = average(old, beta, gradient);
    const direction = nesterov ? average(mean, beta, gradient) : mean;
    const update = newtonSchulz(direction, columns, options);
    const scale = Math.sqrt(Math.max(1, direction.length / columns ** 2));
    return [point.map((x, i) => x * (1 - lr * decay) - lr * scale * update[i]), mean];
  },
};

// --- runs ------------------------------------------------------------------------------------

function descend(problem, rule, options, start, steps, errors, decay) {
  const points = [start];
  const values = [problem.value(start)];
  let state;
  for (let step = 1; step <= steps; step++) {
    const here = points.at(-1);
    const exact = problem.gradient(here);
    const gradient = errors ? exact.map((g, i) => g + errors[step - 1][i]) : exact;
    const lr = decay ? options.lr * (1 - (step - 1) / steps) : options.lr;
    const [next, after] = RULES[rule](here, gradient, state, { ...options, lr });
    const value = problem.value(next);
    if (!(value <= 1e12)) return { points, values, divergedAt: step };
    points.push(next);
    values.push(value);
    state = after;
  }
  return { points, values, divergedAt: null };
}

const meanOf = (values) => values.reduce((sum, each) => sum + each, 0) / values.length;

function runLane(problem, known, { rule, lr, beta, start, steps, keywords, decay }, errors) {
  const columns = known.window ? 1 : known.minimum[0].length;
  const options = { lr, columns, ...(rule in BETAS && { [BETAS[rule]]: beta }), ...keywords };
  const { points, values, divergedAt } =
    descend(problem, rule, options, start, steps, errors, decay);
  const least = problem.value(known.minimum.flat());
  const losses = values.map((value) => Math.max(value - least, 0));
  const first = losses.findIndex((loss) => loss <= 1e-3);
  return {
    rule, lr, beta: rule in BETAS ? beta : null,
    loss: losses.at(-1), first: losses[0], rises: losses.at(-1) > losses[0],
    level: errors ? levelOf(losses, steps) : null,
    steps_to: first < 0 ? null : first, diverged_at: divergedAt,
    times: losses.map((_, k) => k / steps), heights: losses.map((loss) => Math.max(loss, 1e-8)),
    ...(known.window ? { x: points.map(([x]) => x), y: points.map(([, y]) => y) }
      : errorsOf(points, known.minimum.flat(), columns, steps)),
  };
}

// The mean loss of the last quarter; what has diverged stays where it was.
function levelOf(losses, steps) {
  const count = Math.floor(steps / 4);
  return meanOf(Array.from({ length: count }, (_, i) => losses[steps - i] ?? losses.at(-1)));
}

// The largest and the smallest singular value of a matrix's error, at some of the steps.
function errorsOf(points, target, columns, steps) {
  const last = points.length - 1;
  const count = Math.max(1, Math.min(100, last));
  const sampled = Array.from({ length: count + 1 }, (_, i) => Math.floor((i * last) / count));
  const stretches = sampled.map((k) =>
    singularValues(points[k].map((value, i) => value - target[i]), columns));
  const end = (which) => stretches.map((values) => Math.max(values.at(which), 1e-12));
  return { sampled: sampled.map((k) => k / steps), largest: end(0), smallest: end(-1) };
}

const latest = {}; // a lane's last run, which is the answer where another lane moved

export function compute({ problem: name, x, y, steps, batch, decay, data, ...settings }) {
  if (data.computed[name]) return data.computed[name]; // a problem of the reader's own
  const known = data.problems[name];
  const start = known.window ? [x, y] : known.start.flat();
  const errors = known.window && data.errors?.map((error) => error.map((e) => e / Math.sqrt(batch)));
  const found = { rules: 0, idle: [], error_steps: known.window ? null : steps };
  for (const n of [1, 2, 3]) {
    const [rule, lr, beta] = ["rule", "lr", "beta"].map((part) => settings[part + n]);
    if (!(rule in BETAS)) found.idle.push(`beta${n}`);
    if (rule === NONE) {
      found.idle.push(`lr${n}`);
      continue;
    }
    const wanted = { rule, lr, beta, start, steps, keywords: data.keywords[rule], decay };
    const key = JSON.stringify([name, wanted, errors && [data.errors[0], batch]]);
    if (latest[n]?.key !== key) {
      latest[n] = { key, run: runLane(PROBLEMS[name](known), known, wanted, errors) };
    }
    found[`lane${n}`] = latest[n].run;
    found.rules += 1;
  }
  return found;
}

// Another problem may not have the present start in its window.
function react(model, trait) {
  if (trait !== "problem") return;
  const { window, start } = model.get("data").problems[model.get("problem")];
  const outside = (name, k) => clamp(model.get(name), window[k]) !== model.get(name);
  if (window && (outside("x", 0) || outside("y", 1))) setAll(model, { x: start[0], y: start[1] });
}

const drag = {
  axes: 0,
  tip: "Press or drag in the left picture to move the start (the ring); arrow keys move it too.",
  grabs: (model) => Boolean(model.get("data").problems[model.get("problem")].window),
  position: (model) => [model.get("x"), model.get("y")],
  move: (model, x, y) => setAll(model, { x: Number(x.toPrecision(4)), y: Number(y.toPrecision(4)) }),
};

export default { render: explorer({ compute, react, drag }) };
