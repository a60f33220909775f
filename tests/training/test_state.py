import itertools

import pytest
import torch

from muon_lab.training.data import batches
from muon_lab.training.state import new_training, remaining_batches
from tests.assertions import assert_unchanged


@pytest.mark.parametrize("step", [0, 7])
def test_a_training_reads_the_batches_of_its_seed_from_its_step_on(new, step):
    training = new(seed=3)
    training.step = step
    found = list(remaining_batches(training))
    assert len(found) == 12 - step
    stream = batches(training.corpus.train, batch=4, context=16, seed=3)
    for got, wanted in zip(found, itertools.islice(stream, step, 12), strict=True):
        assert_unchanged(wanted[0], got[0])
        assert_unchanged(wanted[1], got[1])


def test_a_training_past_its_last_step_has_no_batches(new):
    training = new()
    training.step = 13
    assert list(remaining_batches(training)) == []


def test_the_corpus_gives_the_configuration_its_name(config, book):
    assert new_training(config(), book).config.corpus == "book.txt"
    assert new_training(config(corpus="book.txt"), book).config.corpus == "book.txt"


def test_a_configuration_of_a_different_text_asks_for_its_path(config, book, monkeypatch):
    monkeypatch.setattr("sysconfig.get_path", lambda _: __file__.removesuffix("test_state.py"))
    for path in (book, None):
        with pytest.raises(ValueError, match=r"names the corpus 'novel.txt'.*corpus=PATH"):
            new_training(config(corpus="novel.txt"), path)


def test_a_seed_makes_the_model(new):
    first, again, other = (new(seed=seed).model.state_dict() for seed in (0, 0, 1))
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert not torch.equal(first["head.weight"], other["head.weight"])


def test_bfloat16_keeps_float32_weights_and_gradients(new):
    training = new(1, precision="bfloat16")
    for p in training.model.parameters():
        assert p.dtype == p.grad.dtype == torch.float32
