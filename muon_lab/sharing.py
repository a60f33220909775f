"""Share orthogonalization out over the ranks of a process group: each matrix once in the group.

Every rank makes the same plan, `share_out`, so that nothing has to be agreed on. A stack of updates
then comes from its owner in one of two ways: where all ranks hold whole gradients
(DistributedDataParallel) the owner broadcasts it; where each rank holds some rows (FSDP2) the
shards are gathered by the owner, and the updates scattered back. Both are generators: they yield
None while something is under way, so that other stacks can be at work, and last the updates.
"""

import heapq
import math
from collections.abc import Callable, Iterator, Sequence

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.functional import pad

Orthogonalize = Callable[[Tensor], Tensor]  # of a stack (k, *shape)


def share_out(costs: Sequence[float], ranks: int) -> list[int]:
    """Return a rank for each job: the most costly first, each to the rank with the least so far.

    The largest load is at most 4/3 of the smallest possible one (Graham 1969).

    >>> share_out([3, 3, 2, 2, 2], ranks=2)
    [0, 1, 0, 1, 0]
    """
    loads = [(0.0, rank) for rank in range(ranks)]  # a heap: the least load, then the lowest rank
    owners = [0] * len(costs)
    for job in sorted(range(len(costs)), key=lambda job: -costs[job]):
        load, owners[job] = loads[0]
        heapq.heapreplace(loads, (load + costs[job], owners[job]))
    return owners


def cost(shape: Sequence[int]) -> float:
    """Return what orthogonalizing a parameter costs, up to a factor: its numbers · smaller side.

    >>> cost((128, 512)) / cost((128, 128))
    4.0
    """
    return float(math.prod(shape) * min(shape[-2:]))


def mesh_group(p: Tensor, group: dict) -> dist.ProcessGroup | None:
    """Return who shares a DTensor, if it is sharded by rows over one dimension of a mesh."""
    by_rows = len(p.placements) == 1 and p.placements[0].is_shard(0)
    whole = group["rows"] is None and not group["transposed"]
    return p.device_mesh.get_group() if by_rows and whole else None


def check_gradients_agree(params: Sequence[Tensor], group: dist.ProcessGroup) -> None:
    """Raise RuntimeError, on every rank, if a parameter has a gradient on some ranks only.

    The others would wait for updates that never come.
    """
    has = torch.tensor([p.grad is not None for p in params], dtype=torch.uint8)
    somewhere = torch.stack([has, 1 - has]).to(params[0].device)
    dist.all_reduce(somewhere, op=dist.ReduceOp.MAX, group=group)
    differ = somewhere.amin(0).nonzero().flatten().tolist()
    if differ:
        shapes = ", ".join(str(tuple(params[i].shape)) for i in differ[:3])
        raise RuntimeError(
            f"{len(differ)} of {len(params)} parameters have a gradient on some ranks and none on "
            f"others (of shapes {shapes}{' ...' * (len(differ) > 3)}): run a forward and backward "
            "on every rank before each step, or freeze a parameter on all of them"
        )


def shared_update(
    update_: Callable, stack: Sequence[list], rule: dict, owner: int,
    group: dist.ProcessGroup | None, dtype: torch.dtype,
) -> Iterator[None]:  # fmt: skip
    """Step a stack of parameters by updates that its owner computes; yield while they are awaited.

    ``stack`` and ``rule`` are the arguments of ``update_``, `Muon.update_`. A rank without the
    momentum (None) gives it a buffer for once.
    """
    params, grads, buffers, *memories = stack
    if buffers[0] is None:
        buffers = [torch.zeros_like(grad) for grad in grads]

    def directions() -> Tensor:
        ahead = torch._foreach_lerp(buffers, grads, 1 - rule["momentum"])
        if rule["nesterov"]:
            ahead = torch._foreach_lerp(grads, ahead, rule["momentum"])
        return torch.stack(ahead)

    how = rule["orthogonalize"], owner
    if hasattr(params[0], "device_mesh"):
        exchange = exchange_shards(directions(), *how, dtype)
    else:
        exchange = broadcast_updates(directions, grads, *how, group, dtype)
    for updates in exchange:
        if updates is None:
            yield
    update_(params, grads, buffers, *memories, **rule | {"orthogonalize": lambda _: updates})


def take_turns(queues: Sequence[Sequence[Iterator[None]]]) -> None:
    """Run each owner's shared updates, two at a time: one is sent while the next is computed.

    Every rank must give the same queues in the same order.
    """
    for start in range(0, max(map(len, queues), default=0), 2):
        numbers = start, start + 1
        under_way = [u for number in numbers for queue in queues for u in queue[number:][:1]]
        while under_way:  # all take one stage, then all the next
            under_way = [update for update in under_way if next(update, "done") is None]


def broadcast_updates(
    directions: Callable[[], Tensor], like: list[Tensor], orthogonalize: Orthogonalize, owner: int,
    group: dist.ProcessGroup, dtype: torch.dtype,
) -> Iterator[Tensor | None]:  # fmt: skip
    """Orthogonalize ``directions()`` on the owner alone; last, yield the updates (k, *shape).

    Updates travel in the ``dtype`` of the iteration, which loses nothing.
    """
    shape = (len(like), *like[0].shape)
    if dist.get_rank(group) == owner:
        updates = orthogonalize(directions()).to(dtype).contiguous()
    else:
        updates = like[0].new_empty(shape, dtype=dtype)
    source = dist.get_global_rank(group, owner)
    under_way = dist.broadcast(updates, source, group=group, async_op=True)
    yield None
    under_way.wait()
    yield updates


def exchange_shards(
    directions: Tensor, orthogonalize: Orthogonalize, owner: int, dtype: torch.dtype
) -> Iterator[Tensor | None]:
    """Gather a stack sharded by rows, a DTensor (k, rows, ...), at its owner, and return updates.

    Ranks whose shard is short, since the rows do not divide, send it padded with zeros.
    """
    group = directions.device_mesh.get_group()
    ranks, mine = dist.get_world_size(group), dist.get_rank(group) == owner
    root, rows = dist.get_global_rank(group, owner), directions.shape[1]
    local, height = directions.to_local(), math.ceil(rows / ranks)  # as torch.chunk cuts
    sent = _pad_rows(local, height).contiguous()  # (k, height, ...)
    parts = [torch.empty_like(sent) for _ in range(ranks)] if mine else None
    under_way = dist.gather(sent, parts, dst=root, group=group, async_op=True)
    yield None
    under_way.wait()
    if mine:
        whole = orthogonalize(torch.cat(parts, 1)[:, :rows]).to(dtype)  # (k, rows, ...)
        parts = [part.contiguous() for part in _pad_rows(whole, ranks * height).chunk(ranks, 1)]
    received = torch.empty_like(sent, dtype=dtype)
    under_way = dist.scatter(received, parts, src=root, group=group, async_op=True)
    yield None
    under_way.wait()
    yield type(directions).from_local(
        received[:, : local.shape[1]].contiguous(), directions.device_mesh, directions.placements,
        shape=directions.shape, stride=directions.stride(),
    )  # fmt: skip


def _pad_rows(stack: Tensor, rows: int) -> Tensor:
    after = [0, 0] * (stack.ndim - 2)
    return pad(stack, [*after, 0, rows - stack.shape[1]])


@torch.no_grad()
def gather_momentum_(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Give every rank the whole momentum, before ``state_dict()`` with ``shard_momentum=True``.

    Call it on every rank. The next step drops again what the rank does not own.
    """
    group = optimizer.process_group
    for p, owner in optimizer.owners().items():
        mine = owner == dist.get_rank(group)
        known = torch.tensor([mine and "momentum_buffer" in optimizer.state[p]], device=p.device)
        dist.broadcast(known, dist.get_global_rank(group, owner), group=group)
        if known.item():
            buffer = optimizer.state[p].setdefault("momentum_buffer", torch.zeros_like(p))
            dist.broadcast(buffer, dist.get_global_rank(group, owner), group=group)
    return optimizer
