import pytest

from muon_lab.training.config import PRESETS, TrainConfig, parse


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("optimizer", ["adamw", "muon", "muonclip"])
def test_every_preset_leaves_nothing_open(preset, optimizer):
    config = TrainConfig(preset=preset, optimizer=optimizer)
    left = {name for name, value in vars(config).items() if value is None}
    assert left == {"kv_heads", "clip_norm", "corpus"}


def test_what_is_given_stands_over_the_preset():
    config = TrainConfig(preset="cpu", steps=7, layers=1, lr=0.5, precision="bfloat16")
    assert (config.steps, config.layers, config.lr, config.precision) == (7, 1, 0.5, "bfloat16")
    assert config.width == PRESETS["cpu"]["width"]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (
            {"preset": "huge"},
            "preset must be one of tiny, cpu, cpu-long, gpu, gpu-124m; got 'huge'",
        ),
        ({"optimizer": "sgd"}, "optimizer must be one of adamw, muon, muonclip"),
        ({"schedule": "square"}, "schedule must be one of linear, cosine, constant, wsd"),
        ({"precision": "float16"}, "precision must be one of float32, bfloat16"),
        ({"steps": 0}, "steps must be 1 or more; got 0"),
        ({"accumulate": 0}, "accumulate must be 1 or more"),
        ({"accumulate": 3}, r"accumulate must divide batch.*batch=16 one of \[1, 2, 4, 8, 16\]"),
        ({"accumulate": 32}, "accumulate must divide batch"),
        ({"warm_up": 1.5}, "warm_up is a share of the steps, 0 to 1; got 1.5"),
        ({"warm_up": -0.1}, "warm_up is a share"),
        ({"clip_norm": 0.0}, "clip_norm must be positive and finite, or None for no clipping"),
        ({"clip_norm": float("nan")}, "clip_norm must be positive and finite"),
        ({"seed": 2**63}, "seed must be from 0 to 4294967295; got 9223372036854775808"),
        ({"seed": -1}, "seed must be from 0"),
        ({"lr": -1.0}, "lr must be positive and finite; got -1.0"),
        ({"lr": float("nan")}, "lr must be positive and finite"),
        ({"tau": 0.0}, "tau must be positive"),
        ({"heads": 3}, "heads must divide width"),
        ({"attention": "gqa", "kv_heads": 3}, "kv_heads must divide heads"),
        ({"optimizer": "muonclip", "qk_norm": True}, "MuonClip has nothing to clip under qk_norm"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_it_starts(wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        TrainConfig(**wrong)


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


def test_several_rates_and_seeds_make_every_pair():
    configs, _ = parse(["--optimizer", "muon", "--lr", "0.01", "0.02", "--seed", "0", "1", "2"])
    pairs = [(config.lr, config.seed) for config in configs]
    assert pairs == [(lr, seed) for lr in (0.01, 0.02) for seed in (0, 1, 2)]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--steps", "0"], "steps must be 1 or more"),
        (["--resume"], "--resume needs --checkpoint"),
        (["--seed", "0", "1", "--checkpoint", "c.pt"], "--checkpoint holds one run"),
    ],
)
def test_a_wrong_command_line_ends_with_its_reason(capsys, arguments, sentence):
    with pytest.raises(SystemExit):
        parse(arguments)
    assert sentence in capsys.readouterr().err
