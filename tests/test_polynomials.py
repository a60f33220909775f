"""Schedules do to singular values what is published of them, and the Remez is optimal."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muon_lab.polynomials import (
    SCHEDULES,
    Schedule,
    apply_schedule,
    as_schedule,
    band,
    divergence_bound,
    evaluate,
    fixed_points,
    optimal_quintic,
    polar_express,
    relaxed_cubic,
    resolve,
    slope_at_zero,
)


def test_computed_polar_express_equals_the_published_table():
    first = (8.156554524902461, -22.48329292557795, 15.878769915207462)
    last = (2.3465413258596377, -1.7097828382687081, 0.42323551169305323)
    table = polar_express(lower=1e-3, steps=5, cushion=0.02, safety=0.02)
    np.testing.assert_allclose(table[0], first, rtol=0, atol=2e-14)
    np.testing.assert_allclose(table[-1], last, rtol=0, atol=2e-14)
    assert SCHEDULES["polar_express"].coefficients == table
    assert SCHEDULES["polar_express"].norm_factor == 1.02


def test_computed_cans_equals_the_published_table_to_its_four_digits():
    published = [
        (8.4703, -25.1081, 18.6293),
        (4.1828, -3.1087, 0.5806),
        (3.9619, -2.9541, 0.5630),
        (3.2866, -2.4647, 0.5074),
        (2.2737, -1.6447, 0.4162),
    ]
    np.testing.assert_allclose(SCHEDULES["cans"].coefficients, published, rtol=0, atol=0.5001e-4)


@pytest.mark.parametrize(
    ("name", "slope", "lowest", "highest"),
    [
        ("jordan", 484.9, 0.682, 1.134),
        ("you", 492.7, 0.978, 1.032),
        ("taylor", 23.17, 0.228, 1.0),
        ("cubic", 7.594, 0.076, 1.0),
    ],
)
def test_five_steps_do_what_is_known_of_them(name, slope, lowest, highest):
    assert slope_at_zero(name, 5) == pytest.approx(slope, abs=0.06)
    assert band(name, 5) == pytest.approx((lowest, highest), abs=6e-4)


def test_computed_tables_bring_their_whole_interval_near_one():
    for name, low, high in (("polar_express", 0.858, 1.142), ("cans", 0.886, 1.114)):
        lowest, highest = band(name, lower=1e-3)
        assert low < lowest < 1 < highest < high
        assert lowest + highest == pytest.approx(2, abs=1e-9)  # it misses 1 by as much either way


def test_every_schedule_starts_steep_and_ends_near_one():
    for name, schedule in SCHEDULES.items():
        assert schedule.name == name
        assert schedule.source
        assert slope_at_zero(name) > 1
        assert 0.5 < apply_schedule(1.0 / schedule.norm_factor, name) < 1.5


def test_jordan_does_not_converge_to_one():
    assert evaluate(1.0, SCHEDULES["jordan"].coefficients[0]) == pytest.approx(0.701, abs=1e-9)
    zero, inner, outer = fixed_points((3.4445, -4.775, 2.0315))
    assert zero == (0.0, 3.4445)
    assert inner == pytest.approx((0.868, -1.58), abs=5e-3)
    assert outer[0] == pytest.approx(1.2637, abs=1e-4)
    assert band("jordan", 50, lower=0.3)[0] < 0.7  # no tighter after 50 steps than after 5


@given(st.floats(1e-3, 0.99), st.floats(0.5, 1.0))
@settings(max_examples=40, deadline=None)
def test_remez_error_alternates_at_four_points_and_is_nowhere_larger(lower, upper):
    lower = lower * upper
    triple = optimal_quintic(lower, upper)
    grid = np.linspace(lower, upper, 20_001)
    error = evaluate(grid, triple) - 1
    largest = np.abs(error).max()
    assert abs(error[0]) == pytest.approx(largest, rel=1e-3, abs=1e-12)
    touching = np.abs(error) > largest * (1 - 1e-3) - 1e-13
    signs = np.sign(error[touching])
    if largest > 1e-9:  # below, rounding hides the alternation
        assert np.count_nonzero(np.diff(signs)) == 3


def test_remez_on_a_point_is_taylors_quintic():
    np.testing.assert_allclose(optimal_quintic(1.0, 1.0), SCHEDULES["taylor"].coefficients[0])


@pytest.mark.parametrize("triple", [(1.5, -0.5, 0.0), (2.0, -1.5, 0.5), (1.875, -1.25, 0.375)])
def test_convergent_triples_have_one_as_an_attracting_fixed_point(triple):
    slopes = {round(x, 9): slope for x, slope in fixed_points(triple)}
    assert abs(slopes[1.0]) < 1
    assert apply_schedule(0.3, triple, 40) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("name", SCHEDULES)
def test_values_escape_just_beyond_the_divergence_bound_and_not_just_inside(name):
    bound = divergence_bound(name)
    table = SCHEDULES[name].coefficients
    far = [abs(float(apply_schedule(s * bound, table, 400))) for s in (1 - 1e-6, 1 + 1e-6)]
    assert far[0] < 3
    assert not far[1] < 1e6  # infinite, or not a number once infinities met


@pytest.mark.parametrize(
    ("triple", "bound"), [((0.5, 0.0, 0.0), math.inf), ((2.0, 0.0, 0.0), 0.0), ((2.0, 1, 1), 0.0)]
)
def test_divergence_bound_at_its_extremes(triple, bound):
    assert divergence_bound(triple) == pytest.approx(bound, abs=1e-12)


@given(
    st.tuples(st.floats(-10, 10), st.floats(-30, 30), st.floats(-30, 30)),
)
@settings(max_examples=60, deadline=None)
def test_divergence_bound_is_a_number_for_any_triple(triple):
    assert divergence_bound(triple) >= 0


def test_steps_default_to_five_or_the_tables_length_and_repeat_the_last_triple():
    assert len(resolve("cubic")) == 5
    assert resolve("you", 3) == SCHEDULES["you"].coefficients[:3]
    longer = resolve("you", 8)
    assert longer[5:] == (SCHEDULES["you"].coefficients[-1],) * 3
    for name in ("polar_express", "cans"):
        assert resolve(name) == SCHEDULES[name].coefficients
        ends = apply_schedule(np.geomspace(1e-3, 1, 99) / SCHEDULES[name].norm_factor, name, 16)
        np.testing.assert_allclose(ends, 1, atol=1e-3)  # it repeated its fifth triple, to 1.03
    assert resolve(((1, 2, 3), (4, 5, 6))) == ((1.0, 2.0, 3.0), (4.0, 5.0, 6.0))


def test_apply_schedule_composes_and_leaves_its_argument_alone():
    x = np.linspace(0, 1, 11)
    before = x.copy()
    twice = evaluate(evaluate(x, (1.5, -0.5, 0.0)), (1.5, -0.5, 0.0))
    np.testing.assert_array_equal(apply_schedule(x, "cubic", 2), twice)
    np.testing.assert_array_equal(x, before)
    np.testing.assert_allclose(apply_schedule(-x, "you"), -apply_schedule(x, "you"))


@pytest.mark.parametrize(
    ("schedule", "steps", "error", "words"),
    [
        ("jordon", None, ValueError, "'jordon'.*cubic"),
        ((1.0, 2.0), None, ValueError, r"one \(a, b, c\)"),
        ([], None, ValueError, "a schedule's name"),
        ([(1, 2, 3), (1, 2)], None, ValueError, "a schedule's name"),
        (None, None, ValueError, "a schedule's name"),
        ((1.0, float("nan"), 0.0), None, ValueError, "must be finite"),
        ("cubic", 0, ValueError, "got 0"),
        ("cubic", 2.5, TypeError, r"got 2\.5"),
        ("cubic", True, TypeError, "got True"),
    ],
)
def test_wrong_schedules_and_steps_are_refused_in_clear_words(schedule, steps, error, words):
    with pytest.raises(error, match=words):
        apply_schedule(0.5, schedule, steps)


def test_wrong_intervals_are_refused():
    for call in (lambda: optimal_quintic(0, 1), lambda: band("cubic", lower=0)):
        with pytest.raises(ValueError, match="0 < lower <= upper"):
            call()
    with pytest.raises(ValueError, match="got 2"):
        polar_express(lower=2)


def test_a_schedule_object_is_taken_as_it_is():
    own = Schedule("own", ((1.0, 0.0, 0.0),), "here", norm_factor=2.0)
    assert as_schedule(own) is own


def test_the_relaxed_cubic_has_the_slope_and_the_band_of_its_source():
    assert slope_at_zero("cubic5") == pytest.approx(119, abs=0.5)
    assert band("cubic5", lower=7e-3) == pytest.approx((0.774, 1.300), abs=6e-4)
    assert all(c == 0 for _, _, c in SCHEDULES["cubic5"].coefficients)
    assert SCHEDULES["cubic5"].coefficients == relaxed_cubic()


@given(st.floats(1e-3, 0.5), st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_no_other_cubic_lifts_the_smallest_value_further(lower, steps):
    table = relaxed_cubic(lower, upper=1.0, steps=steps)
    low, high = band(table, steps, lower=lower)
    assert high == pytest.approx(1)
    assert low == pytest.approx(float(apply_schedule(1.0, table, steps)), abs=1e-9)
    a, b, _ = table[0]
    if steps == 1:
        for tilt in (0.99, 1.01):  # another b with the same peak 1: 2a/3·√(a/-3b) = 1
            other = (a * tilt ** (1 / 3), b * tilt, 0.0)
            assert band(other, 1, lower=lower)[1] == pytest.approx(1, abs=1e-6)
            assert band(other, 1, lower=lower)[0] < low


def test_a_relaxed_cubic_refuses_what_it_cannot_serve():
    with pytest.raises(ValueError, match="got 2"):
        relaxed_cubic(lower=2)
    with pytest.raises(ValueError, match="got 0"):
        relaxed_cubic(steps=0)
