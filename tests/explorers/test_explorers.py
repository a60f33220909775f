"""Every explorer, without a kernel or a browser; the browser's side is in test_browser.py."""

import base64
import io
import itertools
import json
import random
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from PIL import Image
from traitlets import TraitError

from muon_lab import explorers
from muon_lab.descent import RULES, adamw, descend
from muon_lab.explorers import DescentExplorer, MatrixExplorer, PolynomialExplorer
from muon_lab.explorers.base.matrices import MATRICES, singular_values
from muon_lab.explorers.base.sentences import lookup, opened
from muon_lab.orthogonalize import polar_factor
from muon_lab.plots import PALETTES
from muon_lab.polynomials import SCHEDULES, apply_schedule, band, divergence_bound, fading, score
from muon_lab.problems import Problem, cliff, rosenbrock

NEEDS = {"ClipExplorer": {"max_logits": np.geomspace(1, 1e4, 24).reshape(3, 2, 4)}}
EVERY = [partial(getattr(explorers, name), **NEEDS.get(name, {})) for name in explorers.__all__]
TOOLS = Path(__file__).parents[2] / "tools"
AT_MOST = 32  # combinations of one explorer's extremes


def view_of(explorer) -> dict:
    """The backdrop and the controls of the present settings."""
    value = explorer.view()
    return explorer.views[str(value).lower() if isinstance(value, bool) else value or ""]


def controls(explorer) -> list[dict]:
    """The descriptions of an explorer's controls."""
    return view_of(explorer)["controls"]


def sliders(explorer) -> list[dict]:
    """The descriptions of an explorer's sliders."""
    return [control for control in controls(explorer) if control["kind"] == "slider"]


def assert_sound(explorer) -> None:
    """A picture that can be drawn, every array of it in step, and something said."""
    count, drawn = len(view_of(explorer)["backdrop"]["axes"]), 0
    for mark in explorer.marks:
        assert 0 <= mark["axes"] < count
        numbers = opened(explorer.numbers, mark.get("within")) or {}
        found = [lookup(numbers, mark[key]) for key in ("x", "y") if key in mark]
        if len(found) == 2 and None not in [value if value is None else 0 for value in found]:
            x, y = (np.array(value, float) for value in found)
            assert x.shape == y.shape[-x.ndim :] if x.ndim else y.ndim == 0
            assert np.isfinite(x).all() and not np.isinf(y).any()
            drawn += 1
    assert drawn or explorer.numbers.get("rules") == 0
    assert any(explorer.readouts.values())


def image_of(png: bytes) -> Image.Image:
    return Image.open(io.BytesIO(png))


@pytest.fixture(scope="module", params=EVERY, ids=explorers.__all__)
def explorer(request):
    made = request.param()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def back_to_the_start(request):
    yield
    if "explorer" in request.fixturenames:
        request.getfixturevalue("explorer").reset()


def test_starts_sound_and_describes_its_controls(explorer):
    assert_sound(explorer)
    known = set(explorer.moving)
    assert {control["trait"] for control in controls(explorer)} <= known
    state = json.loads(json.dumps(explorer.state()))
    assert known | {"views", "marks", "sentences", "data", "starting"} <= set(state)
    assert explorer.title


def test_every_combination_of_extremes_is_drawn_and_said(explorer):
    found = sliders(explorer)
    ends = [(control["low"], control["high"]) for control in found]
    corners = list(itertools.product(*ends))
    for corner in random.Random(0).sample(corners, min(AT_MOST, len(corners))):
        for control, value in zip(found, corner, strict=True):
            setattr(explorer, control["trait"], value)
        assert_sound(explorer)


def test_every_choice_is_drawn_and_said(explorer):
    for control in controls(explorer):
        choices = {"choice": control.get("options", []), "toggle": [True, False]}
        for value in choices.get(control["kind"], []):
            setattr(explorer, control["trait"], value)
            assert_sound(explorer)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), "3", None, True, -1e9, 1e9])
def test_a_slider_refuses_what_is_no_number_of_its_range(explorer, wrong):
    for control in sliders(explorer):
        before = getattr(explorer, control["trait"])
        with pytest.raises(TraitError, match=f"{control['trait']} must be a number from .*; got"):
            setattr(explorer, control["trait"], wrong)
        assert getattr(explorer, control["trait"]) == before


def test_a_choice_names_what_it_may_be(explorer):
    for control in controls(explorer):
        if control["kind"] == "choice":
            with pytest.raises(TraitError, match=control["options"][0]):
                setattr(explorer, control["trait"], "no such thing")


def test_an_unknown_name_is_refused_by_the_constructor(explorer):
    with pytest.raises((TypeError, TraitError), match="no_such_slider"):
        type(explorer)(no_such_slider=1, **NEEDS.get(type(explorer).__name__, {}))


def test_reset_goes_back_to_the_start(explorer):
    start = {name: getattr(explorer, name) for name in explorer.moving}
    shown = dict(explorer.readouts)
    for control in controls(explorer):
        if control["kind"] == "choice":
            setattr(explorer, control["trait"], control["options"][-1])
    for control in sliders(explorer):
        setattr(explorer, control["trait"], control["high"])
    explorer.reset()
    assert {name: getattr(explorer, name) for name in explorer.moving} == start
    assert explorer.readouts == shown


def test_the_output_carries_a_picture_beside_the_live_view(explorer):
    data, metadata = explorer._repr_mimebundle_()
    assert data["application/vnd.jupyter.widget-view+json"]["model_id"] == explorer.model_id
    picture = image_of(base64.b64decode(data["image/png"]))
    assert picture.width > metadata["image/png"]["width"]
    colours = picture.convert("RGB").getcolors(maxcolors=picture.width * picture.height)
    assert len(colours) > 100  # axes alone are grey
    assert type(explorer).__name__ in data["text/plain"]
    assert len(data["image/png"]) < 400_000


def test_a_page_that_nbconvert_makes_shows_the_picture(tmp_path):
    cell = nbformat.v4.new_code_cell("from muon_lab import explorers\nexplorers.DescentExplorer()")
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "one.ipynb")
    command = [sys.executable, "-m", "nbconvert", "--execute", "--to", "html"]
    command += ["--config", TOOLS / "nbconvert_pictures.py", tmp_path / "one.ipynb"]
    subprocess.run(command, check=True, capture_output=True)
    page = (tmp_path / "one.html").read_text("utf-8")
    (picture,) = re.findall(r"<img\b[^>]*>", page)
    drawn = base64.b64decode(re.search(r"data:image/png;base64,([^\"]+)", picture)[1])
    assert image_of(drawn).width > 700
    assert "widget-view+json" not in page.partition("</head>")[2]


def test_axes_are_drawn_once_and_lie_where_the_backdrop_says(explorer):
    for view in explorer.views.values():
        backdrop = view["backdrop"]
        assert backdrop["svg"].startswith("<svg") and PALETTES["light"]["text"] in backdrop["svg"]
        for axes in backdrop["axes"]:
            left, top, width, height = axes["box"]
            assert 0 < left < left + width < 1 and 0 < top < top + height < 1
        panels = [axes["panel"] for axes in backdrop["axes"]]
        for (left, top, width, height), other in itertools.permutations(panels, 2):
            beside = left + width <= other[0] + 0.002 or other[0] + other[2] <= left + 0.002
            assert beside or top + height <= other[1] + 0.002 or other[1] + other[3] <= top + 0.002
    same = explorer.views
    control = sliders(explorer)[0]
    setattr(explorer, control["trait"], control["high"])
    assert explorer.views is same


def test_the_same_axes_are_drawn_once_for_all_explorers():
    first, second = PolynomialExplorer(), PolynomialExplorer(schedule="cubic")
    assert first.views["true"]["backdrop"] is second.views["true"]["backdrop"]


# --- the polynomial explorer -----------------------------------------------------------------


@pytest.mark.parametrize("name", SCHEDULES)
def test_polynomial_result_is_what_polynomials_says(name):
    explorer = PolynomialExplorer(schedule=name, steps=7)
    found = explorer.result
    assert (found["low"], found["high"]) == band(name, 7)
    assert found["diverges_beyond"] == divergence_bound(name)
    starts = singular_values(MATRICES["gaussian"]()) / SCHEDULES[name].norm_factor
    assert np.array_equal(found["after"], apply_schedule(starts, name, 7))
    near = apply_schedule(found["reaches_half"], name, 7)
    assert near == pytest.approx(0.5, abs=1e-6) or found["reaches_half"] > 1


@pytest.mark.parametrize(
    ("name", "fate"),
    [
        ("cubic", "converges"),
        ("taylor", "converges"),
        ("convergent", "converges"),
        ("jordan", "oscillates"),
        ("you", "settles"),
        ("polar_express", "settles"),
        ("cans", "settles"),
        ("deepseek_v4", "converges"),
    ],
)
def test_long_run_of_the_published_schedules(name, fate):
    assert PolynomialExplorer(schedule=name).result["long_run"] == fate


@pytest.mark.parametrize(
    ("triple", "fate"),
    [
        ((0.5, 0.0, 0.0), "settles at 0, not at 1"),
        ((1.2, -0.4, 0.0), "settles at 0.7071, not at 1"),
        ((1.0, 0.0, 0.0), "settles at several values"),
        ((1.64, -4.63, 2.31), "settles at several values"),  # some σ change their sign
        ((1.0, -0.5, 0.0), "is still on its way after 300 steps"),  # to 0
        ((1.01, 0.0, 0.0), "is still on its way after 300 steps"),  # to infinity
        ((2.0, 1.0, 1.0), "diverges"),
    ],
)
def test_long_run_of_other_triples(triple, fate):
    a, b, c = triple
    explorer = PolynomialExplorer(a=a, b=b, c=c)
    assert explorer.schedule == "custom"
    assert f"σ from 0.01 to 1 {fate}" in explorer.readouts["long_run"]


def test_what_grows_slowly_is_not_said_never_to_diverge():
    assert "never" not in PolynomialExplorer(a=1.01, b=0, c=0).readouts["long_run"]
    assert "never diverges" in PolynomialExplorer(a=0.5, b=0, c=0).readouts["long_run"]


def test_moving_a_coefficient_leaves_the_table_and_a_schedule_brings_its_own():
    explorer = PolynomialExplorer(schedule="you")
    assert (explorer.a, explorer.b, explorer.c) == SCHEDULES["you"].coefficients[-1]
    explorer.b = -3.0
    assert explorer.schedule == "custom"
    assert set(explorer.result["triples"]) == {(explorer.a, -3.0, explorer.c)}
    explorer.schedule = "cubic"
    assert (explorer.a, explorer.b, explorer.c) == (1.5, -0.5, 0.0)


def test_a_table_is_followed_triple_by_triple():
    explorer = PolynomialExplorer(schedule="polar_express")
    assert explorer.result["triples"] == SCHEDULES["polar_express"].coefficients
    assert "table" in explorer.readouts["schedule"]


@pytest.mark.parametrize("steps", [2, 5, 9])
def test_the_triple_that_is_named_is_the_one_that_the_sliders_show(steps):
    explorer = PolynomialExplorer(schedule="you", steps=steps)
    assert explorer.result["last"] == (explorer.a, explorer.b, explorer.c)
    shown = f"({explorer.a}, {explorer.b}, {explorer.c})".replace("-", "−")
    assert shown in explorer.readouts["schedule"]


def test_a_coefficient_given_with_a_schedule_leaves_it():
    explorer = PolynomialExplorer(schedule="you", a=3.0)
    _, b, c = SCHEDULES["you"].coefficients[-1]
    assert (explorer.schedule, explorer.a, explorer.b, explorer.c) == ("custom", 3.0, b, c)


def test_your_own_matrix():
    values = np.array([1.0, 0.1, 0.01])
    explorer = PolynomialExplorer(matrix=np.diag(values))
    assert explorer.spectrum == "your own"
    assert explorer.result["starts"] == pytest.approx(values / np.linalg.norm(values))
    explorer.matrix = np.ones((3, 2))
    assert explorer.result["starts"] == pytest.approx([1.0, 0.0])
    explorer.matrix = None
    assert explorer.spectrum == "gaussian"
    assert "your own" not in explorer.options("spectrum")
    explorer.reset()
    assert explorer.spectrum == "gaussian"
    beside = PolynomialExplorer(matrix=np.eye(2), spectrum="momentum")
    assert beside.spectrum == "momentum"
    assert "your own" in beside.options("spectrum")


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float32, torch.int32])
def test_a_tensor_of_any_real_type_is_taken(kind):
    tensor = torch.tensor([[3, 0, 0], [0, 4, 0]], dtype=kind)
    starts = PolynomialExplorer(matrix=tensor).result["starts"]
    assert starts == pytest.approx([0.8, 0.6])
    assert MatrixExplorer(large=tensor).result["spectra"]["SGD"] == pytest.approx([1.0, 0.75])


def test_a_networks_own_weight_is_taken():
    weight = torch.nn.Linear(3, 2).weight
    assert PolynomialExplorer(matrix=weight).spectrum == "your own"
    assert weight.requires_grad


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ([[np.nan, 1.0]], "1 entries that are NaN"),
        ([[np.inf]], "finite"),
        (np.zeros((0, 3)), "at least 1"),
        ([1.0, 2.0], "numpy.diag"),
        (np.zeros((2, 2)), "zero everywhere"),
        ("text", "real numbers"),
        (np.array([[1 + 2j, 0], [0, 1]]), "real numbers"),
        (torch.tensor([[1 + 2j, 0], [0, 1]]), "real numbers"),
    ],
)
def test_a_bad_matrix_is_refused_with_the_reason(wrong, said):
    with pytest.raises(TraitError, match=said):
        PolynomialExplorer(matrix=wrong)
    with pytest.raises(ValueError, match=said):
        MatrixExplorer(large=wrong)


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_the_scale_of_a_matrix_does_not_matter(scale):
    matrix = np.diag([3.0, 4.0])
    assert singular_values(scale * matrix) == pytest.approx([0.8, 0.6])
    spectra, same = (MatrixExplorer(large=m).result["spectra"] for m in (scale * matrix, matrix))
    assert spectra["Muon"] == pytest.approx(same["Muon"])


def test_a_tolerance_counts_who_landed():
    wide = PolynomialExplorer(schedule="cubic", steps=20).result["landed"]
    narrow = PolynomialExplorer(schedule="cubic", steps=20, tolerance=1e-6).result["landed"]
    assert narrow < wide == 64
    moved = PolynomialExplorer(schedule="cubic", steps=20)
    moved.tolerance = 1e-6
    assert moved.result["landed"] == narrow
    assert "within 1e−06 of 1" in moved.readouts["values"]
    with pytest.raises(TraitError, match="tolerance"):
        PolynomialExplorer(tolerance=2.0)


@pytest.mark.parametrize("name", ["jordan", "cubic", "polar_express"])
def test_the_score_is_shown_live(name):
    explorer = PolynomialExplorer(matrix=np.diag(fading(1.5)), schedule=name)
    assert explorer.result["score"] == pytest.approx(score(name))
    assert f"The farthest is {score(name):.4g} from 1." in explorer.readouts["values"]
    explorer.a, explorer.steps = 9.0, 20
    assert explorer.result["score"] == np.inf
    assert "Some have grown past all bounds." in explorer.readouts["values"]


def test_the_momentum_is_of_a_real_training_step():
    matrix = MATRICES["momentum"]()
    assert matrix.shape == (256, 64)
    values = singular_values(matrix)
    assert (values**2).sum() / values[0] ** 2 < 10  # far from full: a gradient is nearly low-rank


# --- the descent explorer --------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
def test_descent_runs_every_rule_at_every_extreme(rule):
    explorer = DescentExplorer("rosenbrock", {rule: {}})
    for lr, beta, steps in itertools.product((1e-5, 10.0), (0.0, 0.999), (10, 500)):
        explorer.lr1, explorer.beta1, explorer.steps = lr, beta, steps
        assert_sound(explorer)


def test_descent_result_is_what_descend_says():
    explorer = DescentExplorer("rosenbrock", {"adamw": {"lr": 0.03, "beta": 0.8}}, start=(-1, 2))
    problem = rosenbrock()

    def rule(point, gradient, state=None):
        return adamw(point, gradient, state, lr=0.03, beta1=0.8, weight_decay=0.0)

    path = descend(problem, rule, 200, start=[-1, 2])
    assert np.array_equal(explorer.result[1]["points"], path.points)
    assert explorer.result[1]["loss"] == path.values[-1]


def test_descent_says_when_it_arrives_and_when_it_diverges():
    explorer = DescentExplorer("valley", {"sgd": {"lr": 0.05}})
    losses = explorer.result[1]["losses"]
    first = explorer.result[1]["steps_to"]
    assert losses[first] <= 1e-3 < losses[first - 1]
    assert f"after {first}" in explorer.readouts["lane1"]
    explorer.lr1 = 1.0
    assert f"diverged at step {explorer.result[1]['diverged_at']}" in (explorer.readouts["lane1"])


def test_descent_says_when_the_loss_rises():
    explorer = DescentExplorer("valley", {"sgd": {"lr": 0.081}}, steps=40)
    said = explorer.readouts["lane1"]
    assert "loss 90.1 after 40 steps, above the 20.5 of the start: it rises." in said
    assert "not yet" not in said
    explorer.lr1 = 0.079
    assert "not yet within 0.001" in explorer.readouts["lane1"]
    assert "rises" not in explorer.readouts["lane1"]


@pytest.mark.parametrize(("lr", "batch"), [(0.02, 1.0), (0.02, 16.0), (0.01, 4.0)])
def test_descent_hovers_at_the_level_of_its_noise(lr, batch):
    explorer = DescentExplorer("valley", {"sgd": {"lr": lr}}, steps=500, noise=5.0, batch=batch)
    theory = sum(lr * 25 / batch / (2 * (2 - lr * curvature)) for curvature in (1, 25))
    assert explorer.result[1]["level"] == pytest.approx(theory, rel=0.5)
    assert f"{explorer.result[1]['level']:.3g} on average" in explorer.readouts["lane1"]


def test_the_learning_rate_falls_to_0_where_that_is_ticked():
    explorer = DescentExplorer("valley", {"sgd": {"lr": 0.02}}, steps=400, noise=5.0)
    hovering = explorer.result[1]["level"]
    explorer.decay = True
    assert explorer.result[1]["level"] < hovering / 3
    moves = np.abs(np.diff(explorer.result[1]["points"], axis=0)).max(axis=1)
    assert moves[-5:].max() < 0.05 * moves[50:150].max()


def test_only_noise_has_a_batch():
    shown = [each["trait"] for each in controls(DescentExplorer("valley"))]
    assert not {"batch", "decay"} & set(shown)
    noisy = DescentExplorer("valley", noise=5.0)
    assert {"batch", "decay"} <= {each["trait"] for each in controls(noisy)}
    noisy.problem = "matrix"
    assert "batch" not in [each["trait"] for each in controls(noisy)]


def test_descent_takes_a_problem_of_your_own():
    bowl = Problem(
        "bowl",
        lambda point: point[0] ** 2 + point[1] ** 2,
        lambda point: 2 * point,
        np.array([1.0, 1.0]),
        np.zeros(2),
        ((-2.0, 2.0), (-1.5, 1.5)),
    )
    explorer = DescentExplorer(bowl, {"sgd": {"lr": 0.25}})
    assert explorer.problem == "bowl"
    assert explorer.result[1]["loss"] < 1e-9
    explorer.problem = "matrix"
    assert "x" not in [control["trait"] for control in controls(explorer)]
    explorer.reset()
    assert (explorer.problem, explorer.x, explorer.y) == ("bowl", 1.0, 1.0)


def test_descent_marks_controls_without_effect_as_idle():
    explorer = DescentExplorer(rules={"sgd": {}, "adam": {}})
    assert set(explorer.numbers["idle"]) == {"beta1", "beta3", "lr3"}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"problem": "hill"}, "one of rosenbrock, valley"),
        ({"rules": {"rprop": {}}}, "must be one of sgd"),
        ({"rules": {"sgd": {"speed": 1}}}, "lr and beta"),
        ({"rules": {name: {} for name in list(RULES)[:4]}}, "at most three"),
        ({"start": (1, 2, 3)}, r"point \(x, y\)"),
        ({"start": (np.nan, 0)}, "x must be a number"),
        ({"start": (50, 0)}, "from -2.2 to 2.2"),
        ({"problem": "matrix", "start": (0, 0)}, "not in the plane"),
        ({"steps": 0}, "steps must be a number from 10"),
    ],
)
def test_descent_refuses_bad_input_with_the_reason(wrong, said):
    with pytest.raises((ValueError, TraitError), match=said):
        DescentExplorer(**wrong)


def test_only_a_problem_of_your_own_is_computed_for_the_browser():
    standard = DescentExplorer(cliff(), {"sgd": {"lr": 1e-3}})
    assert not standard.data["computed"]
    own = DescentExplorer(cliff(wall=10.0), {"sgd": {"lr": 1e-3}})
    own.lr1 = 2e-3
    sent = json.loads(json.dumps(own.data["computed"]["cliff"]["lane1"]))
    assert sent["lr"] == 2e-3 and sent["loss"] == own.result[1]["loss"]


# --- the matrix explorer ---------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_matrix_parts_make_the_matrix_and_its_polar_factor(seed):
    matrix = np.random.default_rng(seed).uniform(-1.5, 1.5, (2, 2))
    explorer = MatrixExplorer(matrix)
    found = explorer.result
    assert np.allclose(found["U"] @ np.diag(found["stretches"]) @ found["Vh"], matrix)
    assert np.linalg.det(found["Vh"]) == pytest.approx(1)
    assert found["mirrors"] == (np.linalg.det(matrix) < 0)
    explorer.towards = 1.0
    assert np.allclose(explorer.result["blend"], polar_factor(matrix))
    assert explorer.result["blend_stretches"] == pytest.approx([1, 1])


def test_a_singular_matrix_says_what_the_polar_factor_drops():
    explorer = MatrixExplorer([[1.0, 1.0], [1.0, 1.0]], towards=1.0)
    assert explorer.result["blend_stretches"] == pytest.approx([1, 0], abs=1e-12)
    assert "undetermined" in explorer.readouts["now"]


@pytest.mark.parametrize("entry", [1.5, -1.5, 0.7])
def test_a_flat_matrix_is_said_without_rounding_or_a_mirror(entry):
    explorer = MatrixExplorer(np.full((2, 2), entry), towards=1.0)
    parts, now = (explorer.readouts[name] for name in ("parts", "now"))
    assert f"stretch by {2 * abs(entry):g} and 0, rotate" in parts
    assert "mirror" not in parts
    assert "the stretches are 1 and 0." in now
    found = explorer.result
    assert np.allclose(found["U"] @ np.diag(found["stretches"]) @ found["Vh"], found["matrix"])


def test_muon_evens_the_spectrum_out_where_sgd_and_sign_do_not():
    matrix = np.random.default_rng(0).normal(size=(32, 2)) @ np.ones((2, 24))
    matrix += 0.1 * np.random.default_rng(1).normal(size=matrix.shape)
    spectra = MatrixExplorer(large=matrix).result["spectra"]
    assert spectra["Muon"].min() > 0.3
    assert spectra["SGD"][1] < 0.2
    assert spectra["sign (Adam)"][-1] < 0.1


def test_matrix_refuses_another_shape():
    with pytest.raises(TraitError, match="pass a larger one as large="):
        MatrixExplorer(np.eye(3))
