// The descent explorer: Python runs the rules; here the start is dragged.

const drag = {
  axes: 0,
  label: "Start of the descent: drag it, or move it with the arrow keys",
  enabled: (model) => model.get("plane"),
  position: (model) => [model.get("x"), model.get("y")],
  move: (model, x, y) => model.set({ x: Number(x.toPrecision(4)), y: Number(y.toPrecision(4)) }),
};

export default { render: explorer({ drag }) };
