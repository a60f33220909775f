import numpy as np
import pytest

from muon_lab.training.config import PRESETS, TrainConfig, parse


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("optimizer", ["adamw", "muon", "muonclip"])
def test_every_preset_leaves_nothing_open(preset, optimizer):
    config = TrainConfig(preset=preset, optimizer=optimizer)
    left = {name for name, value in vars(config).items() if value is None}
    assert left == {"kv_heads", "clip_norm", "corpus"}


def test_what_is_given_overrides_the_preset():
    config = TrainConfig(preset="cpu", steps=7, layers=1, lr=0.5, precision="bfloat16")
    assert (config.steps, config.layers, config.lr, config.precision) == (7, 1, 0.5, "bfloat16")
    assert config.width == PRESETS["cpu"]["width"]


@pytest.mark.parametrize(
    ("name", "value", "part"),
    [
        ("lr", "0.1", "a number, for example 0.01; got '0.1'"),
        ("lr", True, "a number"),
        ("lr", [0.1], "a number"),
        ("weight_decay", None, "a number"),
        ("tau", 1j, "a number"),
        ("steps", 2.5, "a whole number, for example 8; got 2.5"),
        ("steps", 2.0, "a whole number"),
        ("steps", "10", "a whole number"),
        ("steps", True, "a whole number"),
        ("seed", None, "a whole number"),
        ("seed", "0", "a whole number"),
        ("watch_logits", "no", "True or False; got 'no'"),
        ("watch_logits", 0, "True or False"),
        ("qk_norm", None, "True or False"),
        ("compile", "false", "True or False"),
        ("corpus", 3, "text"),
        ("device", 0, "text, for example 'cpu'"),
    ],
)
def test_a_value_of_a_wrong_type_is_refused_with_an_example(name, value, part):
    with pytest.raises(TypeError) as raised:
        TrainConfig(**{name: value})
    assert str(raised.value).startswith(f"{name} must be {part}")


@pytest.mark.parametrize(
    ("name", "value", "part"),
    [
        ("preset", "huge", "one of tiny, cpu, cpu-long, gpu, gpu-124m; got 'huge'"),
        ("preset", ["cpu"], "one of tiny"),
        ("optimizer", "sgd", "one of adamw, muon, muonclip"),
        ("optimizer", "mine.py", "one of adamw, muon, muonclip, or your own as FILE.py:NAME"),
        ("attention", "MHA", "one of mha, gqa, mla"),
        ("schedule", "square", "one of linear, cosine, constant, wsd"),
        ("precision", "float16", "one of float32, bfloat16"),
        ("steps", 0, "at least 1; got 0"),
        ("batch", -4, "at least 1"),
        ("sample", 0, "at least 1"),
        ("kv_heads", 0, "at least 1"),
        ("accumulate", 0, "at least 1"),
        ("warm_up", 1.5, "a share of the steps, from 0 to 1; got 1.5"),
        ("warm_up", -0.1, "a share of the steps"),
        ("clip_norm", 0.0, "positive and finite"),
        ("clip_norm", float("nan"), "positive and finite"),
        ("seed", 2**63, "from 0 to 4294967295; got 9223372036854775808"),
        ("seed", -1, "from 0 to"),
        ("lr", -1.0, "positive and finite; got -1.0"),
        ("lr", float("inf"), "positive and finite"),
        ("adamw_lr", float("nan"), "positive and finite"),
        ("weight_decay", -0.1, "at least 0 and finite"),
        ("weight_decay", float("nan"), "at least 0 and finite"),
        ("tau", 0, "positive and finite"),
        ("corpus", "", "a text's name, for example 'book.txt'"),
        ("corpus", "a/book.txt", "a text's name, for example 'book.txt'"),
    ],
)
def test_a_value_that_cannot_work_is_refused_by_name(name, value, part):
    with pytest.raises(ValueError) as raised:
        TrainConfig(**{name: value})
    assert str(raised.value).startswith(f"{name} must be {part}")


@pytest.mark.parametrize(
    ("wrong", "part"),
    [
        ({"accumulate": 3}, r"accumulate must divide batch.*batch=16 one of \[1, 2, 4, 8, 16\]"),
        ({"accumulate": 32}, "accumulate must divide batch"),
        ({"heads": 3}, "heads must divide width"),
        ({"attention": "gqa", "kv_heads": 3}, "kv_heads must divide heads"),
        ({"optimizer": "muonclip", "qk_norm": True}, "MuonClip has nothing to clip with qk_norm"),
    ],
)
def test_values_that_do_not_go_together_are_refused(wrong, part):
    with pytest.raises(ValueError, match=part):
        TrainConfig(**wrong)


def test_numbers_of_numpy_become_pythons_own():
    config = TrainConfig(steps=np.int64(5), lr=np.float32(0.5), weight_decay=0)
    assert (config.steps, config.lr, config.weight_decay) == (5, 0.5, 0)
    assert [type(value) for value in (config.steps, config.lr)] == [int, float]


def test_muonclip_always_watches_the_logits():
    assert TrainConfig(optimizer="muonclip").watch_logits
    assert not TrainConfig(optimizer="muon").watch_logits


@pytest.mark.parametrize(
    "config",
    [
        TrainConfig(),
        TrainConfig(preset="tiny", optimizer="muon", lr=0.1, schedule="constant", seed=4),
        TrainConfig(optimizer="muonclip", attention="gqa", kv_heads=1, tau=30.0, steps=9),
        TrainConfig(preset="cpu-long", schedule="wsd", warm_up=0.1, clip_norm=1.0, compile=True),
        TrainConfig(compile=False, device="cuda", corpus=None),
        TrainConfig(preset="gpu", watch_logits=True, accumulate=4, precision="float32"),
    ],
)
def test_a_run_is_repeated_by_its_own_command(config):
    words = config.command().split()
    assert words[:3] == ["python", "-m", "muon_lab.training"]
    assert parse(words[3:])[0] == [config]


def test_a_commands_corpus_is_the_name_and_a_command_lines_the_path():
    assert TrainConfig(corpus="my book.txt").command().endswith(" --corpus 'my book.txt'")
    (config,), given = parse(["--corpus", "a/book.txt"])
    assert (config.corpus, given.corpus) == (None, "a/book.txt")


def test_several_rates_and_seeds_make_every_pair():
    configs, _ = parse(["--optimizer", "muon", "--lr", "0.01", "0.02", "--seed", "0", "1", "2"])
    pairs = [(config.lr, config.seed) for config in configs]
    assert pairs == [(lr, seed) for lr in (0.01, 0.02) for seed in (0, 1, 2)]


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--steps", "0"], "steps must be at least 1"),
        (
            ["--optimizer", "sgd"],
            "your own as FILE.py:NAME, for example my_optimizer.py:MyMuon; got 'sgd'",
        ),
        (["--seed", "0", "1", "--checkpoint", "c.pt"], "--checkpoint holds one run"),
    ],
)
def test_a_wrong_command_line_ends_with_its_reason(capsys, arguments, part):
    with pytest.raises(SystemExit):
        parse(arguments)
    assert part in capsys.readouterr().err


def test_every_option_is_explained(capsys):
    with pytest.raises(SystemExit):
        parse(["--help"])
    said = capsys.readouterr().out
    for words in ("decoupled decay", "sequences per step", "cuda if available", "--checkpoint"):
        assert words in said
