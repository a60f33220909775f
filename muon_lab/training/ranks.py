"""Training by several processes, the ranks that torchrun starts; one process is the case of one.

Each rank reads its share of every batch. Files are the first rank's alone; whatever stops one rank
stops all of them, with one sentence.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

PATIENCE = timedelta(minutes=5)  # how long a rank waits for the others
# How backends word that another rank is gone.
LOST = ("Connection", "connection", "Timed out", "timed out", "Broken pipe", "peer", "NCCL")


def ranks() -> int:
    """Return how many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return this process's number among them, from 0."""
    return dist.get_rank() if ranks() > 1 else 0


@contextmanager
def joined() -> Iterator[None]:
    """Join the processes that torchrun started, if it did, for the time of the block."""
    if os.environ.get("WORLD_SIZE", "1") == "1" or dist.is_initialized():
        yield
        return
    missing = [
        n for n in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if n not in os.environ
    ]
    if missing:
        raise ValueError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']}, but {', '.join(missing)} is not set: start "
            "the ranks with torchrun -m muon_lab.training, or unset WORLD_SIZE"
        )
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))  # from now on it is "cuda"
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, timeout=PATIENCE)
    yield
    dist.destroy_process_group()  # after an error there is nobody left to agree with


def check_joined() -> None:
    """Raise ValueError in a process of torchrun that would train the whole run by itself."""
    if os.environ.get("WORLD_SIZE", "1") != "1" and ranks() == 1:
        raise ValueError(
            f"torchrun started {os.environ['WORLD_SIZE']} processes, and each would train the same "
            "run: call torch.distributed.init_process_group() before train, or use torchrun -m "
            "muon_lab.training"
        )


def check_share(batch: int, accumulate: int) -> None:
    """Raise ValueError for a batch that the ranks cannot share equally."""
    if batch % (ranks() * accumulate):
        parts = f"{ranks()} ranks" + f" of {accumulate} parts" * (accumulate > 1)
        raise ValueError(
            f"batch must be a multiple of {ranks() * accumulate} for {parts}; got {batch}"
        )


def share(batch: Tensor) -> Tensor:
    """Return this rank's rows, or all of them where they do not divide equally."""
    return batch if len(batch) % ranks() else batch.chunk(ranks())[rank()]


def reduced(values: Tensor | float, how: str = "AVG", device: str = "cpu") -> Tensor:
    """Return the mean ("AVG"), or another reduction such as "MAX", over the ranks.

    A number becomes a float64, so that one process keeps all its digits.
    """
    values = values if isinstance(values, Tensor) else torch.tensor(values, dtype=torch.float64)
    if ranks() == 1:
        return values
    values = values.to(device, copy=True)
    dist.all_reduce(values, op=getattr(dist.ReduceOp, "SUM" if how == "AVG" else how))
    return values / ranks() if how == "AVG" else values  # gloo has no mean


def first_rank(act: Callable[[], Any]) -> Any:
    """Act on the first rank alone, and return there what it returned; raise its error on all."""
    result, error = None, None
    if rank() == 0:
        try:
            result = act()
        except (ValueError, OSError, MemoryError) as failed:
            error = failed
    if ranks() > 1:
        box = [error]
        dist.broadcast_object_list(box)
        error = box[0]
    if error is not None:
        raise error
    return result


def whole(tensor: Any) -> Any:
    """Gather a tensor whose shards the ranks hold; return anything else as it is."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def like(tensor: Tensor, own: Tensor) -> Tensor:
    """Shard a whole tensor as ``own`` is sharded, if it is."""
    if not hasattr(own, "device_mesh") or tensor.shape != own.shape:
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor.to(own.device), own.device_mesh, own.placements)


def parallel(model: nn.Module, shard: bool) -> nn.Module:
    """Return what to run so that gradients are averaged over the ranks.

    With ``shard`` (FSDP2) the model's own parameters become shards, block by block.
    """
    if ranks() == 1:
        return model
    if not shard:
        return nn.parallel.DistributedDataParallel(model)
    from torch.distributed.fsdp import fully_shard

    for block in model.blocks:
        fully_shard(block)
    return fully_shard(model)


@contextmanager
def lost_ranks_explained() -> Iterator[None]:
    """Turn a backend's error about ranks that are gone into a ConnectionError in one sentence."""
    try:
        yield
    except RuntimeError as error:
        if ranks() == 1 or not any(words in str(error) for words in LOST):
            raise
        raise ConnectionError(
            f"rank {rank()} of {ranks()} lost another rank, which ended or did not answer within "
            f"{PATIENCE.seconds} s. The last checkpoint, if you asked for one, is whole: continue "
            "from it with --resume"
        ) from error
