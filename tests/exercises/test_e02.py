"""What exercises of notebook 02 say of Adam and of the turned valley, against the numbers."""

from functools import partial

import numpy as np
import torch

from muon_lab.descent import RULES, descend
from muon_lab.exercises import e02
from muon_lab.problems import turned, valley


def test_the_reference_is_torchs_adam():
    for gradients, lr, beta1, beta2 in e02.q6.cases:
        point = torch.zeros(3, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.Adam([point], lr=lr, betas=(beta1, beta2))
        ours = e02.walk(e02.adam_step, gradients, lr, beta1, beta2)
        for gradient, reached in zip(gradients, ours, strict=True):
            point.grad = torch.tensor(gradient)
            optimizer.step()
            np.testing.assert_allclose(reached, point.detach().numpy(), rtol=1e-12)


def test_a_right_adam_of_another_form_is_taken():
    def adam_step(point, gradient, mean, square, step, lr, beta1, beta2):
        mean = mean + (1 - beta1) * (gradient - mean)
        square = square * beta2 + gradient * gradient * (1 - beta2)
        rate = lr / (1 - beta1**step)
        return point - rate * mean / ((square / (1 - beta2**step)) ** 0.5 + 1e-8), mean, square

    assert e02.q6.check(adam_step).status == "correct"


def test_an_unknown_mistake_is_placed_at_the_first_step_that_shows_it():
    def adam_step(point, gradient, mean, square, step, lr, beta1, beta2):
        lr = lr if step < 3 else 2 * lr
        return e02.adam_step(point, gradient, mean, square, step, lr, beta1, beta2)

    assert e02.q6.check(adam_step).text.startswith("the point after step 3: wanted")


def test_momentum_alone_does_not_notice_the_turn_and_adam_suffers_least_of_the_others():
    def steps_to_a_thousandth(rule, problem, steps=800):
        reached = [
            descend(problem, partial(RULES[rule], lr=lr), steps).values < 1e-3
            for lr in np.geomspace(1e-2, 3, 12)
        ]
        return min(int(r.argmax()) if r.any() else steps for r in reached)

    slower = {}
    for rule in e02.q3.choices:
        straight, skew = (
            steps_to_a_thousandth(rule, problem)
            for problem in (valley(100), turned(valley(100), 45))
        )
        slower[rule] = skew / straight
    assert slower.pop("momentum") == 1 and min(slower.values()) > 1.05
    assert min(slower, key=slower.get) == "adam"


def test_the_largest_models_are_as_its_sentence_says():
    fits = [e02.largest_model(80, numbers, 4) / 1e9 for numbers in (2, 1, 0)]
    assert [f"{billions:.1f}" for billions in fits] == ["5.0", "6.7", "10.0"]


def test_a_step_that_returns_the_point_alone_is_told_what_to_return():
    reply = e02.q6.check(lambda point, gradient, *_: point - gradient)  # of three numbers
    assert reply.text == "Return three values: the new point, mean and square."
