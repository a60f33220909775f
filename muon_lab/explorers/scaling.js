// The scaling explorer's numbers: what scaling.py computes.

const BYTES = { float32: 4, bfloat16: 2 };
const SETTINGS = ["width", "depth", "experts", "ranks", "tokens", "teraflops", "memory", "wires"];
const TIMES = ["model_seconds", "muon_seconds", "wire_seconds"];
const HELD = ["adamw", "muon", "owned", "fsdp"];
const [ALL, OWNED, FSDP, BLOCKS] = [
  "each rank does all", "shared out, momentum too", "FSDP", "FSDP, block-periodic",
];
const WORDS = ["thousand", "million", "billion", "trillion"];
const SIZES = ["kB", "MB", "GB", "TB"];
const RANKS = Array.from({ length: 14 }, (_, i) => 2 ** i);

const total = (shapes, of) => shapes.reduce((sum, [count, ...sides]) => sum + count * of(...sides), 0);

function iterationFlops(rows, columns) {
  const [small, large] = [Math.min(rows, columns), Math.max(rows, columns)];
  return 5 * (4 * small ** 2 * large + 2 * small ** 3);
}

function numbersSent(count, ranks, way, period) {
  const once = (count * (ranks - 1)) / ranks;
  if (way !== FSDP && way !== BLOCKS) return 2 * once + (way === ALL ? 0 : once);
  return 3 * once + (2 * once) / ranks / (way === BLOCKS ? period : 1);
}

function muonFlops(shapes, ranks, way, period) {
  const every = total(shapes, iterationFlops);
  const largest = Math.max(...shapes.map(([, ...sides]) => iterationFlops(...sides)));
  const shared = Math.max(every / ranks, largest);
  if (way !== BLOCKS) return way === ALL ? every : shared;
  const blocks = total(shapes, (rows, columns) => iterationFlops(Math.max(1, rows / ranks), columns));
  return shared / period + blocks * (1 - 1 / period);
}

function stepCosts({ width, depth, experts, tokens, teraflops, wires, way, period, sent_as }, ranks) {
  const inner = (4 * width) / Math.min(experts, 8);
  const shapes = [[4 * depth, width, width], [2 * depth * experts, inner, width]];
  const count = total(shapes, (rows, columns) => rows * columns);
  const active = 12 * depth * width ** 2;
  const [model, muon] = [(6 * active * tokens) / ranks, muonFlops(shapes, ranks, way, period)];
  const sent = (BYTES[sent_as] * numbersSent(count, ranks, way, period)) / 1e9;
  const each = (4 * count) / 1e9;
  const held = {
    adamw: 4 * each, muon: 3 * each, owned: (2 + 1 / ranks) * each, fsdp: (3 * each) / ranks,
  };
  return {
    count, active_count: active,
    model_seconds: model / teraflops / 1e12, muon_seconds: muon / teraflops / 1e12,
    muon_percent: (100 * muon) / model, sent, wire_seconds: sent / wires,
    held: held[{ [OWNED]: "owned", [FSDP]: "fsdp", [BLOCKS]: "fsdp" }[way] ?? "muon"], ...held,
  };
}

function inUnits(name, number, words) {
  const power = [4, 3, 2].find((each) => number >= 1000 ** each) ?? 1;
  return { [name]: number / 1000 ** power, [`${name.split("_")[0]}_unit`]: words[power - 1] };
}

const placeOf = (ranks) => Math.log(ranks) / Math.log(8192);
const over = (names, value) => Object.fromEntries(names.map((name) => [name, value(name)]));

export function compute(traits) {
  const settings = { ...traits };
  for (const name of SETTINGS.slice(0, 4)) settings[name] = Math.floor(settings[name] + 0.5);
  const now = stepCosts(settings, settings.ranks);
  const costs = RANKS.map((ranks) => stepCosts(settings, ranks));
  const from = (name, values) => values.slice(name === "wire_seconds" ? 1 : 0);
  const slower = now.wire_seconds > now.model_seconds + now.muon_seconds ? "wires" : "arithmetic";
  return {
    ...now, rank_count: settings.ranks,
    ...inUnits("numbers", now.count, WORDS), ...inUnits("active", now.active_count, WORDS),
    ...inUnits("sent_size", 1e9 * now.sent, SIZES), ...inUnits("held_size", 1e9 * now.held, SIZES),
    places: over([...TIMES, ...HELD], (name) => from(name, RANKS.map(placeOf))),
    over_ranks: over([...TIMES, ...HELD], (name) => from(name, costs.map((each) => each[name]))),
    place: placeOf(settings.ranks), dot: over(TIMES, (name) => Math.max(now[name], 1e-12)),
    binds: now.held > traits.memory ? "memory" : slower,
    idle: traits.way === BLOCKS ? [] : ["period"],
  };
}

// An example brings its settings; moving one of them leaves the example.
function react(model, trait) {
  if (trait === "machine") setAll(model, model.get("data").machines[model.get("machine")] ?? {});
  else if (SETTINGS.includes(trait)) model.set("machine", "your own");
}

export default { render: explorer({ compute, react }) };
