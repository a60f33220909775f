import math
from pathlib import Path

import pytest
import torch

from muon_lab import after_muon
from muon_lab.muon import Muon
from muon_lab.training.checkpoint import load_checkpoint_, save_checkpoint
from muon_lab.training.loop import training_steps
from muon_lab.training.optimizers import lr_factor, own_optimizer, source_sha256

MINE = """
import torch
from muon_lab.after_muon import Whitening
from muon_lab.muon import Muon

class MyMuon(Muon):
    pass

class Whitens(Whitening):
    pass

def plain(groups, lr, weight_decay):
    return torch.optim.SGD(groups, lr=lr, weight_decay=weight_decay)

class NoDecay(torch.optim.Optimizer):
    def __init__(self, groups, lr):
        super().__init__(groups, {"lr": lr})

class Half(torch.optim.SGD):
    def __init__(self, groups, **options):
        super().__init__(groups[:1], **options)

class NoRate(torch.optim.Optimizer):
    def __init__(self, groups, **options):
        groups = [{"params": group["params"]} for group in groups]
        super().__init__(groups, {"size": options["lr"]})

class Spoils(torch.optim.SGD):
    @torch.no_grad()
    def step(self):
        self.param_groups[0]["params"][0].fill_(float("nan"))

def nothing(groups, **options):
    return "an optimizer"

number = 3
"""


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "my_optimizer.py"
    path.write_text(MINE)
    return lambda name: f"{path}:{name}"


def test_muon_gets_the_hidden_matrices_and_adamw_all_others(new):
    training = new(optimizer="muon", lr=0.5, adamw_lr=0.25)
    model = training.model
    groups = training.optimizer.param_groups
    matrices, others = ([g for g in groups if g["use_muon"] is on] for on in (True, False))
    assert {g["lr"] for g in matrices} == {0.5} and {g["lr"] for g in others} == {0.25}
    assert any(p is model.head.weight for g in others for p in g["params"])
    assert any(p is model.blocks[0].mlp.up.weight for g in matrices for p in g["params"])
    assert sum(len(g["params"]) for g in groups) == len(list(model.parameters()))


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant", "wsd"])
def test_the_learning_rate_warms_up_and_stays_within_its_peak(schedule):
    factors = [lr_factor(step, 100, schedule) for step in range(100)]
    assert factors[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert all(0 < factor <= 1 for factor in factors)
    last = {"linear": 1 / 95, "cosine": (math.pi / 95 / 2) ** 2, "constant": 1.0, "wsd": 1 / 20}
    assert factors[-1] == pytest.approx(last[schedule], rel=1e-3)


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


def test_your_own_muon_trains_as_muon_does(quietly, mine):
    runs = [quietly(optimizer=name, lr=0.02) for name in ("muon", mine("MyMuon"))]
    assert runs[0].curves["valid_loss"].tolist() == runs[1].curves["valid_loss"].tolist()
    assert runs[1].optimizer == "my_optimizer.py:MyMuon"
    assert "momentum_spectrum" not in runs[1].curves
    assert runs[1].provenance["optimizer_sha256"] == source_sha256(mine("MyMuon"))


def test_a_function_may_make_your_own_and_gets_lr_and_decay(new, mine):
    optimizer = new(3, optimizer=mine("plain"), lr=0.5, weight_decay=0.25, adamw_lr=0.1).optimizer
    assert isinstance(optimizer, torch.optim.SGD)
    matrices, others = optimizer.param_groups
    assert (matrices["peak_lr"], others["peak_lr"]) == (0.5, 0.1)
    assert matrices["weight_decay"] == others["weight_decay"] == 0.25


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("NoDecay", r"NoDecay\(groups, lr=..., weight_decay=...\) raised TypeError.*by name"),
        ("Half", r"leaves embedding.weight.* untrained: pass all groups on"),
        ("NoRate", r'put "lr" into the defaults'),
        ("nothing", r"expected a torch.optim.Optimizer; got str"),
        ("number", r"no such class or function; in the file are: MyMuon, Whitens, plain"),
        ("Missing", r"no such class or function"),
    ],
)
def test_what_cannot_be_built_says_why(new, mine, name, said):
    with pytest.raises(ValueError, match=said):
        new(optimizer=mine(name))


def test_a_step_to_nan_names_your_optimizer_and_the_weights(new, mine):
    with pytest.raises(FloatingPointError, match=r"step 1 of .*:Spoils left NaN or Inf in .*query"):
        new(2, optimizer=mine("Spoils"))


@pytest.mark.parametrize(
    ("text", "said"), [(None, "there is no file"), ("1 / 0", "the file raised ZeroDivisionError")]
)
def test_a_file_that_cannot_be_run_says_why(tmp_path, text, said):
    path = tmp_path / "broken.py"
    if text:
        path.write_text(text)
    with pytest.raises(ValueError, match=said):
        own_optimizer(f"{path}:Mine", [])


def test_the_family_is_named_like_your_own_and_known_by_the_commit(new):
    name = f"{Path(after_muon.__file__)}:NorMuon"
    optimizer = new(2, optimizer=name).optimizer
    assert isinstance(optimizer, Muon) and type(optimizer).__name__ == "NorMuon"
    assert source_sha256(name) is None
    assert {g["adjust_lr_fn"] for g in optimizer.param_groups if g["use_muon"]} == {
        "match_rms_adamw"
    }


@pytest.mark.parametrize("attention", ["mha", "gqa", "mla"])
def test_per_head_splits_what_stacks_heads_and_nothing_else(new, attention):
    training = new(1, optimizer="muon", attention=attention, per_head=True)
    heads = {g["heads"] for g in training.optimizer.param_groups if g["use_muon"]}
    assert heads == ({None, 2, 1} if attention == "gqa" else {None, 2})
    assert sum(len(g["params"]) for g in training.optimizer.param_groups) == len(
        list(training.model.parameters())
    )


def test_per_head_without_orthogonalization_is_refused(config):
    with pytest.raises(ValueError, match="per_head is about orthogonalization"):
        config(optimizer="adamw", per_head=True)


@pytest.mark.parametrize("name", ["plain", "Whitens"])
def test_your_own_continues_from_a_checkpoint_bit_for_bit(tmp_path, new, mine, name):
    path = tmp_path / "run.pt"
    first, second = (new(taken, optimizer=mine(name)) for taken in (4, 0))
    save_checkpoint(first, path)
    load_checkpoint_(second, path)
    assert list(training_steps(first)) == list(training_steps(second))
