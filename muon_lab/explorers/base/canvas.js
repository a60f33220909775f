// The canvas: data to pixels, marks over matplotlib's still axes. Every explorer's module is this
// file, controls.js, explorer.js and its own, in this order.

function element(tag, properties = {}, children = []) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
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

// Where the sheet's parts go in a page of this width: the whole sheet where it fits, else its panels
// one after another in rows. A place takes `from` (fractions of the sheet) to `to` (pixels).
function layOut(backdrop, width) {
  const whole = { from: [0, 0, 1, 1], natural: [backdrop.width, backdrop.height] };
  const panels = backdrop.axes.map(({ panel }) => ({
    from: panel, natural: [panel[2] * backdrop.width, panel[3] * backdrop.height],
  }));
  const rows = [[]];
  for (const part of width < 0.8 * backdrop.width ? panels : [whole]) {
    const taken = rows.at(-1).reduce((sum, { natural }) => sum + natural[0], 0);
    if (taken && taken + part.natural[0] > 1.1 * width) rows.push([]);
    rows.at(-1).push(part);
  }
  let top = 0;
  for (const row of rows) {
    const scale = Math.min(width / row.reduce((sum, { natural }) => sum + natural[0], 0), 1.25);
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
  const [wide, high] = [to[2] / from[2], to[3] / from[3]]; // of the whole sheet at this scale
  const left = to[0] + (axes.box[0] - from[0]) * wide;
  const top = to[1] + (axes.box[1] - from[1]) * high;
  const [across, down] = [axes.box[2] * wide, axes.box[3] * high];
  return {
    left, top, across, down, scale: to[2] / natural[0],
    x: mapping(axes.x, axes.logs[0], left, across),
    y: mapping(axes.y, axes.logs[1], top + down, -down),
  };
}

function fromPixel(axes, which, share) {
  const [low, high] = axes[which];
  if (axes.logs[which === "x" ? 0 : 1]) return low * (high / low) ** share;
  return low + (high - low) * share;
}

// --- marks -----------------------------------------------------------------------------------

// The kernel sends an array as bytes; an explorer that computes here has a Float64Array.
function numbers(values) {
  if (!(values instanceof DataView)) return values;
  const end = values.byteOffset + values.byteLength;
  return new Float64Array(values.buffer.slice(values.byteOffset, end));
}

// A scene's arrays come end to end in one: each mark says where its own begin and how long they are.
function unpack(scene) {
  const all = numbers(scene.numbers);
  const find = (place) => place && all.subarray(place[0], place[0] + place[1]);
  const marks = scene.marks.map((mark) =>
    (Array.isArray(mark.x) ? { ...mark, x: find(mark.x), y: find(mark.y) } : mark));
  return { ...scene, marks };
}

const draw = {
  line(context, mark, to) {
    const { x, y } = mark;
    context.lineWidth = mark.width;
    context.setLineDash(mark.dash);
    context.beginPath();
    let drawing = false;
    for (let i = 0; i < x.length; i++) {
      if (Number.isNaN(y[i])) { drawing = false; continue; }
      if (drawing) context.lineTo(to.x(x[i]), to.y(y[i]));
      else context.moveTo(to.x(x[i]), to.y(y[i]));
      drawing = true;
    }
    context.stroke();
  },
  dots(context, mark, to) {
    const { x, y } = mark;
    context.lineWidth = 1.6;
    context.setLineDash([]);
    for (let i = 0; i < x.length; i++) {
      if (Number.isNaN(y[i])) continue;
      context.beginPath();
      context.arc(to.x(x[i]), to.y(y[i]), mark.size / 2, 0, 2 * Math.PI);
      if (mark.hollow) context.stroke(); else context.fill();
    }
  },
  band(context, mark, to) {
    const [low, high] = [to.y(mark.low), to.y(mark.high)];
    context.fillRect(to.left, high, to.across, low - high);
  },
  label(context, mark, to) {
    context.textAlign = mark.align;
    context.textBaseline = "middle";
    context.fillText(mark.text, to.x(mark.x), to.y(mark.y));
  },
};

function drawMarks(context, marks, maps, inks) {
  for (const mark of marks) {
    const to = maps[mark.axes];
    context.save();
    context.font = `${Math.min(Math.max(12.5 * to.scale, 10.5), 14)}px system-ui, sans-serif`;
    if (mark.kind !== "label") {
      context.beginPath();
      context.rect(to.left, to.top, to.across, to.down);
      context.clip();
    }
    context.strokeStyle = context.fillStyle = inks[mark.ink];
    context.globalAlpha = mark.alpha ?? 1;
    draw[mark.kind](context, mark, to);
    context.restore();
  }
}

// The page is dark where its text is light; no front end has to tell us its theme.
function themeOf(node) {
  const [red, green, blue] = getComputedStyle(node).color.match(/[\d.]+/g).map(Number);
  return 0.3 * red + 0.6 * green + 0.1 * blue > 128 ? "dark" : "light";
}

// --- the picture -----------------------------------------------------------------------------

// A canvas of this size in CSS pixels, sharp on any screen, and empty.
function cleared(canvas, width, height) {
  const sharpness = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * sharpness);
  canvas.height = Math.round(height * sharpness);
  const context = canvas.getContext("2d");
  context.scale(sharpness, sharpness);
  return context;
}

// Two canvases in a frame: below what stands still, above what moves.
class Picture {
  constructor() {
    this.below = element("canvas");
    this.above = element("canvas");
    this.frame = element("div", { className: "picture" }, [this.below, this.above]);
    this.sheet = new Image();
  }

  // Draw the sheet again where it, the theme, the width or the screen is another; say what it is.
  async stand(backdrop) {
    const theme = themeOf(this.frame);
    const width = this.frame.clientWidth;
    const state = [theme, width, window.devicePixelRatio].join();
    if (state === this.state && backdrop === this.backdrop) return;
    const { picture, inks } = backdrop[theme];
    if (this.sheet.src !== picture) {
      const sheet = new Image();
      sheet.src = picture;
      await sheet.decode();
      this.sheet = sheet;
    }
    Object.assign(this, { state, backdrop, inks, width, layout: layOut(backdrop, width) });
    this.frame.style.height = `${this.layout.height}px`;
    for (const [ink, colour] of Object.entries(inks)) {
      this.frame.parentElement.style.setProperty(`--ink-${ink}`, colour);
    }
    const context = cleared(this.below, width, this.layout.height);
    const [wide, high] = [this.sheet.naturalWidth, this.sheet.naturalHeight];
    for (const { from, to } of this.layout.parts) {
      const cut = [from[0] * wide, from[1] * high, from[2] * wide, from[3] * high];
      context.drawImage(this.sheet, ...cut, ...to);
    }
  }

  move(marks) {
    const context = cleared(this.above, this.width, this.layout.height);
    drawMarks(context, marks, this.layout.maps, this.inks);
  }
}
