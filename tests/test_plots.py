from functools import partial

import example_runs
import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from muon_lab.descent import descend, sgd
from muon_lab.plots import (
    BLACK,
    PALETTES,
    draw_alternation,
    draw_contours,
    draw_curves,
    draw_logits,
    draw_losses,
    draw_memory,
    draw_path,
    draw_polynomial,
    draw_rare_shares,
    draw_runs,
    draw_spectra,
    draw_sweep,
    name_lines,
    spread,
)
from muon_lab.polynomials import CONVERGENT, JORDAN, optimal_quintic
from muon_lab.problems import matrix_problem, rosenbrock, valley
from muon_lab.runs import Run


@pytest.fixture
def ax():
    figure = Figure(layout="constrained")
    yield figure.subplots()
    figure.canvas.draw()  # what a test drew must also render


def texts(ax):
    return [text.get_text() for text in ax.texts]


@pytest.mark.parametrize("problem", [valley(), rosenbrock()], ids=["valley", "rosenbrock"])
def test_contours_fill_the_window_and_star_the_minimum(ax, problem):
    assert draw_contours(problem, ax) is ax
    assert (ax.get_xlim(), ax.get_ylim()) == problem.window
    np.testing.assert_array_equal(ax.lines[0].get_xydata(), [problem.minimum])
    assert len(ax.collections[0].get_paths()) > 10


def test_contours_refuse_a_problem_that_is_not_in_the_plane(ax):
    with pytest.raises(ValueError, match="matrix has no window"):
        draw_contours(matrix_problem(), ax)


def test_path_keeps_the_window_and_is_named_at_its_last_point_inside(ax):
    path = descend(valley(25), partial(sgd, lr=0.081), steps=200)  # it leaves the window
    draw_path(path.points, draw_contours(valley(25), ax), "lr 0.081")
    assert (ax.get_xlim(), ax.get_ylim()) == valley(25).window
    assert texts(ax) == ["lr 0.081"]
    x, y = ax.texts[0].xy
    assert abs(x) < 4.5 and abs(y) < 1.8


def test_path_outside_the_window_has_no_name(ax):
    draw_path(np.full((3, 2), 99.0), draw_contours(valley(25), ax), "far")
    assert texts(ax) == []


def test_curves_are_named_at_their_ends_without_overlap(ax):
    x = np.arange(5)
    draw_curves(x, {"a": x, "b": x + 0.01, "c": 5.0 - x}, ax, "step", "height (m)")
    assert sorted(texts(ax)) == ["a", "b", "c"]
    heights = sorted(text.get_position()[1] for text in ax.texts)
    assert min(np.diff(heights)) > 0.069
    assert heights[0] >= 0 and heights[-1] <= 1
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("step", "height (m)")


def test_a_label_that_lines_share_is_written_once_beside_the_last(ax):
    for end in (1.0, 3.0):
        ax.plot([0, 1], [0, end], label="seeds")
    name_lines(ax)
    assert texts(ax) == ["seeds"]
    assert ax.texts[0].get_position()[1] == pytest.approx(1 / 1.1 + 0.05 / 1.1)  # 5 % margins


@given(st.lists(st.floats(-0.5, 1.5), max_size=30), st.floats(0, 0.3))
def test_spread_heights_keep_their_order_their_gap_and_their_limits(heights, gap):
    placed = np.array(spread(heights, gap, 0.1, 0.9))
    order = np.argsort(heights, kind="stable")
    fitting = min(gap, 0.8 / max(1, len(heights) - 1))
    assert (np.diff(placed[order]) >= fitting - 1e-9).all()
    assert ((placed >= 0.1 - 1e-9) & (placed <= 0.9 + 1e-9)).all()


def test_heights_far_enough_apart_stay():
    assert spread([0.8, 0.2, 0.5], 0.1) == pytest.approx([0.8, 0.2, 0.5])


def contrast(first, second):
    """Return the contrast of two colours as WCAG 2 defines it."""
    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour):
    parts = np.array(to_rgb(colour))
    linear = np.where(parts <= 0.03928, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return linear @ (0.2126, 0.7152, 0.0722)


@pytest.mark.parametrize(("theme", "page"), [("light", "#ffffff"), ("dark", "#111111")])
def test_every_colour_can_be_read_on_its_page(theme, page):
    assert PALETTES["light"].keys() == PALETTES["dark"].keys()
    assert min(contrast(colour, page) for colour in PALETTES[theme].values()) > 4.4


def test_lines_differ_in_colour(ax):
    draw_curves(np.arange(3), {name: np.arange(3) for name in "abcdefg"}, ax, "x", "y")
    assert len({line.get_color() for line in ax.lines}) == 7


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0, -1.0])
def test_values_that_a_log_scale_cannot_show_leave_a_gap(ax, bad):
    draw_losses({"run": [1.0, bad, 0.1, bad], "other": [1.0, 0.5]}, ax)
    assert sorted(texts(ax)) == ["other", "run"]
    assert ax.get_yscale() == "log"


def test_a_curve_without_any_value_is_still_named(ax):
    draw_losses({"nothing": [np.nan, np.nan]}, ax, log="")
    assert texts(ax) == ["nothing"]


def test_losses_begin_at_step_zero(ax):
    draw_losses({"run": [3.0, 2.0, 1.0]}, ax, "loss (nats)")
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), [0, 1, 2])
    assert ax.get_ylabel() == "loss (nats)"


def test_drawing_opens_no_figure():
    before = plt.get_fignums()
    draw_losses({"run": [1.0]}, Figure().subplots())
    assert plt.get_fignums() == before


def make_run(optimizer="adamw", seed=0, lr=0.01, final=2.0, logits=1.0, decay=0.1):
    curves = {"loss": [5.0, 3.0], "valid_step": [0, 1, 2], "valid_loss": [5.5, 3.0, final]}
    curves |= {"valid_bytes": [0, 1000, 2000], "valid_seconds": [0, 3, 6]}
    maxima = logits * np.arange(2 * 3 * 4).reshape(2, 3, 4)  # (steps, layers, heads)
    config = {"optimizer": optimizer, "seed": seed, "lr": lr, "tau": 30.0}
    config["weight_decay"] = decay
    return Run(config, {}, curves | {"max_logit": maxima})


@pytest.mark.parametrize(("along", "end"), [("bytes", 2.0), ("seconds", 6.0)])
def test_every_seed_is_drawn_and_each_optimizer_named_once(ax, along, end):
    runs = [make_run(name, seed, final=2 - seed) for name in ("adamw", "muon") for seed in (0, 1)]
    draw_runs(runs, ax, along)
    assert len(ax.lines) == 4
    assert sorted(texts(ax)) == ["AdamW", "Muon"]
    assert len({line.get_color() for line in ax.lines}) == 2
    assert {line.get_xdata()[-1] for line in ax.lines} == {end}
    assert {line.get_ydata()[-1] for line in ax.lines} == {2.0, 1.0}


def test_a_sweep_has_a_dot_per_run_and_a_line_through_the_means(ax):
    losses = [(0.01, 3.0), (0.1, 1.0), (0.1, 2.0)]
    draw_sweep([make_run("muon", lr=lr, final=final) for lr, final in losses], ax)
    dots = [xy for line in ax.lines[:-1] for xy in line.get_xydata().tolist()]
    assert dots == [[0.01, 3.0], [0.1, 1.0], [0.1, 2.0]]
    np.testing.assert_array_equal(ax.lines[-1].get_xydata(), [[0.01, 3.0], [0.1, 1.5]])
    assert ax.get_xscale() == "log" and texts(ax) == ["Muon"]


def test_each_weight_decay_has_its_own_line_and_no_decay_is_dashed(ax):
    runs = [make_run("muon", lr=lr, decay=decay) for lr in (1, 2) for decay in (0, 0.1)]
    draw_sweep(runs, ax)
    lines = [line for line in ax.lines if len(line.get_xdata()) == 2]
    assert [line.get_linestyle() for line in lines] == ["--", "-"]
    assert sorted(texts(ax)) == ["Muon, decay 0", "Muon, decay 0.1"]


def test_an_optimizer_of_your_own_is_drawn_under_its_class(ax):
    names = ("adamw", "folder/my_optimizer.py:MyMuon")
    runs = [make_run(name, lr=lr) for name in names for lr in (0.1, 0.2)]
    for draw in (draw_runs, draw_sweep):
        draw(runs, ax)
        labels = {text.get_text() for text in ax.texts}
        assert {"AdamW", "MyMuon"} <= labels
        ax.clear()


def test_the_spectra_of_momentum_and_update_begin_with_the_largest_value(ax):
    run = example_runs.make_run(optimizer="muon")
    draw_spectra(run, ax, matrix=1)
    for line, kind in zip(ax.lines, ("momentum", "update"), strict=True):
        np.testing.assert_array_equal(line.get_xdata(), [0, 0.5, 1])
        values = run.curves[f"{kind}_spectrum"][-1, 1]
        np.testing.assert_array_equal(line.get_ydata(), values[::-1])
    assert sorted(texts(ax)) == ["Muon's momentum", "Muon's update"]


def test_rare_shares_are_percent_and_means_over_the_matrices_and_every_seed_is_drawn(ax):
    shares = {"rare_share": [[0.4, 0.6]], "rare_share_momentum": [[0.0, 0.1]]}
    draw_rare_shares(
        [example_runs.make_run(seed=s, optimizer="muon", **shares) for s in (0, 1)], ax
    )
    assert [line.get_ydata().tolist() for line in ax.lines] == [[5], [50], [5], [50]]
    assert sorted(texts(ax)) == ["Muon's momentum", "Muon's update"]


def test_memory_is_one_bar_per_name_with_its_kinds_end_to_end(ax):
    draw_memory({"AdamW": {"weights": 1e6, "state": 2e6}, "Muon": {"weights": 1e6}}, ax)
    spans = [(bar.get_x(), bar.get_width()) for bar in ax.patches]
    assert spans == [(0, 1), (1, 2), (0, 1)]
    assert texts(ax) == ["weights\n1.0", "state\n2.0", "weights\n1.0"]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["AdamW", "Muon"]


def test_every_heads_logits_are_drawn_with_the_largest_and_tau(ax):
    draw_logits(make_run("muonclip", logits=10.0), ax)
    assert len(ax.lines) == 3 * 4 + 1 + 1
    np.testing.assert_array_equal(ax.lines[12].get_ydata(), [110.0, 230.0])
    assert set(ax.lines[13].get_ydata()) == {30.0}
    assert sorted(texts(ax)) == ["MuonClip", "τ"]


def test_negative_logits_stay_on_a_logarithmic_axis(ax):
    draw_logits(make_run("muon", logits=-1.0), ax)
    assert all(line.get_ydata().min() > 0 for line in ax.lines)
    assert texts(ax) == ["Muon"]


def drawn_points(ax):
    """Return (x, whether filled) of every black point."""
    black = [line for line in ax.lines if line.get_color() == BLACK]
    return [(float(line.get_xdata()[0]), line.get_fillstyle() == "full") for line in black]


@pytest.mark.parametrize(
    ("triple", "wanted"),
    [
        (JORDAN, [(0.0, False), (0.868, False), (1.264, False)]),
        (CONVERGENT, [(0.0, False), (1.0, True)]),
    ],
)
def test_a_polynomials_fixed_points_are_filled_where_they_attract(ax, triple, wanted):
    draw_polynomial(triple, ax)
    assert [(round(x, 3), full) for x, full in drawn_points(ax)] == wanted
    assert sorted(texts(ax)) == ["p(σ)", "σ"]


def test_the_walk_goes_to_the_curve_and_to_the_diagonal_in_turn(ax):
    draw_polynomial((1.5, -0.5, 0.0), ax, start=0.5, steps=2)
    corners = ax.lines[2].get_xydata()
    assert corners[:4].tolist() == [
        [0.5, 0],
        [0.5, 0.6875],
        [0.6875, 0.6875],
        [0.6875, corners[3, 1]],
    ]
    assert corners[3, 1] == pytest.approx(1.5 * 0.6875 - 0.5 * 0.6875**3)


def test_a_walk_that_escapes_ends_outside_the_axes(ax):
    draw_polynomial((2.0, 1.0, 0.0), ax, start=0.9, steps=50)
    assert np.isfinite(ax.lines[2].get_xydata()).all() and len(ax.lines[2].get_xydata()) == 3
    assert ax.get_ylim() == (0, 1.3)


def test_the_best_quintics_errors_take_turns_at_the_dashed_lines(ax):
    a, b, c = triple = optimal_quintic(0.1, 1.0)
    turns = np.sort(np.sqrt(np.roots([5 * c, 3 * b, a])))  # where p' = 0
    draw_alternation(triple, np.array([0.1, *turns, 1.0]), ax)
    dots, upper = ax.lines[1].get_ydata(), ax.lines[3].get_ydata()[0]
    np.testing.assert_allclose(dots, upper * np.array([-1, 1, -1, 1]), rtol=1e-4)
