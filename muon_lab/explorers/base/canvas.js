// The picture: names and sentences, data to pixels, marks over matplotlib's axes. Every explorer's
// module is this file, controls.js, explorer.js and its own, in this order.

function element(tag, properties = {}, children = []) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// --- names and sentences, as in sentences.py ---------------------------------------------------

function lookup(numbers, reference) {
  if (Array.isArray(reference)) return reference.map((each) => lookup(numbers, each));
  if (typeof reference !== "string") return reference;
  return reference.split(".").reduce((found, part) => found?.[part], numbers);
}

// The numbers with those of a group on top; undefined where there is no such group.
function opened(numbers, group) {
  if (group === undefined) return numbers;
  const found = lookup(numbers, group);
  return found && { ...numbers, ...found };
}

function kindOf(value) {
  if (value === undefined || value === null || value === "") return "none";
  if (typeof value === "string") return value;
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (!Number.isFinite(value)) return "endless";
  return { 0: "zero", 1: "one" }[value] ?? "other";
}

export function say(template, numbers) {
  if (Array.isArray(template)) return template.map((part) => say(part, numbers)).join("");
  if (template.within) {
    const inside = opened(numbers, template.within);
    return inside ? say(template.template, inside) : "";
  }
  if (typeof template !== "string") {
    const { by, variants } = template;
    return say(variants[kindOf(lookup(numbers, by))] ?? variants.other ?? "", numbers);
  }
  return template.replace(/\{([\w.]+)(?::([^}]*))?\}/g, (_, name, spec) =>
    format(lookup(numbers, name), spec));
}

// Write a value as Python's format() does with "", "g", ".4g" or ".3f".
function format(value, spec = "") {
  if (typeof value !== "number") return String(value);
  if (!Number.isFinite(value)) return Number.isNaN(value) ? "nan" : value > 0 ? "∞" : "−∞";
  const digits = Number(spec.match(/\d+/)?.[0] ?? 6);
  let text = spec.endsWith("f") ? (value + 0).toFixed(digits) : String(value);
  if (spec.endsWith("g")) {
    const [mantissa, power] = value.toExponential(digits - 1).split("e").map(Number);
    const size = String(Math.abs(power)).padStart(2, "0");
    text = power < -4 || power >= digits ? `${mantissa}e${power < 0 ? "-" : "+"}${size}`
      : String(Number(value.toPrecision(digits)));
  }
  return text.replaceAll("-", "−");
}

// --- from data to pixels ---------------------------------------------------------------------

// A function from a data value to a pixel; far outside the axes it stops, so that paths stay finite.
function mapping([low, high], isLog, start, length) {
  const warp = isLog ? (value) => Math.log10(Math.max(value, 1e-300)) : (value) => value;
  const [first, last] = [warp(low), warp(high)];
  return (value) => {
    const share = (warp(value) - first) / (last - first);
    return start + length * Math.min(Math.max(share, -50), 50);
  };
}

// Where the backdrop's parts go in a page of this width: whole where it fits, otherwise panel after
// panel in rows. A part takes `from` (fractions of the backdrop) to `to` (pixels).
function layOut(backdrop, width) {
  const whole = { from: [0, 0, 1, 1], natural: [backdrop.width, backdrop.height] };
  const panels = backdrop.axes.map(({ panel }) => ({
    from: panel, natural: [panel[2] * backdrop.width, panel[3] * backdrop.height],
  }));
  const widthOf = (row) => row.reduce((sum, { natural }) => sum + natural[0], 0);
  const rows = [[]];
  for (const part of width < 0.65 * backdrop.width ? panels : [whole]) {
    if (rows.at(-1).length && widthOf([...rows.at(-1), part]) > 1.1 * width) rows.push([]);
    rows.at(-1).push(part);
  }
  let top = 0;
  for (const row of rows) { // low where rows are many, so that the controls stay in view
    const scale = Math.min(width / widthOf(row), rows.length > 1 ? 0.85 : 1.25);
    let left = 0;
    for (const part of row) {
      part.to = [left, top, scale * part.natural[0], scale * part.natural[1]];
      left += part.to[2];
    }
    top += Math.max(...row.map(({ to }) => to[3]));
  }
  const parts = rows.flat();
  const maps = backdrop.axes.map((axes, i) => pixelMaps(axes, parts[i] ?? parts[0]));
  return { height: top, parts, maps };
}

function pixelMaps(axes, { from, to, natural }) {
  const [wide, high] = [to[2] / from[2], to[3] / from[3]]; // of the whole backdrop at this scale
  const left = to[0] + (axes.box[0] - from[0]) * wide;
  const top = to[1] + (axes.box[1] - from[1]) * high;
  const [across, down] = [axes.box[2] * wide, axes.box[3] * high];
  return {
    left, top, across, down, scale: to[2] / natural[0],
    x: mapping(axes.x, axes.logs[0], left, across),
    y: mapping(axes.y, axes.logs[1], top + down, -down),
  };
}

// --- marks, as in marks.py -------------------------------------------------------------------

const asList = (values) => (typeof values === "number" ? [values] : values);
const picked = { all: (list) => list, first: (list) => list.slice(0, 1), last: (list) => list.slice(-1) };

const draw = {
  line(context, { x, y, width, dash }, to) {
    context.lineWidth = width;
    context.setLineDash(dash);
    context.beginPath();
    for (const row of typeof y[0] === "object" ? y : [y]) {
      for (let i = 0; i < row.length; i++) {
        if (i === 0) context.moveTo(to.x(x[i]), to.y(row[i]));
        else context.lineTo(to.x(x[i]), to.y(row[i]));
      }
    }
    context.stroke();
  },
  stems(context, { x, low, high, width }, to) {
    context.lineWidth = width;
    context.beginPath();
    for (let i = 0; i < x.length; i++) {
      context.moveTo(to.x(x[i]), to.y(low[i]));
      context.lineTo(to.x(x[i]), to.y(high[i]));
    }
    context.stroke();
  },
  dots(context, { x, y, size, hollow, pick }, to) {
    const [across, up] = [x, y].map((values) => picked[pick](asList(values)));
    context.lineWidth = 1.6;
    context.beginPath();
    for (let i = 0; i < across.length; i++) {
      const [left, top] = [to.x(across[i]), to.y(up[i])];
      context.moveTo(left + size / 2, top);
      context.arc(left, top, size / 2, 0, 2 * Math.PI);
    }
    if (hollow) context.stroke(); else context.fill();
  },
  band(context, { low, high }, to) {
    context.fillRect(to.left, to.y(high), to.across, to.y(low) - to.y(high));
  },
};

const write = {
  label(context, { x, y, text, align }, to, numbers) {
    context.textAlign = align;
    context.fillText(say(text, numbers), to.x(x), to.y(y));
  },
  names(context, { lines }, to, numbers, palette) {
    const ends = lines.map(([text, y, color]) => [text, lookup(numbers, y), color])
      .filter(([, y]) => y !== undefined && y !== null)
      .map(([text, y, color]) => [text, asList(y).at(-1), color]);
    const heights = spread(ends.map(([, y]) => {
      const height = (to.top + to.down - to.y(y)) / to.down;
      return Number.isNaN(height) ? 1 : Math.min(Math.max(height, 0), 1);
    }), 0.07, 0.03, 0.97);
    ends.forEach(([text, , color], i) => {
      context.fillStyle = palette[color];
      context.fillText(say(text, numbers), to.x(1.02), to.top + to.down * (1 - heights[i]));
    });
  },
  ticks(context, { steps }, to) {
    const least = steps / (steps <= 20 ? 10 : 5);
    const distance = [1, 2, 5, 10, 20, 50, 100, 200].find((each) => each >= least);
    context.textAlign = "center";
    for (let k = 0; k <= steps; k += distance) {
      context.fillText(String(k), to.x(k / steps), to.top + to.down + 12 * to.scale);
    }
  },
};

// Move heights apart until they differ by `gap` or more, as plots.spread does.
function spread(heights, gap, low, high) {
  const order = heights.map((_, i) => i).sort((i, j) => heights[i] - heights[j]);
  const least = Math.min(gap, (high - low) / Math.max(1, heights.length - 1));
  const placed = [];
  let floor = low;
  order.forEach((i, rank) => {
    floor = Math.max(floor, heights[i]);
    placed[i] = Math.min(floor, high - least * (order.length - 1 - rank));
    floor += least;
  });
  return placed;
}

function drawMarks(context, marks, numbers, maps, palette) {
  for (const mark of marks) {
    const found = { ...mark };
    const keys = ["x", "y", "low", "high", "width", "steps"].filter((key) => key in mark);
    const group = opened(numbers, mark.within);
    for (const key of keys) found[key] = lookup(group, mark[key]);
    if (keys.some((key) => found[key] === undefined || found[key] === null)) continue;
    const to = maps[mark.axes];
    context.save();
    context.font = `${Math.min(Math.max(12.5 * to.scale, 10.5), 14)}px system-ui, sans-serif`;
    context.textBaseline = "middle";
    context.strokeStyle = context.fillStyle = palette[mark.color ?? "text"];
    context.globalAlpha = mark.alpha ?? 1;
    if (mark.kind in draw) {
      context.beginPath();
      context.rect(to.left, to.top, to.across, to.down);
      context.clip();
    }
    (draw[mark.kind] ?? write[mark.kind])(context, found, to, numbers, palette);
    context.restore();
  }
}

// --- the picture -----------------------------------------------------------------------------

// The page is dark where its text is light; no front end has to tell us its theme.
function themeOf(node) {
  const [red, green, blue] = getComputedStyle(node).color.match(/[\d.]+/g).map(Number);
  return 0.3 * red + 0.6 * green + 0.1 * blue > 128 ? "dark" : "light";
}

// A canvas of this size in CSS pixels, sharp on any screen, and empty.
function cleared(canvas, width, height) {
  const sharpness = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * sharpness);
  canvas.height = Math.round(height * sharpness);
  const context = canvas.getContext("2d");
  context.scale(sharpness, sharpness);
  return context;
}

async function imageOf(svg, palettes, theme) {
  for (const [name, color] of Object.entries(palettes.light)) {
    svg = svg.replaceAll(color, palettes[theme][name]);
  }
  const image = new Image();
  image.src = `data:image/svg+xml,${encodeURIComponent(svg)}`;
  await image.decode();
  return image;
}

// Two canvases in a frame: below what stands still, above what moves.
class Picture {
  constructor() {
    this.below = element("canvas");
    this.above = element("canvas");
    this.frame = element("div", { className: "picture" }, [this.below, this.above]);
    this.images = new Map();
  }

  // Return the picture of a backdrop in the page's theme.
  async load(backdrop, palettes) {
    const theme = themeOf(this.frame);
    const key = theme + backdrop.svg;
    if (!this.images.has(key)) this.images.set(key, await imageOf(backdrop.svg, palettes, theme));
    return this.images.get(key);
  }

  // Draw the backdrop again where it, the theme, the width or the screen is another.
  stand(backdrop, image, palettes) {
    const [theme, width] = [themeOf(this.frame), this.frame.clientWidth];
    const state = [theme, width, window.devicePixelRatio].join();
    if (state === this.state && backdrop === this.backdrop) return;
    const [layout, palette] = [layOut(backdrop, width), palettes[theme]];
    Object.assign(this, { state, backdrop, palette, width, layout });
    this.frame.style.height = `${layout.height}px`;
    for (const [name, color] of Object.entries(palette)) {
      this.frame.parentElement.style.setProperty(`--color-${name}`, color);
    }
    const context = cleared(this.below, width, layout.height);
    const [wide, high] = [image.naturalWidth, image.naturalHeight];
    for (const { from, to } of layout.parts) {
      context.drawImage(image, from[0] * wide, from[1] * high, from[2] * wide, from[3] * high, ...to);
    }
  }

  move(marks, numbers) {
    const context = cleared(this.above, this.width, this.layout.height);
    drawMarks(context, marks, numbers, this.layout.maps, this.palette);
  }
}
