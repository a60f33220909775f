"""Who gets Muon, exercise 6 of notebook 05: any way to say it is taken, and none is given away."""

import itertools

import pytest

from muon_lab.exercises.e05 import Reader, q6

RIGHT = {"filter.weight", "mix.weight"}


@pytest.mark.parametrize(
    "answer",
    [["filter.weight", "mix.weight"], ("mix.weight", "filter.weight"), RIGHT, [*RIGHT, *RIGHT]],
    ids=str,
)
def test_the_order_and_the_container_do_not_count(answer):
    assert q6.check(answer).status == "correct"


def test_no_wrong_choice_is_told_a_name_that_it_did_not_give_unless_in_a_sentence_of_its_own():
    sentences = {mistake[-1] for mistake in q6.mistakes}
    names = [name for name, _ in Reader().named_parameters()]
    choices = [set(c) for n in range(4) for c in itertools.combinations(names, n)]
    for chosen in choices:
        reply = q6.check(chosen)
        assert (reply.status == "correct") == (chosen == RIGHT)
        told = {name for name in names if name in reply.text}
        assert told <= chosen or reply.text in sentences or reply.status == "correct"


@pytest.mark.parametrize("answer", ["mix.weight", ["mix"], ["mix.weight", None]])
def test_what_is_no_list_of_names_is_told_what_would_be(answer):
    reply = q6.check(answer)
    assert reply.status == "not yet"
    assert "a list of names that Reader has" in reply.text
