"""Ranks that share the orthogonalization must end where one process ends."""

import copy

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.distributed.fsdp import fully_shard

from muon_lab.after_muon import NorMuon
from muon_lab.model.gpt import GPT, GPTConfig
from muon_lab.muon import Muon, split_parameters
from muon_lab.sharing import gather_momentum_, share_out

STEPS = 3


def small():
    """A model whose hidden matrices are of uneven number and shape."""
    torch.manual_seed(0)
    config = GPTConfig(layers=3, width=24, heads=2, context=8, attention="gqa", kv_heads=1)
    return GPT(config)


def optimizer_of(model, kind=Muon, **options):
    shared = {"lr": 0.05, "adjust_lr_fn": "match_rms_adamw", "ns_dtype": torch.float64}
    return kind(split_parameters(model), **shared, **options)


def set_gradients(model, step):
    """Give every rank the same gradients, as DistributedDataParallel does."""
    generator = torch.Generator().manual_seed(step)
    for p in model.parameters():
        p.grad = torch.randn(p.shape, generator=generator)


def alone(kind=Muon):
    model = small()
    optimizer = optimizer_of(model, kind)
    for step in range(STEPS):
        set_gradients(model, step)
        optimizer.step()
    return [p.detach() for p in model.parameters()], optimizer.state_dict()


def on_ranks(job, ranks, folder):
    mp.spawn(_start, (job, ranks, f"file://{folder}/meeting-{job.__name__}-{ranks}", str(folder)),
             nprocs=ranks)  # fmt: skip
    return [torch.load(f"{folder}/{job.__name__}-{rank}.pt") for rank in range(ranks)]


def _start(rank, job, ranks, address, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=ranks)
    torch.save(job(rank), f"{folder}/{job.__name__}-{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def every_way(rank):
    """Take the steps with whole and with sharded momentum, and with a family member's memory."""
    found = {}
    for name, kind, shard in (("whole", Muon, False), ("sharded", Muon, True),
                              ("normuon", NorMuon, False)):  # fmt: skip
        model = small()
        optimizer = optimizer_of(model, kind, process_group=dist.group.WORLD, shard_momentum=shard)
        sent = count_bytes(model, optimizer)
        buffers = [s["momentum_buffer"] for s in optimizer.state.values() if "momentum_buffer" in s]
        held = sum(buffer.nbytes for buffer in buffers)
        weights = [p.detach() for p in model.parameters()]
        owned = list(optimizer.owners().values()).count(rank)
        found[name] = {"weights": weights, "held": held, "received": sent, "owned": owned}
        if shard:
            found[name]["state"] = gather_momentum_(optimizer).state_dict()
    return found


def count_bytes(model, optimizer):
    """Take the steps; return the bytes of updates that this rank got from others, per step."""
    received, broadcast, rank = [], dist.broadcast, dist.get_rank()

    def counted(tensor, src, *args, **options):
        received.append(tensor.nbytes if src != rank else 0)
        return broadcast(tensor, src, *args, **options)

    dist.broadcast = counted
    for step in range(STEPS):
        set_gradients(model, step)
        optimizer.step()
    dist.broadcast = broadcast
    return sum(received) / STEPS


@pytest.fixture(scope="module")
def ends(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    return {ranks: on_ranks(every_way, ranks, folder) for ranks in (1, 2, 3)}


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize(
    ("way", "kind"), [("whole", Muon), ("sharded", Muon), ("normuon", NorMuon)]
)
def test_every_rank_ends_with_the_weights_of_one_process(ends, ranks, way, kind):
    weights, _ = alone(kind)
    for each in ends[ranks]:
        torch.testing.assert_close(each[way]["weights"], weights, rtol=0, atol=1e-6)
        for ours, theirs in zip(each[way]["weights"], ends[ranks][0][way]["weights"], strict=True):
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_state_and_bytes_per_rank_are_those_of_the_formula(ends, ranks):
    groups = split_parameters(small())
    sizes = [p.numel() for g in groups if g["use_muon"] for p in g["params"]]
    for way, copies in (("whole", ranks), ("sharded", 1)):
        assert sum(each[way]["held"] for each in ends[ranks]) == 4 * copies * sum(sizes)
        # Each update, in float64, reaches every rank but its owner.
        assert sum(each[way]["received"] for each in ends[ranks]) == 8 * (ranks - 1) * sum(sizes)
        assert sum(each[way]["owned"] for each in ends[ranks]) == len(sizes)


def test_a_gathered_state_continues_in_one_process(ends):
    _, whole = alone()
    state = ends[2][1]["sharded"]["state"]
    model = small()
    optimizer = optimizer_of(model)
    optimizer.load_state_dict(copy.deepcopy(state))
    for p, number in zip(
        [p for g in optimizer.param_groups for p in g["params"]], whole["state"], strict=True
    ):
        for name, value in whole["state"][number].items():
            torch.testing.assert_close(optimizer.state[p][name], value, rtol=0, atol=0)


def one_matrix(rank):
    weight = torch.nn.Parameter(torch.eye(6)[:, :4])
    weight.grad = torch.arange(24.0).view(6, 4)
    optimizer = Muon([weight], lr=0.1, process_group=dist.group.WORLD, shard_momentum=True)
    optimizer.step()
    return weight.detach(), len(optimizer.state)


def test_a_rank_that_owns_nothing_steps_with_the_others(tmp_path):
    (first, held), (second, held_by_other) = on_ranks(one_matrix, 2, tmp_path)
    assert (held, held_by_other) == (1, 0)
    assert torch.equal(first, second) and not torch.equal(first, torch.eye(6)[:, :4])


@pytest.mark.parametrize("ranks", [1, 2, 3, 7])
def test_the_plan_is_balanced(ranks):
    costs = [float(7 * i % 23 + 1) for i in range(40)]
    owners = share_out(costs, ranks)
    loads = [sum(c for c, o in zip(costs, owners, strict=True) if o == r) for r in range(ranks)]
    assert max(loads) <= 4 / 3 * max(max(costs), sum(costs) / ranks)


def without_gradients(rank):
    model = small()
    optimizer = optimizer_of(model, process_group=dist.group.WORLD)
    if rank == 0:
        set_gradients(model, 0)
    before = [p.detach().clone() for p in model.parameters()]
    try:
        optimizer.step()
    except RuntimeError as error:
        same = all(map(torch.equal, before, [p.detach() for p in model.parameters()]))
        return {"said": str(error), "unchanged": same}
    return {"said": "", "unchanged": False}


def test_a_rank_without_a_forward_is_named_before_a_weight_moves(tmp_path):
    for each in on_ranks(without_gradients, 2, tmp_path):
        assert "a gradient on some ranks and none on others" in each["said"]
        assert each["unchanged"]


def sharded_weights(rank):
    """Take the steps under FSDP2; the rows of some matrices do not divide by the ranks."""
    model = small()
    for block in model.blocks:
        fully_shard(block)
    fully_shard(model)
    optimizer = optimizer_of(model)
    whole = small()
    for step in range(STEPS):
        set_gradients(whole, step)
        for p, other in zip(model.parameters(), whole.parameters(), strict=True):
            p.grad = torch.distributed.tensor.distribute_tensor(
                other.grad, p.device_mesh, p.placements
            )
        optimizer.step()
    owners = list(optimizer.owners().values())
    return {"weights": [p.full_tensor().detach() for p in model.parameters()], "owners": owners}


@pytest.mark.parametrize("ranks", [2, 5])
def test_shards_are_exchanged_and_end_as_one_process(tmp_path, ranks):
    weights, _ = alone()
    for each in on_ranks(sharded_weights, ranks, tmp_path):
        torch.testing.assert_close(each["weights"], weights, rtol=0, atol=1e-6)
        assert set(each["owners"]) == set(range(ranks))


def test_sharded_momentum_needs_a_process_group():
    with pytest.raises(ValueError, match="shard_momentum=True needs process_group"):
        optimizer_of(small(), shard_momentum=True)
