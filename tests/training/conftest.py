"""A small text, small configurations, and runs of them, which most tests here begin with."""

import pytest

from muon_lab.training import TrainConfig, new_training, train
from muon_lab.training import loop as loop_module
from muon_lab.training.loop import training_steps

SMALL = {"preset": "tiny", "layers": 1, "width": 16, "context": 16}


@pytest.fixture(scope="session")
def book(tmp_path_factory):
    """A text whose every second byte is certain, so that something is learned at once."""
    path = tmp_path_factory.mktemp("book") / "book.txt"
    path.write_text("abacadae" * 500)
    return path


@pytest.fixture
def words(book):
    """The command line of a small run of ten steps."""
    sizes = "--preset tiny --layers 1 --width 16 --context 16 --steps 10"
    return [*sizes.split(), "--corpus", str(book)]


@pytest.fixture(scope="session")
def config():
    return lambda **options: TrainConfig(**SMALL | options)


@pytest.fixture(scope="session")
def new(book, config):
    """Make a training and take some of its steps."""

    def make(taken=0, /, **options):
        training = new_training(config(**options), book)
        loop = training_steps(training)
        for _ in range(taken):
            next(loop)
        return training

    return make


@pytest.fixture(scope="session")
def quietly(book, config):
    """Train to the end, with options of `train` by name and all others for the configuration."""

    def run(checkpoint=None, checkpoint_every=None, resume=False, corpus=book, **options):
        files = {"checkpoint": checkpoint, "checkpoint_every": checkpoint_every, "resume": resume}
        return train(config(**options), progress=False, corpus=corpus, **files)

    return run


@pytest.fixture
def at_step(monkeypatch):
    """Let something happen once, when a run has taken the step of this number, before it saves."""
    after_step = loop_module.record_logits

    def arrange(step, act):
        waiting = [act]

        def hooked(training):
            after_step(training)
            if training.step == step and waiting:
                waiting.pop()()

        monkeypatch.setattr(loop_module, "record_logits", hooked)

    return arrange
