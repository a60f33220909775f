"""Exercises of notebook 05: the whole step against torch's, and the natural mistakes by name."""

import itertools
import math
from unittest import mock

import numpy as np
import pytest
import torch

from muon_lab.exercises import e05
from muon_lab.exercises.e05 import Reader, q5, q6
from muon_lab.orthogonalize import newton_schulz

RIGHT = {"filter.weight", "mix.weight"}


@pytest.mark.parametrize("options", e05.CONFIGURATIONS.values(), ids=e05.CONFIGURATIONS)
def test_the_reference_takes_the_steps_of_torch(options):
    rows, columns, lr, mu, decay = options
    weight, average, *gradients = np.random.default_rng(1).normal(size=(7, rows, columns))
    parameter = torch.nn.Parameter(torch.tensor(weight))
    optimizer = torch.optim.Muon(
        [parameter], lr, decay, mu, adjust_lr_fn="match_rms_adamw", eps=1e-30
    )
    average = np.zeros_like(average)
    with mock.patch.object(torch.Tensor, "bfloat16", lambda tensor: tensor.double().clone()):
        for gradient in gradients:
            parameter.grad = torch.tensor(gradient)
            optimizer.step()
            weight, average = e05.muon_step(weight, average, gradient, lr, mu, decay)
    np.testing.assert_allclose(weight, parameter.detach().numpy(), rtol=0, atol=1e-12)


def write_muon(average=None, direction=None, update=None, decayed=None, factor=None):
    """Write a learner's step; each argument is one line of it, the right one where left out."""
    lines = {
        "average": average or "average + (1 - mu) * (gradient - average)",
        "direction": direction or "(1 - mu) * gradient + mu * average",
        "update": update or "newton_schulz(direction)",
        "weight": decayed or "weight - lr * decay * weight",
    }
    source = "def step(weight, average, gradient, lr, mu, decay):\n    old = weight\n"
    source += "".join(f"    {name} = {line}\n" for name, line in lines.items())
    factor = factor or "0.2 * lr * max(weight.shape) ** 0.5"
    names = {"newton_schulz": newton_schulz, "np": np, "math": math}
    exec(f"{source}    return weight - {factor} * update, average", names)
    return names["step"]


def test_the_whole_is_taken_in_another_form():
    assert q5.check(write_muon()).status == "correct"


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        ({"factor": "0.2 * max(weight.shape) ** 0.5"}, "lacks its learning rate"),
        ({"decayed": "weight"}, "does not shrink"),
        ({"decayed": "(1 - decay) * weight"}, "decay lacks lr"),
        ({"decayed": "(1 - 0.2 * lr * max(weight.shape) ** 0.5 * decay) * weight"}, "scaled"),
        ({"factor": "lr * (0.2 * max(weight.shape)) ** 0.5"}, "under the root"),
        ({"factor": "lr * 0.2 * min(weight.shape) ** 0.5"}, "shorter side"),
        ({"factor": "lr * max(1, weight.shape[0] / weight.shape[1]) ** 0.5"}, "`original`"),
        ({"factor": "lr"}, "lacks its scale"),
        ({"average": "(1 - mu) * average + mu * gradient"}, "changed places"),
        ({"average": "gradient + mu * average"}, "is a sum"),
        ({"average": "gradient + mu * average", "direction": "gradient + mu * average"}, "sum"),
        ({"direction": "gradient + mu * average"}, "for a sum"),
        ({"direction": "average"}, "without the look-ahead"),
        ({"average": "average.lerp(gradient, 1 - mu)"}, "method of tensors"),
        ({"direction": "gradient.lerp(average, mu)"}, "method of tensors"),
        ({"direction": "mu * gradient + (1 - mu) * average"}, "reverse"),
        ({"direction": "gradient"}, "bare gradient"),
        ({"update": "newton_schulz(direction.T)"}, "transposing"),
        ({"update": "direction"}, "not orthogonalized"),
        ({"update": "-newton_schulz(direction)"}, "subtracted"),
        ({"average": "mu * average + (1 - mu) * newton_schulz(gradient)"}, "Average first"),
        (
            {
                "average": "mu * average + (1 - mu) * newton_schulz(gradient)",
                "update": "average",
            },
            "Average first",
        ),
        ({"average": "mu * average + (1 - mu) * (gradient + decay * old)"}, "decay belongs"),
        (
            {"average": "mu * average + gradient", "decayed": "weight", "factor": "lr"},
            "is a sum",
        ),
        ({"decayed": "weight", "factor": "lr"}, "does not shrink"),
    ],
    ids=str,
)
def test_a_natural_mistake_is_named_also_beside_another(lines, named):
    assert named in q5.check(write_muon(**lines)).text


def test_an_unknown_mistake_is_shown_by_its_line_and_its_configuration():
    text = q5.check(write_muon(factor="0.3 * lr")).text
    assert "update's length" in text and "4×2, lr=0.1, mu=0.95, decay=0.1" in text


@pytest.mark.parametrize("result", ["weight", "None", "(weight, average, update)"])
def test_anything_but_two_results_is_asked_for_them(result):
    names = {}
    exec(f"def step(weight, average, gradient, lr, mu, decay, update=0): return {result}", names)
    assert "Return two values" in q5.check(names["step"]).text


def test_the_weights_of_a_lerp_are_named_and_not_called_exchanged_arguments():
    reply = e05.q2.check(lambda average, gradient, mu: gradient + (1 - mu) * (average - gradient))
    assert "gives the average 1 - mu" in reply.text


@pytest.mark.parametrize(
    "answer",
    [["filter.weight", "mix.weight"], ("mix.weight", "filter.weight"), RIGHT, [*RIGHT, *RIGHT]],
    ids=str,
)
def test_the_order_and_the_container_do_not_count(answer):
    assert q6.check(answer).status == "correct"


def test_every_wrong_choice_gets_a_sentence_that_is_about_it():
    names = [name for name, _ in Reader().named_parameters()]
    for chosen in (set(c) for n in range(4) for c in itertools.combinations(names, n)):
        reply = q6.check(chosen)
        assert (reply.status == "correct") == (chosen == RIGHT)
        wrong = [sentence for name, sentence in e05.WRONGLY_CHOSEN.items() if name in chosen]
        assert chosen == RIGHT or reply.text in wrong or (not wrong and "missing" in reply.text)


@pytest.mark.parametrize("answer", ["mix.weight", ["mix"], ["mix.weight", None], None, 5], ids=str)
def test_what_is_no_list_of_names_is_asked_for_one(answer):
    reply = q6.check(answer)
    assert reply.status == "not yet"
    assert "a list of names that Reader has" in reply.text


@pytest.mark.parametrize("count", [9.4e6, 9_437_184, "9437184"])
def test_bytes_are_taken_as_precisely_as_they_are_spoken_of(count):
    assert e05.q7.check(count).status == "correct"


@pytest.mark.parametrize(
    ("count", "named"), [(9.4, "megabytes"), (9, "MiB"), (9.4e6 * 8, "in bits"), (9.1e6, "small")]
)
def test_another_unit_is_named(count, named):
    assert named in e05.q7.check(count).text


@pytest.mark.parametrize("question", [e05.q1, e05.q2, e05.q4])
def test_an_unknown_mistake_is_shown_at_small_round_numbers(question):
    reply = question.check(lambda *given: (7.0, 7.0) if question is e05.q1 else 7.0)
    assert "array" not in reply.text and len(str(reply)) < 250
