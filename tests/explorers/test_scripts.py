"""Each explorer's JavaScript against the Python that it repeats, and without any Python."""

import json
import math
import re
import time
from functools import partial

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from jupyter_browser import NO_CHROMIUM, chromium, find_chromium, needs_chromium, quiet_page
from playwright.sync_api import expect

from muon_lab import explorers
from muon_lab.exercises import e04
from muon_lab.explorers import DescentExplorer, PolynomialExplorer
from muon_lab.explorers.base.sentences import either, say
from muon_lab.polynomials import SCHEDULES, apply_schedule, fading
from muon_lab.problems import PROBLEMS, cliff

pytestmark = [needs_chromium, pytest.mark.browser]

MAXIMA = np.exp(np.random.default_rng(0).normal(4, 1.5, (6, 2, 4)))
MAXIMA[0, 0] = [-3.0, 0.0, 1e-9, 1e6]
MADE = {
    "PolynomialExplorer": partial(PolynomialExplorer, matrix=np.diag([1.0, 0.1, 0.0])),
    "DescentExplorer": partial(DescentExplorer, noise=5.0),
    "ClipExplorer": partial(explorers.ClipExplorer, {"mha": MAXIMA, "mla": MAXIMA[2:, :, :3]}),
    "LogitExplorer": partial(explorers.LogitExplorer, [3.0, -1.0, 2.0]),
}
PAGE = """<!doctype html><meta charset="utf-8"><style>{style}</style><body><script>
function standIn(traits) {{
  const heard = {{}};
  return {{
    get: (name) => traits[name],
    set: (name, value) => {{
      traits[name] = value;
      (heard[`change:${{name}}`] ?? []).forEach((answer) => answer());
    }},
    on: (event, answer) => (heard[event] ??= new Set()).add(answer),
    off: (event, answer) => heard[event]?.delete(answer),
    save_changes() {{}},
    send() {{}},
  }};
}}
function load(script) {{
  return import(URL.createObjectURL(new Blob([script], {{ type: "text/javascript" }})));
}}
window.modules = {{}};
window.mount = async (name, script, traits) => {{
  const el = document.createElement("div");
  document.body.append(el);
  modules[name] = await load(script);
  modules[name].default.render({{ model: standIn(traits), el }});
}};
window.mounted = (async () => {{ for (const each of {explorers}) await mount(...each); }})();
</script></body>"""
COMPUTE = """([name, traits, sentences]) => {
  const plain = (value) => ArrayBuffer.isView(value) ? [...value].map(plain)
    : Array.isArray(value) ? value.map(plain)
    : value && typeof value === "object"
    ? Object.fromEntries(Object.entries(value).map(([key, each]) => [key, plain(each)])) : value;
  const numbers = modules[name].compute(traits);
  const said = Object.entries(sentences).map(([key, template]) =>
    [key, modules[name].say(template, { ...traits, ...numbers })]);
  return [plain(numbers), Object.fromEntries(said)];
}"""


@pytest.fixture(scope="module")
def made():
    """One explorer of each kind, with settings of its own where it takes any."""
    found = {name: MADE.get(name, getattr(explorers, name))() for name in explorers.__all__}
    yield found
    for explorer in found.values():
        explorer.close()


@pytest.fixture(scope="module")
def page(made, tmp_path_factory):
    """A page from a file, with every explorer in it and no network."""
    assert find_chromium(), NO_CHROMIUM
    found = [[name, explorer._esm, explorer.state()] for name, explorer in made.items()]
    file = tmp_path_factory.mktemp("page") / "explorers.html"
    text = json.dumps(found).replace("</", "<\\/")
    style = next(iter(made.values()))._css
    file.write_text(PAGE.format(style=style, explorers=text), encoding="utf-8")
    with chromium() as browser, quiet_page(browser, offline=True) as opened:
        opened.goto(file.as_uri())
        opened.evaluate("mounted")
        yield opened


# --- numbers ---------------------------------------------------------------------------------


def computed(page, explorer) -> tuple[dict, dict]:
    """Compute an explorer's numbers and sentences in the browser, from its settings and data."""
    traits = explorer.settings() | {"data": explorer.get_state("data")["data"]}
    return page.evaluate(COMPUTE, [type(explorer).__name__, traits, explorer.sentences])


def assert_same(theirs, ours, others=(), where="") -> None:
    """The browser's numbers are Python's within 1e-6.

    ``others`` are what Python itself gets from settings that differ in the last digits: where a
    number depends on these digits, as in a run that diverges, nobody's value is right.
    """
    if isinstance(theirs, dict):
        for key, value in theirs.items():
            assert key in ours, f"{where}.{key} is unknown in Python"
            inside = [other[key] for other in others if key in (other or {})]
            if len(inside) == len(others):
                assert_same(value, ours[key], inside, f"{where}.{key}")
    elif isinstance(theirs, list) and theirs and isinstance(theirs[0], dict):
        for number, value in enumerate(theirs):
            assert_same(value, ours[number], [o[number] for o in others], f"{where}.{number}")
    elif (
        ours is None or isinstance(ours, str | bool) or any(isinstance(o, str) for o in flat(ours))
    ):
        assert theirs == ours or any(other != ours for other in others), where
    elif all(np.shape(other) == np.shape(ours) and other is not None for other in others):
        its, mine, *clear = (
            np.clip(np.array(value, float), -1e6, 1e6) for value in (theirs, ours, *others)
        )
        assert its.shape == mine.shape, where
        kept = np.ones(mine.shape, bool)
        for other in clear:
            kept &= np.isclose(other, mine, 1e-9, 1e-9, equal_nan=True)
        np.testing.assert_allclose(its[kept], mine[kept], 1e-6, 1e-6, err_msg=where)


def flat(value) -> list:
    """Return a list as it is, and anything else as an empty one."""
    return value if isinstance(value, list) else []


def draw_settings(data, explorer) -> None:
    """Set every control to a value of its range, extremes included."""
    names = sorted(explorer.moving, key=lambda name: name != explorer.view_by)
    names.sort(key=lambda name: name == "schedule")  # it brings a, b and c
    for name in names:
        control = explorer.traits()[name].control(explorer)
        if control["kind"] == "slider":
            low, high = control["low"], control["high"]
            if control["step"] == 1:
                value = data.draw(st.integers(low, high), name)
            elif control["log"]:
                ends = st.floats(math.log10(low), math.log10(high))
                value = min(max(10 ** data.draw(ends, name), low), high)
            else:
                pace = control["step"] / 10  # as far as a slider moves with Shift
                ends = st.integers(math.ceil(low / pace), math.floor(high / pace))
                value = min(max(pace * data.draw(ends, name), low), high)
        else:
            value = data.draw(st.sampled_from(control.get("options", [False, True])), name)
        setattr(explorer, name, value)


def with_other_last_digits(explorer) -> list[dict]:
    """Return Python's numbers at settings that differ by a few units in the last place."""
    now, found = explorer.settings(), []
    fixed = {"a", "b", "c"} if now.get("schedule", "custom") != "custom" else set()
    for sign in (-1, 1):
        for name, value in now.items():
            if isinstance(value, float) and name not in fixed:
                control = explorer.traits()[name].control(explorer)
                value = value + sign * 4e-16 * max(abs(value), 1e-3)
                setattr(explorer, name, min(max(value, control["low"]), control["high"]))
        found.append(explorer.numbers)
        for name, value in now.items():
            setattr(explorer, name, value)
    return found


@pytest.mark.parametrize("name", explorers.__all__)
@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],  # a smaller example costs minutes
    suppress_health_check=list(HealthCheck),
)
@given(data=st.data())
def test_javascript_agrees_with_python(page, made, name, data):
    explorer = made[name]
    draw_settings(data, explorer)
    assert_agrees_where_clear(page, explorer)


def assert_agrees_where_clear(page, explorer) -> None:
    """Compare all numbers that do not depend on the settings' last digits, and all sentences."""
    numbers, said = computed(page, explorer)
    assert_same(numbers, explorer.numbers, with_other_last_digits(explorer))
    everything = explorer.settings() | numbers
    assert said == {key: say(each, everything) for key, each in explorer.sentences.items()}


def assert_agrees(page, explorer) -> None:
    """Compare all numbers and sentences, whatever they depend on."""
    numbers, said = computed(page, explorer)
    assert_same(numbers, explorer.numbers)
    assert said == explorer.readouts


@pytest.mark.parametrize("name", SCHEDULES)
def test_javascript_agrees_on_every_schedule(page, name):
    explorer = PolynomialExplorer(schedule=name, spectrum="nearly low-rank")
    for explorer.steps in (1, 5, 20):
        for explorer.log in (False, True):
            assert_agrees(page, explorer)


@pytest.mark.parametrize(
    ("a", "b", "c"),
    [
        (1.0, 0.0, 0.0),  # stays
        (1.01, 0.0, 0.0),  # creeps to infinity
        (1.0, -0.5, 0.0),  # creeps to 0
        (1.64, -4.63, 2.31),  # settles on either side of 0
        (2.23, -2.09, 0.25),  # escapes from a fringe of intervals
        (0.0, -0.02, 0.7),  # reaches -0
    ],
)
def test_javascript_agrees_on_odd_triples(page, a, b, c):
    assert_agrees(page, PolynomialExplorer(a=a, b=b, c=c, steps=9, tolerance=1e-6))


@pytest.mark.parametrize("matrix", [[[1, 2, 3]], np.diag([1.0, 0.0])], ids=["a row", "singular"])
def test_javascript_agrees_on_small_matrices(page, matrix):
    assert_agrees(page, PolynomialExplorer(matrix=matrix))


@pytest.mark.parametrize(
    "entries", [(0.7, 0.7, 0.7, 0.7), (0, 0, 0, 0), (0, -1, 1, 0), (1, 0, 0, -1)]
)
def test_javascript_agrees_on_special_matrices(page, entries):
    explorer = explorers.MatrixExplorer(np.reshape(entries, (2, 2)).astype(float), towards=0.5)
    assert_agrees(page, explorer)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_javascript_agrees_on_every_problem_and_rule(page, problem):
    rules = ("sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw", "muon")
    for rule in rules:
        lr = 1e-4 if rule in ("sgd", "momentum", "nesterov") else 0.03
        explorer = DescentExplorer(problem, {rule: {"lr": lr}}, steps=60)
        assert_agrees_where_clear(page, explorer)


def test_javascript_takes_every_keyword(page):
    keywords = {
        "adam": {"weight_decay": 0.1, "bias_correction": False, "beta2": 0.9, "eps": 1e-3},
        "adamw": {"weight_decay": 0.2, "eps": 1e-4},
        "muon": {"schedule": "polar_express", "steps": 3, "nesterov": False, "eps": 0.1},
    }
    explorer = DescentExplorer(
        "matrix", {rule: {"lr": 0.02} for rule in keywords}, keywords=keywords, steps=40
    )
    assert_agrees(page, explorer)
    plain = DescentExplorer("matrix", {rule: {"lr": 0.02} for rule in keywords}, steps=40)
    for lane in (1, 2, 3):
        assert plain.result[lane]["loss"] != explorer.result[lane]["loss"]


def test_a_problem_that_is_not_the_packages_is_left_to_python(page):
    assert DescentExplorer(cliff(), {"sgd": {}}).data["computed"] == {}
    explorer = DescentExplorer(cliff(wall=50.0), {"sgd": {"lr": 1e-3}}, steps=20)
    explorer.lr1 = 2e-3
    assert_agrees(page, explorer)
    assert explorer.numbers["lane1"]["lr"] == 2e-3


# --- sentences -------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", ["", ":g", ":.4g", ":.3g", ":.6g", ":.3f", ":.0f"])
def test_numbers_are_written_alike(page, spec):  # but for exact ties, which Python rounds to even
    for value in (0.0, 1.5, 0.1234567, -2.5e-7, 123456.7, 1e12, 99.9996, math.inf, 12):
        if spec or isinstance(value, int):
            asked = [f"a {{value{spec}}} b", {"value": value}]
            said = page.evaluate("(asked) => modules.LogitExplorer.say(...asked)", asked)
            assert said == say(*asked)


@pytest.mark.parametrize("value", [None, True, False, 0, 1, 2.5, math.nan, math.inf, "muon", "x"])
def test_variants_are_chosen_alike(page, value):
    variants = {"none": "n", "yes": "y", "no": "f", "zero": "0", "one": "1", "endless": "∞"}
    template = ["<", either("value", muon="{value}", other="o", **variants), ">"]
    asked = [template, {"value": value}]
    said = page.evaluate("(asked) => modules.LogitExplorer.say(...asked)", asked)
    assert said == say(*asked)


# --- without a kernel ------------------------------------------------------------------------


def root_of(page, explorer):
    """Return the element of a mounted explorer, drawn."""
    root = page.locator(f'.muon-explorer[aria-label="{explorer.title}"]')
    root.scroll_into_view_if_needed()
    expect(root).to_have_attribute("data-drawn", re.compile(r"\d+"))
    return root


@pytest.mark.parametrize(
    ("name", "trait"),
    [
        ("PolynomialExplorer", "steps"),
        ("DescentExplorer", "lr1"),
        ("MatrixExplorer", "towards"),
        ("LogitExplorer", "scale"),
        ("ClipExplorer", "tau"),
        ("ScalingExplorer", "tokens"),
        ("OverheadExplorer", "width"),
    ],
)
def test_a_page_without_python_is_alive(page, made, name, trait):
    root = root_of(page, made[name])
    before = root.locator("output").text_content()
    root.locator(f'[data-trait="{trait}"] input[type=range]').focus()
    for _ in range(20):
        page.keyboard.press("ArrowLeft" if trait == "tau" else "ArrowRight")
    expect(root.locator("output")).not_to_have_text(before)
    root.locator("button.reset").click()
    expect(root.locator("output")).to_have_text(before)


def test_every_choice_works_without_python(page, made):
    for explorer in made.values():
        root = root_of(page, explorer)
        for control in root.locator(".control.choice").all():
            select = control.locator("select")
            for option in select.locator("option").all_inner_texts():
                select.select_option(option)
                page.wait_for_timeout(30)
                assert "not sent" not in root.locator("output").inner_text()
        root.locator("button.reset").click()


# --- sliders by mouse ------------------------------------------------------------------------


def drag(page, root, trait: str, value: float) -> float:
    """Drag a slider's thumb to a value, one pixel at a time near it; return the seconds it took.

    As a reader does: look at the number box after each move, and press Shift for the last steps.
    """
    slider = root.locator(f'[data-trait="{trait}"] input[type=range]')
    box = root.locator(f'[data-trait="{trait}"] input[type=number]')
    place = slider.bounding_box()
    low, high, now = (float(slider.evaluate(f"e => e.{part}")) for part in ("min", "max", "value"))
    per_pixel = (high - low) / (place["width"] - 16)
    x, y = place["x"] + 8 + (now - low) / per_pixel, place["y"] + place["height"] / 2
    began = time.monotonic()
    page.mouse.move(x, y)
    page.mouse.down()
    for pace, close in ((per_pixel, 1.5 * per_pixel), (per_pixel / 10, 0.004)):
        while abs(missing := value - float(box.input_value())) > close:
            x += math.copysign(max(1, abs(missing) // pace), missing)
            page.mouse.move(x, y)
        page.keyboard.down("Shift")
    page.keyboard.up("Shift")
    page.mouse.up()
    return time.monotonic() - began


@pytest.mark.parametrize(("exercise", "power"), [("q3", 1.0), ("q6", 1.0), ("q10", 1.5)])
def test_the_exercises_are_set_by_mouse_alone(page, exercise, power):
    question = getattr(e04, exercise)
    start, goal = question.start, question.reference
    explorer = PolynomialExplorer(matrix=np.diag(fading(power)), schedule=start["schedule"])
    page.evaluate(
        "([script, traits]) => mount('by mouse', script, traits)", [explorer._esm, explorer.state()]
    )
    root = page.locator(".muon-explorer").last
    root.scroll_into_view_if_needed()
    expect(root).to_have_attribute("data-drawn", re.compile(r"\d+"))
    taken = sum(drag(page, root, trait, goal[trait]) for trait in "abc")
    shown = {
        trait: root.locator(f'[data-trait="{trait}"] input[type=number]').input_value()
        for trait in "abc"
    }
    settings = {
        "schedule": "custom",
        "steps": 5,
        **{trait: float(text) for trait, text in shown.items()},
    }
    assert question.check(settings).status == "correct"
    assert taken < 60
    for trait, value in settings.items():
        setattr(explorer, trait, value)
    assert root.locator("output").text_content() == "".join(explorer.readouts.values())
    root.evaluate("root => root.parentElement.remove()")


# --- the curve by mouse and finger -----------------------------------------------------------


def mounted_alone(page, explorer):
    """Mount an explorer for one test; return its element, drawn."""
    page.evaluate(
        "([script, traits]) => mount('alone', script, traits)", [explorer._esm, explorer.state()]
    )
    root = page.locator(".muon-explorer").last
    root.scroll_into_view_if_needed()
    expect(root).to_have_attribute("data-drawn", re.compile(r"\d+"))
    return root


def shown_triple(root) -> tuple[float, ...]:
    """Return what the number boxes of a, b and c show."""
    boxes = [root.locator(f'[data-trait="{name}"] input[type=number]') for name in "abc"]
    return tuple(float(box.input_value()) for box in boxes)


def pixel_map(explorer, root):
    """Return functions from the left axes' data to pixels of the page."""
    backdrop = explorer.views[str(explorer.log).lower()]["backdrop"]
    axes, picture = backdrop["axes"][0], root.locator(".picture canvas").last.bounding_box()

    def along(value, k, start, length, size):
        limits, here = axes["xy"[k]], value
        if axes["logs"][k]:
            limits, here = np.log(limits), math.log(value)
        share = (here - limits[0]) / (limits[1] - limits[0])
        left = picture["xy"[k]] + size * start
        return left + size * length * (share if k == 0 else 1 - share)

    def pixels(x, y):
        left, top, width, height = axes["box"]
        across = along(x, 0, left, width, picture["width"])
        return across, along(y, 1, top, height, picture["height"])

    return pixels


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize(("x", "factor"), [(0.25, 1.2), (0.55, 0.9), (0.95, 1.15), (1.1, 0.7)])
def test_the_curve_of_one_step_is_dragged(page, log, x, factor):
    explorer = PolynomialExplorer(log=log)
    root, start = mounted_alone(page, explorer), (explorer.a, explorer.b, explorer.c)
    pixels, before = pixel_map(explorer, root), root.locator("output").text_content()
    y = apply_schedule(x, start, 1)
    page.mouse.move(*pixels(x, y))
    canvas = root.locator(".picture canvas").last
    assert canvas.evaluate("canvas => canvas.style.cursor") == "grab"
    page.mouse.down()
    there = pixels(x, factor * y)
    page.mouse.move(*there, steps=5)
    moved = shown_triple(root)
    assert all(new != old for new, old in zip(moved, start, strict=True))
    assert math.dist(pixels(x, apply_schedule(x, moved, 1)), there) < 2
    assert root.locator('[data-trait="schedule"] select').input_value() == "custom"
    expect(root.locator("output")).not_to_have_text(before)
    page.mouse.move(*pixels(x, y), steps=5)  # and back
    page.mouse.up()
    assert shown_triple(root) == pytest.approx(start, abs=0.05)
    page.mouse.move(*pixels(x, y / 20))
    assert canvas.evaluate("canvas => canvas.style.cursor") == ""
    root.evaluate("root => root.parentElement.remove()")


def test_a_dragged_curve_changes_elsewhere_as_little_as_it_can(page):
    start, x, y = np.array(SCHEDULES["jordan"].coefficients[0]), 0.6, 0.9
    far = [[-1e3, 1e3]] * 3
    asked = [start.tolist(), x, y, far]
    found = page.evaluate("(asked) => modules.PolynomialExplorer.pulled(...asked)", asked)
    assert apply_schedule(x, found, 1) == pytest.approx(y, abs=1e-3)
    grid = np.linspace(0, 1.3, 2001)

    def change(triple):
        return np.mean((apply_schedule(grid, triple, 1) - apply_schedule(grid, start, 1)) ** 2)

    for other in np.random.default_rng(0).normal(size=(20, 3)):
        through = found + 0.1 * (other - [0, 0, other @ [x, x**3, 0] / x**5 + other[2]])
        assert apply_schedule(x, through, 1) == pytest.approx(y, abs=1e-3)
        assert change(through) > change(found)


def test_a_dragged_curve_stops_where_a_slider_ends(page):
    limits = [[0, 9], [-26, 6], [-6, 20]]
    asked = [[3.4445, -4.775, 2.0315], 0.02, 1.5, limits]
    found = page.evaluate("(asked) => modules.PolynomialExplorer.pulled(...asked)", asked)
    inside = [low <= value <= high for value, (low, high) in zip(found, limits, strict=True)]
    assert all(inside) and any(value in ends for value, ends in zip(found, limits, strict=True))
