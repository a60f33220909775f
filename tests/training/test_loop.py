import math

import numpy as np
import pytest
import torch

from muon_lab.runs import load
from muon_lab.training import loop as training
from muon_lab.training.config import TrainConfig
from muon_lab.training.data import load_corpus, windows
from muon_lab.training.loop import begin, lr_factor, main, make_optimizer, train, validate_

SMALL = {"preset": "tiny", "layers": 1, "width": 16, "context": 16}
SIZES = ["--preset", "tiny", "--layers", "1", "--width", "16", "--context", "16"]


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    """A text of which every second byte is sure, so that something is learnt at once."""
    path = tmp_path_factory.mktemp("book") / "book.txt"
    path.write_text("abacadae" * 500)
    return str(path)


@pytest.fixture
def config(book):
    return lambda **options: TrainConfig(**SMALL | {"corpus": book} | options)


def quietly(config, **options):
    return train(config, progress=False, **options)


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "muonclip"])
def test_every_optimizer_learns(config, optimizer):
    run = quietly(config(optimizer=optimizer, steps=40, valid_every=20, lr=0.03, adamw_lr=0.03))
    assert run.curves["valid_loss"][0] == pytest.approx(math.log(256), abs=0.1)
    assert run.final_loss < 2.0
    assert run.curves["valid_step"].tolist() == [0, 20, 40]
    assert run.curves["valid_bytes"].tolist() == [0, 20 * 4 * 16, 40 * 4 * 16]
    assert np.diff(run.curves["valid_seconds"]).min() > 0


def test_a_run_repeats_itself_exactly(config):
    first, second = (quietly(config(optimizer="muon")) for _ in range(2))
    np.testing.assert_array_equal(first.curves["loss"], second.curves["loss"])
    assert first.samples == second.samples


@pytest.mark.parametrize(
    ("optimizer", "losses"),
    [
        ("adamw", [5.54855, 4.86553, 4.5028, 4.35824]),
        ("muon", [5.54855, 4.94341, 4.54865, 4.39318]),
        ("muonclip", [5.54855, 4.94341, 4.5487, 4.39332]),
    ],
)
def test_a_seed_gives_what_it_gave_when_runs_were_recorded(book, optimizer, losses):
    """Batches, model and schedule of a seed must stay: recorded runs are compared with new ones."""
    run = quietly(TrainConfig(preset="tiny", optimizer=optimizer, corpus=book))
    np.testing.assert_allclose(run.curves["valid_loss"], losses, rtol=1e-3)


def test_optimizers_start_from_the_same_model_and_the_same_batch(config):
    runs = [quietly(config(optimizer=name, steps=2)) for name in ("adamw", "muon")]
    assert runs[0].curves["loss"][0] == runs[1].curves["loss"][0]
    assert runs[0].samples["before"] == runs[1].samples["before"]


def test_another_seed_is_another_run(config):
    first, second = (quietly(config(seed=seed, steps=2)) for seed in (0, 1))
    assert first.curves["loss"][0] != second.curves["loss"][0]


@pytest.mark.parametrize("optimizer", ["adamw", "muonclip"])
def test_a_batch_in_parts_has_the_loss_gradient_and_maxima_of_the_whole(config, optimizer):
    """In float64, where rounding hides nothing."""

    def seen(parts):
        state = begin(config(optimizer=optimizer, batch=8, accumulate=parts))
        state.model.double()
        loss = training.backward_(state, next(training.drawn_from(state)))
        return loss, state.model.max_logits(), [p.grad for p in state.model.parameters()]

    whole = seen(1)
    for parts in (2, 4, 8):
        torch.testing.assert_close(seen(parts), whole, rtol=1e-10, atol=1e-12)


def test_runs_read_the_same_bytes_in_however_many_parts(config):
    whole, parts = (quietly(config(accumulate=n, steps=6)).curves for n in (1, 4))
    np.testing.assert_allclose(parts["loss"], whole["loss"], rtol=1e-4)
    np.testing.assert_array_equal(parts["valid_bytes"], whole["valid_bytes"])
    assert whole["valid_bytes"][-1] == 6 * 4 * 16


@pytest.mark.parametrize("parts", [1, 2])
def test_gradients_are_clipped_to_the_norm_and_recorded_before(config, parts):
    plain, clipped = (
        begin(config(clip_norm=norm, accumulate=parts, steps=4)) for norm in (None, 0.01)
    )
    for state in (plain, clipped):
        training.train_step_(state, training.drawn_from(state))
    assert plain.curves["grad_norm"] == clipped.curves["grad_norm"]
    before, after = (training.gradient_norm(state.model).item() for state in (plain, clipped))
    assert plain.curves["grad_norm"] == [before]
    assert before > 0.01 and after == pytest.approx(0.01, rel=1e-3)
    for p, q in zip(plain.model.parameters(), clipped.model.parameters(), strict=True):
        torch.testing.assert_close(p.grad * after / before, q.grad, rtol=1e-4, atol=0)


def test_a_norm_that_is_never_reached_clips_nothing(config):
    plain, clipped = (quietly(config(clip_norm=norm)) for norm in (None, 1e6))
    np.testing.assert_array_equal(plain.curves["loss"], clipped.curves["loss"])
    assert plain.curves["grad_norm"].shape == (12,)


def test_muon_gets_the_hidden_matrices_and_adamw_the_rest(config):
    asked = config(optimizer="muon", lr=0.5, adamw_lr=0.25)
    model = begin(asked).model
    matrices, rest = make_optimizer(model, asked).param_groups
    assert (matrices["lr"], rest["lr"]) == (0.5, 0.25)
    assert any(p is model.head.weight for p in rest["params"])
    assert any(p is model.blocks[0].mlp.up.weight for p in matrices["params"])
    assert len(matrices["params"]) + len(rest["params"]) == len(list(model.parameters()))


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_every_group_follows_the_schedule(config, monkeypatch, optimizer):
    asked = config(optimizer=optimizer, steps=20)
    state = begin(asked)
    stream = training.batches(state.corpus.train, batch=4, context=16, seed=0)
    for step in range(20):
        training.train_step_(state, stream)
        for group in state.optimizer.param_groups:
            assert group["lr"] == pytest.approx(lr_factor(step, 20, "linear") * group["peak_lr"])


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant", "wsd"])
def test_the_learning_rate_warms_up_and_stays_within_its_peak(schedule):
    factors = [lr_factor(step, 100, schedule) for step in range(100)]
    assert factors[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert all(0 < factor <= 1 for factor in factors)
    last = {"linear": 1 / 95, "cosine": (math.pi / 95 / 2) ** 2, "constant": 1.0, "wsd": 1 / 20}[
        schedule
    ]
    assert factors[-1] == pytest.approx(last, rel=1e-3)


def test_warm_up_then_stable_then_decay_over_the_last_fifth():
    factors = [lr_factor(step, 100, "wsd", warm_up=0.1) for step in range(100)]
    assert factors[:10] == pytest.approx([step / 10 for step in range(1, 11)])
    assert set(factors[9:81]) == {1.0}
    assert factors[80:] == pytest.approx([left / 20 for left in range(20, 0, -1)])


@pytest.mark.parametrize("warm_up", [0.0, 0.05, 0.9, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 19])
@pytest.mark.parametrize("schedule", ["linear", "wsd"])
def test_the_shortest_runs_have_a_schedule_too(schedule, steps, warm_up):
    assert all(0 < lr_factor(step, steps, schedule, warm_up) <= 1 for step in range(steps))


def test_without_a_warm_up_the_first_step_is_a_whole_one():
    assert lr_factor(0, 100, "cosine", warm_up=0.0) == 1.0


def test_the_configured_schedule_is_the_one_that_runs(config):
    state = begin(config(schedule="wsd", warm_up=0.5, steps=4))
    stream, rates = training.drawn_from(state), []
    for _ in range(4):
        training.train_step_(state, stream)
        rates.append(state.optimizer.param_groups[0]["lr"] / state.config.lr)
    assert rates == pytest.approx([0.5, 1.0, 1.0, 1.0])


def test_the_validation_loss_is_the_mean_over_all_windows(config):
    asked = config(valid_windows=7, batch=3)  # 3 + 3 + 1: the last part counts for less
    state = begin(asked)
    validate_(state)
    inputs, targets = windows(load_corpus(asked.corpus).valid, number=7, context=16)
    with torch.no_grad():
        expected = state.model(inputs, targets)[1].item()
    assert state.curves["valid_loss"] == [pytest.approx(expected, rel=1e-5)]


def test_validation_counts_in_no_maximum(config):
    state = begin(config(watch_logits=True))
    validate_(state)
    assert state.model.max_logits() is None


@pytest.mark.parametrize("attention", ["mha", "gqa", "mla"])
def test_muonclip_records_each_heads_maximum_and_gamma(config, attention):
    asked = config(optimizer="muonclip", attention=attention, layers=2, tau=0.05, lr=0.1, steps=8)
    curves = quietly(asked).curves
    assert curves["max_logit"].shape == curves["gamma"].shape == (8, 2, 2)
    expected = np.minimum(1, 0.05 / np.maximum(curves["max_logit"], 1e-9))
    np.testing.assert_allclose(curves["gamma"], expected, rtol=1e-4)
    assert curves["gamma"].min() < 1


def test_muon_records_maxima_when_asked_and_each_steps_own(config):
    asked = config(optimizer="muon", watch_logits=True, steps=3)
    curves = quietly(asked).curves
    assert curves["max_logit"].shape == (3, 1, 2) and "gamma" not in curves
    assert np.unique(curves["max_logit"][:, 0, 0]).size == 3


def test_watching_the_logits_changes_nothing_else(config):
    watched, plain = (quietly(config(watch_logits=on)) for on in (True, False))
    np.testing.assert_allclose(watched.curves["loss"], plain.curves["loss"], rtol=1e-4)


def test_bfloat16_trains_with_float32_weights(config):
    asked = config(precision="bfloat16", optimizer="muon")
    state = begin(asked)
    assert {p.dtype for p in state.model.parameters()} == {torch.float32}
    half, full = quietly(asked), quietly(config(optimizer="muon"))
    np.testing.assert_allclose(half.curves["loss"], full.curves["loss"], rtol=0.02)
    assert not np.array_equal(half.curves["loss"], full.curves["loss"])


def test_the_record_says_where_it_was_made(config):
    run = quietly(config(optimizer="muon", lr=0.02))
    about = run.provenance
    where = {"date", "python", "commit", "torch", "device", "command", "corpus", "spectra"}
    assert set(about) == where
    assert "--optimizer muon" in about["command"] and "--lr 0.02" in about["command"]
    assert set(run.samples) == {"before", "after"}
    assert run.samples["after"].startswith("def ")


def test_no_path_of_this_machine_enters_the_record(config, book, tmp_path):
    text = quietly(config()).save(tmp_path / "run.json").read_text()
    assert "book.txt" in text
    assert str(tmp_path.parent) not in text and book not in text


def test_the_command_line_prints_the_result_and_saves_each_run(book, tmp_path, capsys):
    options = [
        *SIZES,
        "--steps",
        "4",
        "--corpus",
        book,
        "--save",
        str(tmp_path),
        "--optimizer",
        "muon",
    ]
    assert main([*options, "--lr", "0.01", "0.02"]) == 0
    printed = capsys.readouterr().out
    for part in (
        "validation loss",
        "bits a byte; xz -9 takes",
        "4 steps, 256 bytes read",
        " s on ",
    ):
        assert part in printed
    assert "| def " in printed
    names = [f"muon-mha-lr{lr}-decay0.1-seed0.json" for lr in (0.01, 0.02)]
    assert [load(tmp_path / name).config["lr"] for name in names] == [0.01, 0.02]


def test_a_run_that_stops_is_said_and_the_next_one_still_runs(book, tmp_path, capsys):
    options = [
        *SIZES,
        "--steps",
        "6",
        "--corpus",
        book,
        "--save",
        str(tmp_path),
        "--schedule",
        "constant",
    ]
    assert main([*options, "--lr", "1e30", "0.01"]) == 1
    assert "was not taken" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["adamw-mha-lr0.01-decay0.1-seed0.json"]


def test_a_single_run_is_saved_under_the_name_given(book, tmp_path):
    assert (
        main([*SIZES, "--steps", "2", "--corpus", book, "--save", str(tmp_path / "mine.json")]) == 0
    )
    assert load(tmp_path / "mine.json").config["steps"] == 2


def test_a_corpus_that_is_not_there_ends_with_one_sentence(tmp_path, capsys):
    assert main(["--preset", "tiny", "--corpus", str(tmp_path / "nowhere")]) == 1
    said = capsys.readouterr().err
    assert "there is no such file or folder" in said and "Traceback" not in said


def test_a_run_file_that_is_there_is_not_written_over_by_another_run(book, tmp_path, capsys):
    options = [*SIZES, "--steps", "2", "--corpus", book, "--optimizer", "muonclip"]
    options += ["--save", str(tmp_path)]
    assert main([*options, "--tau", "30"]) == 0
    assert main([*options, "--tau", "100"]) == 1  # the same name
    (path,) = tmp_path.iterdir()
    assert load(path).config["tau"] == 30
    assert f"run file {path.name} is there already: name another" in capsys.readouterr().err


def test_a_run_killed_while_it_ended_ends_again(book, tmp_path):
    files = ["--checkpoint", str(tmp_path / "state.pt"), "--save", str(tmp_path / "run.json")]
    options = [*SIZES, "--steps", "2", "--corpus", book, *files]
    assert main(options) == 0
    assert main([*options, "--resume"]) == 0
