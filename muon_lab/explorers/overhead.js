// The overhead explorer's numbers: what overhead.py computes.

const [BATCHES, WIDTHS] = [[256, 2 ** 24], [64, 16384]];

function overhead(width, depth, batch, steps, pace) {
  const model = 6 * 12 * width ** 2 * depth * batch;
  const muon = 60 * width ** 3 * depth * steps;
  const counted = (100 * muon) / model;
  return { model, muon, bound: (100 * steps * width) / batch, counted, here: pace * counted };
}

// Some of the same numbers at several places: an array for each name.
function over(places, names, at) {
  const found = places.map(at);
  return Object.fromEntries(names.map((name) => [name, found.map((each) => each[name])]));
}

export function compute({ width, depth, batch, steps, data }) {
  const { pace, measured } = data;
  const now = overhead(width, depth, batch, steps, pace);
  return {
    ...now, enough: batch * now.counted, measured, batches: BATCHES, widths: WIDTHS,
    over_batches: over(BATCHES, ["bound", "counted", "here"],
      (each) => overhead(width, depth, each, steps, pace)),
    over_widths: over(WIDTHS, ["model", "muon"],
      (each) => overhead(each, depth, batch, steps, pace)),
  };
}

export default { render: explorer({ compute }) };
