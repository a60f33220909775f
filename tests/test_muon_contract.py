"""What any torch optimizer must do, Muon does: torch's own inputs for its Muon, and the rest."""

import copy
import inspect
import io
import pickle
import re
import sys
import types
import unittest
import warnings

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn import Parameter

from muon_lab.muon import Muon, split_parameters
from muon_lab.options import OPTIONS
from muon_lab.polynomials import SCHEDULES
from tests.assertions import assert_close


def torchs_contract():
    """Import torch's inputs for optimizer tests; only their runner needs the package they want."""
    stub = types.SimpleNamespace(TestCase=unittest.TestCase, assert_expected_inline=None)
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if "expecttest" not in sys.modules:
            patch.setitem(sys.modules, "expecttest", stub)
        return pytest.importorskip("torch.testing._internal.common_optimizers", exc_type=Exception)


CONTRACT = torchs_contract()
INFO = next(info for info in CONTRACT.optim_db if info.optim_cls is torch.optim.Muon)
INPUTS = pytest.mark.parametrize(
    "options", [case.kwargs for case in INFO.optim_inputs_func(device="cpu")], ids=str
)


def model_and_loss(seed=0):
    """Return a small model and a function that makes its loss, seeded."""
    torch.manual_seed(seed)
    model = torch.nn.Sequential(
        torch.nn.Embedding(6, 8), torch.nn.Linear(8, 8), torch.nn.Tanh(), torch.nn.Linear(8, 6)
    )
    tokens = torch.arange(6)
    return model, lambda: torch.nn.functional.cross_entropy(model(tokens), tokens.roll(1))


def train(optimizer, loss, steps):
    """Take steps; return the losses."""
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        value = loss()
        value.backward()
        optimizer.step()
        losses.append(value.item())
    return losses


def test_arguments_and_defaults_are_torchs():
    ours = inspect.signature(Muon).parameters
    for name, theirs in inspect.signature(torch.optim.Muon).parameters.items():
        assert ours[name].kind == theirs.kind
        if name != "ns_steps":  # None, which is 5 for torch's single triple
            assert ours[name].default == theirs.default
    assert Muon([Parameter(torch.ones(2, 2))]).param_groups[0]["ns_steps"] == 5
    assert list(ours)[: len(inspect.signature(torch.optim.Muon).parameters)] == list(
        inspect.signature(torch.optim.Muon).parameters
    )


@INPUTS
@pytest.mark.parametrize("scheduler", [None, *INFO.scheduler_inputs[0]])
@pytest.mark.parametrize("contiguous", [True, False])
def test_it_goes_in_the_right_direction(options, scheduler, contiguous):
    weight, bias = (
        Parameter(torch.randn((10, 5, 2))[..., 0] if not contiguous else torch.randn(10, 5)),
        Parameter(torch.randn(10, 1)),
    )
    inputs = torch.randn(5)
    optimizer = Muon([weight, bias], **options)
    schedule = scheduler(optimizer) if scheduler else None
    asks_loss = isinstance(schedule, torch.optim.lr_scheduler.ReduceLROnPlateau)

    def closure():
        optimizer.zero_grad()
        loss = (weight.mv(inputs) + bias[:, 0]).pow(2).sum()
        loss.backward()
        return loss

    first = closure().item()
    for _ in range(20):
        loss = optimizer.step(closure)
        if schedule:
            schedule.step(*([loss.detach()] if asks_loss else []))
    assert closure().item() < first


@pytest.mark.parametrize(
    "case",
    [c for c in INFO.optim_error_inputs_func(device="cpu", dtype=torch.float32)
     # Ours takes stacks, and refuses complex parameters when it is made.
     if not c.optimizer_error_input.desc.endswith(("2D parameters", "complex parameters"))],
    ids=lambda case: case.optimizer_error_input.desc,
)  # fmt: skip
def test_it_refuses_what_torchs_refuses(case):
    given = case.optimizer_error_input
    params = [Parameter(torch.randn(1, 1))] if given.params is None else given.params
    at_step = case.error_on == CONTRACT.OptimizerErrorEnum.STEP_ERROR
    if issubclass(case.error_type, Warning):
        with pytest.warns(case.error_type, match=case.error_regex):
            Muon(params, **given.kwargs)
        return
    optimizer = Muon(params, **given.kwargs) if at_step else None
    ours = [name for name in given.kwargs if name in OPTIONS]  # told in our words, by name
    with pytest.raises(case.error_type, match=ours[0] if ours else case.error_regex):
        optimizer.step() if at_step else Muon(params, **given.kwargs)


def test_a_schedule_with_its_name_and_source_is_saved_and_loaded():
    model, loss = model_and_loss()
    optimizer = Muon([model[1].weight], ns_coefficients=SCHEDULES["polar_express"])
    train(optimizer, loss, 1)
    buffer = io.BytesIO()
    torch.save(optimizer.state_dict(), buffer)
    buffer.seek(0)
    saved = torch.load(buffer, weights_only=True)
    assert saved["param_groups"][0]["ns_coefficients"] == SCHEDULES["polar_express"]


@INPUTS
def test_a_saved_state_goes_on_where_it_stopped(options):
    model, loss = model_and_loss()
    optimizer = Muon(split_parameters(model), **options)
    train(optimizer, loss, 3)
    twin, twin_loss = model_and_loss(seed=1)
    twin.load_state_dict(model.state_dict())
    second = Muon(split_parameters(twin), lr=9.0)
    buffer = io.BytesIO()
    torch.save(optimizer.state_dict(), buffer)
    buffer.seek(0)
    second.load_state_dict(torch.load(buffer, weights_only=True))
    assert train(optimizer, loss, 4) == train(second, twin_loss, 4)


def test_a_state_of_torchs_muon_is_taken_over():
    model, loss = model_and_loss()
    theirs = torch.optim.Muon([model[1].weight], lr=0.03, momentum=0.8)
    train(theirs, loss, 3)
    ours = Muon([model[1].weight])
    ours.load_state_dict(theirs.state_dict())
    group, state = ours.param_groups[0], ours.state[model[1].weight]
    assert (group["lr"], group["momentum"], group["use_muon"]) == (0.03, 0.8, True)
    assert torch.equal(state["momentum_buffer"], theirs.state[model[1].weight]["momentum_buffer"])
    assert len(train(ours, loss, 2)) == 2


def test_a_state_of_torchs_leaves_a_group_what_only_ours_has():
    weight, bias = Parameter(torch.randn(12, 4)), Parameter(torch.randn(12))
    weight.grad, bias.grad = torch.randn(12, 4), torch.randn(12)
    for make, group in (
        (torch.optim.Muon, {"params": [weight], "heads": 3, "kernels": False}),
        (torch.optim.AdamW, {"params": [bias], "use_muon": False}),
    ):
        theirs = make(group["params"], lr=0.5)
        theirs.step()
        ours = Muon([group])
        ours.load_state_dict(theirs.state_dict())
        assert ours.param_groups[0].items() >= (group | {"lr": 0.5}).items()
        ours.step()


def test_torchs_muon_takes_over_ours():
    model, loss = model_and_loss()
    weight = model[1].weight
    ours, theirs = Muon([weight], lr=0.03), torch.optim.Muon([weight])
    train(ours, loss, 3)
    theirs.load_state_dict(ours.state_dict())
    assert theirs.param_groups[0]["lr"] == 0.03
    buffers = [optimizer.state[weight]["momentum_buffer"] for optimizer in (ours, theirs)]
    assert torch.equal(*buffers)
    assert len(train(theirs, loss, 2)) == 2


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
def test_copies_are_whole_and_apart(copier):
    model, loss = model_and_loss()
    optimizer = Muon(split_parameters(model), ns_coefficients="you")
    train(optimizer, loss, 2)
    twin = copier(optimizer)
    assert twin.param_groups[0]["names"] == optimizer.param_groups[0]["names"]
    p, q = optimizer.param_groups[0]["params"][0], twin.param_groups[0]["params"][0]
    before = q.detach().clone()
    assert torch.equal(p, q)
    train(optimizer, loss, 1)
    assert torch.equal(q, before)
    assert not torch.equal(p, q)
    q.grad = torch.ones_like(q)
    twin.step()
    assert not torch.equal(q, before)


def test_a_closure_is_run_with_gradients_and_its_loss_returned():
    p = Parameter(torch.eye(3))
    optimizer = Muon([p], lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = (p * 2).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 6.0
    assert optimizer.step() is None


def test_a_tensor_learning_rate_is_the_same_as_a_number():
    models = [model_and_loss() for _ in range(2)]
    rates = (0.03125, torch.tensor(0.03125))
    losses = [
        train(Muon(split_parameters(model), lr=lr), loss, 5)
        for (model, loss), lr in zip(models, rates, strict=True)
    ]
    assert losses[0] == losses[1]


def test_one_scheduler_drives_the_whole_model():
    model, loss = model_and_loss()
    muon, adamw = split_parameters(model)
    optimizer = Muon([muon, adamw | {"lr": 3e-3}], lr=0.02)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.5, total_iters=4)
    for _ in range(4):
        train(optimizer, loss, 1)
        scheduler.step()
    rates = [group["lr"] for group in optimizer.param_groups]
    assert rates == pytest.approx([0.01, 1.5e-3], rel=1e-12)


@pytest.mark.parametrize("scheduler", [
    lambda optimizer: torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=9),
    lambda optimizer: torch.optim.lr_scheduler.CyclicLR(optimizer, base_lr=0.01, max_lr=0.1),
], ids=["OneCycleLR", "CyclicLR"])  # fmt: skip
def test_schedulers_that_move_the_momentum_move_it_as_torchs(scheduler):
    moved = []
    for make in (Muon, torch.optim.Muon):
        optimizer = make([Parameter(torch.ones(2, 2))])
        schedule, group = scheduler(optimizer), optimizer.param_groups[0]
        for _ in range(6):
            optimizer.step()
            schedule.step()
            moved.append((group["lr"], group["momentum"]))
    assert moved[:6] == moved[6:]
    assert len(set(moved)) == 6


def test_a_group_can_be_added_later():
    model, loss = model_and_loss()
    optimizer = Muon([model[1].weight], lr=0.05, weight_decay=0.0)
    optimizer.add_param_group({"params": model[3].parameters(), "use_muon": False, "lr": 0.01})
    assert optimizer.param_groups[1]["eps"] == 1e-8
    losses = train(optimizer, loss, 30)
    assert losses[-1] < losses[0]


def test_a_refused_group_leaves_the_optimizer_as_it_was():
    optimizer = Muon([Parameter(torch.ones(2, 2))])
    with pytest.raises(ValueError, match="2D parameters"):
        optimizer.add_param_group({"params": [Parameter(torch.ones(2))]})
    assert len(optimizer.param_groups) == 1


def test_groups_serve_a_second_optimizer_with_options_of_its_own():
    groups = split_parameters(model_and_loss()[0])
    for lr in (0.1, 0.2):
        assert [group["lr"] for group in Muon(groups, lr=lr).param_groups] == [lr, lr]


def test_groups_may_be_thinned_out_before_they_are_given():
    model, _ = model_and_loss()
    model[1].weight.requires_grad_(False)
    groups = split_parameters(model)
    for group in groups:
        group["params"] = [p for p in group["params"] if p.requires_grad]
    assert len(Muon(groups).param_groups) == 2


def test_frozen_and_unused_parameters_and_empty_groups_are_passed_over():
    frozen = Parameter(torch.ones(3, 3), requires_grad=False)
    unused, used = Parameter(torch.ones(3, 3)), Parameter(torch.ones(3, 3))
    nothing = Parameter(torch.ones(0, 3))
    nothing.grad, used.grad = torch.ones(0, 3), torch.eye(3)
    optimizer = Muon([{"params": [frozen, unused, used, nothing]}, {"params": []}])
    optimizer.step()
    assert torch.equal(frozen, torch.ones(3, 3))
    assert torch.equal(unused, torch.ones(3, 3))
    assert not torch.equal(used, torch.ones(3, 3))
    assert list(optimizer.state) == [used]


def test_gradscaler_skips_a_step_whose_gradients_overflowed():
    model, loss = model_and_loss()
    optimizer = Muon(split_parameters(model), lr=0.02)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    before = model[1].weight.detach().clone()
    scaler.scale(loss() * float("inf")).backward()
    scaler.step(optimizer)
    scaler.update()
    assert torch.equal(model[1].weight, before)
    assert scaler.get_scale() == 512.0
    optimizer.zero_grad()
    scaler.scale(loss()).backward()
    scaler.step(optimizer)
    scaler.update()
    assert not torch.equal(model[1].weight, before)
    assert torch.isfinite(model[1].weight).all()


def test_a_compiled_model_trains_as_the_plain_one(monkeypatch):
    losses = {}
    for backend in (None, "aot_eager"):
        model, loss = model_and_loss()
        if backend:
            compiled = torch.compile(model, backend=backend)
            groups = split_parameters(compiled)
            tokens = torch.arange(6)

            def loss(run=compiled, tokens=tokens):
                return torch.nn.functional.cross_entropy(run(tokens), tokens.roll(1))
        else:
            groups = split_parameters(model)
        losses[backend] = train(Muon(groups, lr=0.05), loss, 6)
    assert_close(torch.tensor(losses["aot_eager"]), torch.tensor(losses[None]), atol=1e-5)
    assert losses[None][-1] < losses[None][0]


def test_step_hooks_run():
    seen = []
    p = Parameter(torch.eye(2))
    p.grad = torch.eye(2)
    optimizer = Muon([p])
    optimizer.register_step_pre_hook(lambda *_: seen.append("before"))
    optimizer.register_step_post_hook(lambda *_: seen.append("after"))
    optimizer.step()
    assert seen == ["before", "after"]


@pytest.mark.parametrize(
    ("params", "options", "error", "words"),
    [
        ([torch.ones(3)], {}, ValueError, r"parameter 0 has shape \(3,\).*split_parameters"),
        ([("gain", torch.ones(3))], {}, ValueError, "parameter 'gain'.*use_muon=False"),
        ([{"params": [torch.ones(3)], "names": ["norm.weight"]}], {}, ValueError, "'norm.weight'"),
        ([torch.ones(2, 2)], {"lr": -1.0}, ValueError, r"lr must be .*got -1\.0"),
        ([torch.ones(2, 2)], {"lr": float("nan")}, ValueError, "lr must be"),
        ([torch.ones(2, 2)], {"lr": "0.02"}, TypeError, "lr must be.*got '0.02'"),
        ([torch.ones(2, 2)], {"lr": True}, TypeError, "lr must be"),
        ([torch.ones(2, 2)], {"lr": torch.ones(2)}, ValueError, "1-element"),
        ([torch.ones(2, 2)], {"eps": "1e-7"}, TypeError, "eps must be.*got '1e-7'"),
        ([torch.ones(2, 2)], {"momentum": -0.1}, ValueError, "momentum must be"),
        ([torch.ones(2, 2)], {"momentum": 1.0}, ValueError, "momentum must be"),
        ([torch.ones(2, 2)], {"weight_decay": -1}, ValueError, "weight_decay must be"),
        ([torch.ones(2, 2)], {"weight_decay": None}, TypeError, "weight_decay must be"),
        ([torch.ones(2, 2)], {"nesterov": "false"}, TypeError, "nesterov must be True or False"),
        ([torch.ones(2, 2)], {"nesterov": 1}, TypeError, "nesterov must be True or False"),
        ([torch.ones(2, 2)], {"maximize": "false"}, TypeError, "maximize must be True or False"),
        ([torch.ones(2, 2)], {"adjust_lr_fn": "rms"}, ValueError, "match_rms_adamw.*got 'rms'"),
        ([torch.ones(2, 2)], {"adjust_lr_fn": 0.2}, TypeError, "adjust_lr_fn"),
        ([torch.ones(2, 2)], {"ns_coefficients": (1, 2)}, ValueError, "For example"),
        ([torch.ones(2, 2)], {"ns_coefficients": "jordon"}, ValueError, "'jordon'"),
        ([torch.ones(2, 2)], {"ns_steps": 0}, ValueError, "ns_steps must be.*got 0"),
        ([torch.ones(2, 2)], {"ns_steps": 2.5}, TypeError, r"ns_steps must be.*got 2\.5"),
        ([torch.ones(2, 2)], {"ns_dtype": "bfloat16"}, TypeError, "ns_dtype.*'bfloat16'"),
        ([torch.ones(2, 2)], {"ns_dtype": torch.int8}, ValueError, "ns_dtype.*int8"),
        (torch.nn.Linear(2, 2), {}, TypeError, "split_parameters"),
        ([torch.ones(2, 2, dtype=torch.int32)], {}, TypeError, "real floating-point.*int32"),
        ([torch.ones(2, 2, dtype=torch.cfloat)], {}, TypeError, "real floating-point.*complex64"),
        ([{"params": [torch.ones(6, 2)], "heads": 4}], {}, ValueError, "heads=4 does not divide 6"),
        ([{"params": [torch.ones(6, 2)], "heads": True}], {}, TypeError, "heads must be"),
        ([{"params": [torch.ones(6, 2)], "rows": (4, 4)}], {}, ValueError, "add up to the 6 rows"),
        ([{"params": [torch.ones(6, 2)], "rows": 3}], {}, TypeError, "rows must be"),
        ([{"params": [torch.ones(6, 2)], "use_muon": "yes"}], {}, TypeError, "use_muon must be"),
        ([{"params": [torch.ones(2, 2)], "weightdecay": 0}], {}, ValueError, "'weight_decay'"),
        ([{"params": [torch.ones(2, 2)], "beta": 0.9}], {}, ValueError, "mean 'betas'"),
        (
            [{"params": [torch.ones(2)], "use_muon": False, "betas": (0.9, 1.0)}], {},
            ValueError, "betas must be two",
        ),
        (
            [{"params": [torch.ones(2)], "use_muon": False, "betas": (0.9,)}], {},
            ValueError, r"betas must be.*got \(0.9,\)",
        ),
        ([{"params": [torch.ones(2)], "use_muon": False, "betas": 0.9}], {}, TypeError, "betas"),
    ],
)  # fmt: skip
def test_errors_say_what_was_wanted_what_came_and_what_works(params, options, error, words):
    with pytest.raises(error, match=words):
        Muon(params, **options)


def test_sparse_gradients_are_refused():
    embedding = torch.nn.Embedding(5, 3, sparse=True)
    embedding(torch.tensor([1])).sum().backward()
    for use_muon in (True, False):
        optimizer = Muon([{"params": embedding.parameters(), "use_muon": use_muon}])
        with pytest.raises(RuntimeError, match=r"sparse gradients; use sparse=False"):
            optimizer.step()


@pytest.mark.parametrize("rate", [0.05, torch.tensor(0.05)], ids=["number", "tensor"])
@pytest.mark.parametrize("with_adamw", [False, True])
def test_a_compiled_step_is_one_graph_and_is_not_compiled_again_when_lr_moves(rate, with_adamw):
    torch._dynamo.reset()
    ends = []
    counter = CompileCounterWithBackend("eager")
    for compiled in (False, True):
        model, loss = model_and_loss()
        groups = split_parameters(model.double())[: 1 + with_adamw]
        optimizer = Muon(groups, lr=copy.deepcopy(rate), ns_dtype=torch.float64)
        scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.5, total_iters=9)
        step = torch.compile(optimizer.step, backend=counter) if compiled else optimizer.step
        for _ in range(6):
            model.zero_grad()
            loss().backward()
            step()
            scheduler.step()
        ends.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    # Compiled, torch's AdamW corrects its bias in float32.
    assert_close(ends[0], ends[1], atol=1e-5 if with_adamw else 1e-12)
    # A number is taken for a constant until it first moves; a tensor never is.
    assert counter.frame_count == (1 if isinstance(rate, torch.Tensor) else 2)


def test_a_momentum_keeps_its_dtype_through_a_state_and_goes_on_bit_for_bit():
    ends = []
    for resumed in (False, True):
        p = Parameter(torch.eye(4, dtype=torch.bfloat16))
        p.grad_dtype = torch.float32
        optimizer = Muon([p], lr=0.1)
        for step in range(6):
            p.grad = torch.randn(4, 4, generator=torch.Generator().manual_seed(step))
            optimizer.step()
            if resumed and step == 2:
                state = copy.deepcopy(optimizer.state_dict())
                optimizer = Muon([p])
                optimizer.load_state_dict(state)
        assert optimizer.state[p]["momentum_buffer"].dtype == torch.float32
        ends.append(p.detach().clone())
    assert torch.equal(*ends)


@pytest.mark.parametrize(
    ("spoil", "error", "words"),
    [
        (lambda s: s["state"][0].update(momentum_buffer=torch.ones(3, 3)), ValueError, "(3, 3)"),
        (lambda s: s["param_groups"][0].update(nesterov="no"), TypeError, "nesterov"),
        (lambda s: s["param_groups"][0].update(momentum=2.0), ValueError, "momentum"),
    ],
)
def test_a_state_that_cannot_work_is_refused_and_nothing_changes(spoil, error, words):
    weight = Parameter(torch.eye(4))
    weight.grad = torch.ones(4, 4)
    optimizer = Muon([weight], lr=0.1)
    optimizer.step()
    before = copy.deepcopy(optimizer.state_dict())
    spoiled = copy.deepcopy(before)
    spoil(spoiled)
    with pytest.raises(error, match=re.escape(words)):
        optimizer.load_state_dict(spoiled)
    after = optimizer.state_dict()
    assert after["param_groups"] == before["param_groups"]
    assert torch.equal(*(s["state"][0]["momentum_buffer"] for s in (before, after)))


def test_a_gradient_that_is_refused_in_one_group_moves_no_other():
    weight, table = Parameter(torch.eye(3)), torch.nn.Embedding(5, 3, sparse=True)
    weight.grad = torch.ones(3, 3)
    table(torch.tensor([1])).sum().backward()
    optimizer = Muon([{"params": [weight]}, {"params": table.parameters(), "use_muon": False}])
    with pytest.raises(RuntimeError, match="sparse"):
        optimizer.step()
    assert torch.equal(weight, torch.eye(3))


def test_a_scale_that_is_set_later_and_unknown_is_refused_at_the_step():
    weight = Parameter(torch.eye(3))
    weight.grad = torch.ones(3, 3)
    optimizer = Muon([weight])
    optimizer.param_groups[0]["adjust_lr_fn"] = "match_rms_adam"
    with pytest.raises(ValueError, match=r"match_rms_adamw.*got 'match_rms_adam'"):
        optimizer.step()
    assert torch.equal(weight, torch.eye(3))


@pytest.mark.parametrize("nesterov", [True, False])
def test_direction_is_what_the_step_subtracts(nesterov):
    p = Parameter(torch.zeros(6, 4))
    optimizer = Muon([p], lr=1.0, weight_decay=0.0, nesterov=nesterov, ns_dtype=torch.float64)
    with pytest.raises(ValueError, match="not stepped"):
        optimizer.direction(p)
    p.grad = torch.randn(6, 4)
    optimizer.step()
    assert_close(-p.detach(), 1.5**0.5 * optimizer.direction(p), atol=1e-6)
