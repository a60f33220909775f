"""Causal attention that knows its largest logits: multi-head, grouped and latent.

Both classes map x (B, T, width) to (B, T, width) and share one interface:

``max_logits``
    (heads,), the largest logit q·k·scale of each head over the batch and all causal pairs since
    the last clip, or None before a forward. A maximum, not an absolute value. Only forwards in
    training mode with gradients enabled count, and they are forgotten together with their
    gradients: when a step is skipped and its gradients are set to None, so are its maxima. It is
    no part of a state_dict, and loading one forgets it.
``records_max_logits``
    True by default. Without it, as in evaluation, forwards use the fused kernel, which never forms
    the logits.
``clip_qk_(tau, alpha)``
    scales the rows of a head's own projections so that its largest logit becomes τ.
``cache_bytes_per_token(dtype)``
    what one token leaves behind in a decoder's cache.

How heads lie in a projection: every weight is (out, in), and head h owns the contiguous block of
*rows* ``h·d … (h+1)·d``, so ``weight.view(heads, d, -1)[h]`` is one head's matrix. Only ``output``
takes heads in: there head h owns *columns*. Nothing is fused, so the clip never pulls apart what
belongs together.
"""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._C._functorch import is_functorch_wrapped_tensor


def rope(x: Tensor, start: int = 0, base: float = 10_000.0) -> Tensor:
    """Rotate each pair of coordinates (i, i + D/2) by an angle that grows with the position.

    x is (..., T, D) with D even; position t = start, start + 1, ... turns pair i by
    t · base^(−2i/D). Then q·k depends on positions only through their difference
    (Su et al., arXiv 2104.09864). The rotation runs in float32 or better; x's dtype comes back.

    >>> rope(torch.tensor([[1.0, 0.0], [1.0, 0.0]])).round(decimals=4)
    tensor([[1.0000, 0.0000],
            [0.5403, 0.8415]])
    """
    length, width = x.shape[-2:]
    if width % 2:
        raise ValueError(f"RoPE rotates pairs, so the last axis must be even; got {width}")
    dtype = torch.promote_types(x.dtype, torch.float32)
    position = torch.arange(start, start + length, device=x.device, dtype=dtype)
    speed = base ** -(torch.arange(0, width, 2, device=x.device, dtype=dtype) / width)
    angle = position[:, None] * speed  # (T, D/2)
    first, second = x.to(dtype).chunk(2, dim=-1)  # (..., T, D/2) each
    turned = (
        first * angle.cos() - second * angle.sin(),
        first * angle.sin() + second * angle.cos(),
    )
    return torch.cat(turned, dim=-1).to(x.dtype)  # (..., T, D)


def causal_logits(q: Tensor, k: Tensor, scale: float) -> Tensor:
    """Return q·k·scale for every pair of positions, −∞ where the key lies in the future.

    q is (B, heads, T, D), k (B, kv_heads, T, D); query head h reads key h // (heads / kv_heads).
    Formed in float32 or better, under autocast too.
    """
    dtype = torch.promote_types(q.dtype, torch.float32)
    k = k.repeat_interleave(q.shape[1] // k.shape[1], dim=1)  # (B, heads, T, D)
    # Autocast would round the product to bf16, and with it each maximum and its γ.
    with torch.autocast("cpu" if q.is_meta else q.device.type, enabled=False):
        logits = q.to(dtype) @ k.to(dtype).mT * scale  # (B, heads, T, T)
    future = torch.ones(logits.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
    return logits.masked_fill(future, -torch.inf)


def explicit_attention(q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Attend step by step, as it is written on paper; returns the output and each head's maximum.

    Shapes as in :func:`causal_logits`, v (B, kv_heads, T, Dv); returns (B, heads, T, Dv), (heads,).
    """
    logits = causal_logits(q, k, scale)  # (B, heads, T, T)
    v = v.repeat_interleave(q.shape[1] // v.shape[1], dim=1)  # (B, heads, T, Dv)
    weights = logits.softmax(dim=-1).to(v.dtype)
    return weights @ v, logits.detach().amax(dim=(0, 2, 3))


def fused_attention(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Attend by torch's own kernel, which never holds the logits and so cannot report them."""
    grouped = q.shape[1] != k.shape[1]
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=grouped)


@torch.compiler.disable  # it is compiled by itself, also inside a compiled model
def flex_attention_with_maxima(
    q: Tensor, k: Tensor, v: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """Attend by FlexAttention, which reports each query's maximum without holding the logits.

    CUDA only: elsewhere torch (2.9 to 2.13) raises NotImplementedError for ``max_scores``.
    """
    flex, request = _compiled_flex()
    mask = _causal_block_mask(q.shape[2], q.device)
    grouped = q.shape[1] != k.shape[1]
    out, aux = flex(
        q, k, v, block_mask=mask, scale=scale, enable_gqa=grouped, return_aux=request
    )  # (B, heads, T, Dv), max_scores (B, heads, T)
    return out, aux.max_scores.detach().amax(dim=(0, 2))


@lru_cache(maxsize=1)
def _compiled_flex():
    """Compile FlexAttention once; uncompiled it would hold the whole logits matrix."""
    from torch.nn.attention.flex_attention import AuxRequest, flex_attention

    return torch.compile(flex_attention), AuxRequest(max_scores=True)


@lru_cache(maxsize=16)
def _causal_block_mask(length: int, device: torch.device):
    """Build the causal mask for one length; building costs more than one layer's attention."""
    from torch.nn.attention.flex_attention import create_block_mask

    def causal(batch, head, query, key):
        return query >= key

    return create_block_mask(causal, None, None, length, length, device=device)


def _flex_can_run(q: Tensor, v: Tensor) -> bool:
    """Tell whether FlexAttention's kernel takes these tensors (its heads are 16 wide at least)."""
    narrow = min(q.shape[-1], v.shape[-1])
    return q.is_cuda and q.dtype != torch.float64 and narrow >= 16


def check_heads(width: int, heads: int, kv_heads: int | None = None) -> None:
    """Raise ValueError, naming what would work, unless the heads fit the width and each other."""
    if heads < 1 or width < 1:
        raise ValueError(f"width and heads must be at least 1; got {width} and {heads}.")
    if width % heads:
        works = -(-width // heads) * heads
        raise ValueError(
            f"heads must divide width; got width={width}, heads={heads}. "
            f"The next larger width that works is {works}"
        )
    if kv_heads is None:
        return
    if kv_heads < 1 or heads % kv_heads:
        divisors = [n for n in range(1, heads + 1) if heads % n == 0]
        raise ValueError(f"kv_heads must divide heads={heads}: one of {divisors}; got {kv_heads}")
    if width // heads % 2:
        raise ValueError(
            f"RoPE rotates pairs, so width / heads must be even; got {width} / {heads}"
        )


class _Attention(nn.Module):
    """What both kinds of attention share: choosing a way to compute, and remembering maxima."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        check_heads(width, heads)
        self.width, self.heads = width, heads
        self.records_max_logits = True
        self.max_logits = None

    @property
    def scale(self) -> float:
        """1/√(width of a query), which keeps logits of unit-variance q and k at unit variance."""
        return self.logit_width**-0.5

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Mix v by the causal softmax of q·k·scale; in training, record each head's maximum.

        Without maxima by the fused kernel; with them by FlexAttention on CUDA, and elsewhere
        explicitly. Returns (B, T, heads·Dv).
        """
        records = self.records_max_logits and self.training and torch.is_grad_enabled()
        # Inside vmap or grad a maximum belongs to the transform, and must not outlive it.
        if not torch.compiler.is_compiling() and is_functorch_wrapped_tensor(q):
            records = False
        if not records:
            out = fused_attention(q, k, v, self.scale)  # (B, heads, T, Dv)
        else:
            with_maxima = flex_attention_with_maxima if _flex_can_run(q, v) else explicit_attention
            out, maxima = with_maxima(q, k, v, self.scale)  # (B, heads, T, Dv), (heads,)
            self._pending = _larger(self._pending, maxima)
        return out.transpose(1, 2).flatten(2)  # (B, T, heads·Dv)

    @property
    def max_logits(self) -> Tensor | None:
        """The largest logit of each head, (heads,); see this module's docstring."""
        return _larger(self._in_gradient, self._pending)

    @max_logits.setter
    def max_logits(self, largest: Tensor | None) -> None:
        self._in_gradient, self._pending = largest, None

    def _watch_gradient(self) -> None:
        """Have the maxima of a forward follow its gradient: added to others, or the first again."""
        weight = self.query_weight

        def arrived(gradient: Tensor) -> None:  # before it is added to weight.grad
            if self._pending is not None:
                before = None if weight.grad is None else self._in_gradient
                self.max_logits = _larger(before, self._pending)

        weight.register_hook(arrived)

    def __setstate__(self, state: dict) -> None:
        """Restore a copy, whose weight has no hook yet."""
        super().__setstate__(state)
        self._watch_gradient()

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, T, width) to (B, T, width)."""
        q, k, v = self.project(x)  # (B, heads, T, D), (B, kv_heads, T, D), (B, kv_heads, T, Dv)
        return self.output(self.attend(q, k, v))  # (B, T, width)

    def _load_from_state_dict(self, *args, **kwargs) -> None:
        """Load weights, and forget the maxima that other weights made."""
        super()._load_from_state_dict(*args, **kwargs)
        self.max_logits = None

    def _gamma(self, tau: float, alpha: float) -> Tensor:
        """Return γ = min(1, τ / S_max) for each head, and forget the maxima.

        Kimi K2's report, arXiv 2507.20534, Algorithm 1. A head whose maximum is at most τ, also a
        negative one, gets exactly 1, which leaves its weights bit-identical.
        """
        if not tau > 0:
            raise ValueError(f"tau must be a positive logit, for example 100.0; got {tau}.")
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha is the query's share of γ, from 0 to 1; got {alpha}.")
        largest = self.max_logits
        if largest is None:
            raise RuntimeError(
                "clip_qk_ needs the logits of a forward: run the model in training mode, with "
                "gradients and records_max_logits=True, before each clip."
            )
        self.max_logits = None
        if not largest.isfinite().all():
            raise FloatingPointError(
                f"the largest logits are not finite: {largest.tolist()}. Scaling weights cannot "
                "repair that: go back to a checkpoint and lower lr."
            )
        return torch.where(largest > tau, tau / largest, torch.ones_like(largest))


def _larger(seen: Tensor | None, new: Tensor | None) -> Tensor | None:
    """Return the larger maxima; NaN or Inf seen before gives way to what is new."""
    if seen is None or new is None:
        return new if seen is None else seen
    return torch.where(seen.isfinite(), torch.maximum(seen, new), new)


def _scale_heads_(projection: nn.Linear, factor: Tensor) -> None:
    """Multiply head h's block of rows in a (heads·d, in) weight by factor[h], in place."""
    weight = projection.weight
    by_row = factor.to(weight.device).repeat_interleave(len(weight) // len(factor))[:, None]
    if hasattr(weight, "device_mesh"):  # FSDP2's shards: each rank scales the rows that it holds
        from torch.distributed.tensor import DTensor

        by_row = DTensor.from_local(by_row, weight.device_mesh)  # the same on every rank
    weight.mul_(by_row)


class MultiHeadAttention(_Attention):
    """Causal multi-head attention with RoPE; with ``kv_heads < heads`` grouped-query attention.

    Weights: ``query`` (heads·d, width), ``key`` and ``value`` (kv_heads·d, width), ``output``
    (width, heads·d), where d = width / heads. Query head h reads key and value head
    h // (heads / kv_heads). With ``qk_norm`` queries and keys pass through an RMSNorm of their own
    before RoPE; the logits then ignore the scale of ``query`` and ``key``, so the clip refuses.

    >>> layer = MultiHeadAttention(width=32, heads=4, kv_heads=2)
    >>> layer(torch.zeros(1, 8, 32)).shape, layer.max_logits.shape
    (torch.Size([1, 8, 32]), torch.Size([4]))
    """

    def __init__(
        self, width: int, heads: int, kv_heads: int | None = None, *, qk_norm: bool = False
    ):
        super().__init__(width, heads)
        self.kv_heads = heads if kv_heads is None else kv_heads
        check_heads(width, heads, self.kv_heads)
        self.head_width = width // heads
        shared = self.kv_heads * self.head_width
        self.query = nn.Linear(width, width, bias=False)
        self._watch_gradient()
        self.key = nn.Linear(width, shared, bias=False)
        self.value = nn.Linear(width, shared, bias=False)
        self.output = nn.Linear(width, width, bias=False)
        self.logit_width = self.head_width
        self.qk_norm = qk_norm
        if qk_norm:
            self.query_norm = nn.RMSNorm(self.head_width)
            self.key_norm = nn.RMSNorm(self.head_width)

    @property
    def head_rows(self) -> dict[str, int]:
        """Which weights stack the rows of several heads, and of how many."""
        return {"query": self.heads, "key": self.kv_heads, "value": self.kv_heads}

    @property
    def query_weight(self) -> Tensor:
        """A weight that gets a gradient from every logit."""
        return self.query.weight

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return q (B, heads, T, d), k and v (B, kv_heads, T, d); q and k are ready to multiply."""
        q = self.query(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, T, d)
        k = self.key(x).unflatten(-1, (self.kv_heads, -1)).transpose(1, 2)  # (B, kv_heads, T, d)
        v = self.value(x).unflatten(-1, (self.kv_heads, -1)).transpose(1, 2)  # (B, kv_heads, T, d)
        if self.qk_norm:
            # Under autocast a norm comes out in float32, which no kernel mixes with v's bf16.
            q, k = self.query_norm(q).type_as(v), self.key_norm(k).type_as(v)
        return rope(q), rope(k), v

    @torch.no_grad()
    def clip_qk_(self, tau: float, alpha: float = 0.5) -> Tensor:
        """Scale queries and keys so that no head's largest logit exceeds τ; return γ (heads,).

        Where each head owns its key: query × γ^α, key × γ^(1−α). Where a key is shared: it is left
        alone and each query takes its whole γ, since the group's heads need different factors.
        """
        if self.qk_norm:
            raise ValueError(
                "QK-Clip has no effect under qk_norm=True: the norms undo any scale of the query "
                "and key weights. Use one or the other."
            )
        gamma = self._gamma(tau, alpha)  # (heads,)
        shared = self.kv_heads < self.heads
        _scale_heads_(self.query, gamma if shared else gamma**alpha)
        if not shared:
            _scale_heads_(self.key, gamma ** (1 - alpha))
        return gamma

    def cache_bytes_per_token(self, dtype: torch.dtype = torch.bfloat16) -> int:
        """Count the bytes of one token's keys and values: 2 · kv_heads · d numbers."""
        return 2 * self.kv_heads * self.head_width * dtype.itemsize


class MultiHeadLatentAttention(_Attention):
    """Causal attention over compressed keys and values, with a rotary part kept apart (MLA).

    DeepSeek-V2, arXiv 2405.04434, section 2.1. With d = width / heads content numbers a head and
    r = ``rotary_width`` rotary ones, and latents c_q (query_latent) and c_kv (kv_latent):

    ============================  =======================================================
    ``query_down, query_norm``    c_q = norm(W x)
    ``query_content``             q_C, (heads·d, query_latent)
    ``query_rotary``              q_R, (heads·r, query_latent), each head its own
    ``kv_down, kv_norm``          c_kv = norm(W x), all that the cache keeps besides k_R
    ``key_content``, ``value``    k_C and v, (heads·d, kv_latent)
    ``key_rotary``                k_R, (r, width): one rotary key that all heads share
    ``output``                    (width, heads·d)
    ============================  =======================================================

    Logits: (q_C·k_C + q_R·k_R) / √(d + r). Only q_R and k_R see positions.

    >>> layer = MultiHeadLatentAttention(width=32, heads=4)
    >>> layer.cache_bytes_per_token(), MultiHeadAttention(32, 4).cache_bytes_per_token()
    (40, 128)
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        query_latent: int | None = None,
        kv_latent: int | None = None,
        rotary_width: int | None = None,
    ):
        super().__init__(width, heads)
        self.head_width = width // heads
        self.query_latent = query_latent if query_latent is not None else width // 2
        self.kv_latent = kv_latent if kv_latent is not None else width // 2
        self.rotary_width = (
            rotary_width if rotary_width is not None else max(2, self.head_width // 4 * 2)
        )
        self.logit_width = self.head_width + self.rotary_width
        self._check()
        self.query_down = nn.Linear(width, self.query_latent, bias=False)
        self.query_norm = nn.RMSNorm(self.query_latent)
        self.query_content = nn.Linear(self.query_latent, width, bias=False)
        self._watch_gradient()
        self.query_rotary = nn.Linear(self.query_latent, heads * self.rotary_width, bias=False)
        self.kv_down = nn.Linear(width, self.kv_latent, bias=False)
        self.kv_norm = nn.RMSNorm(self.kv_latent)
        self.key_content = nn.Linear(self.kv_latent, width, bias=False)
        self.key_rotary = nn.Linear(width, self.rotary_width, bias=False)
        self.value = nn.Linear(self.kv_latent, width, bias=False)
        self.output = nn.Linear(width, width, bias=False)

    def _check(self) -> None:
        for name in ("query_latent", "kv_latent", "rotary_width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)}.")
        if self.rotary_width % 2:
            raise ValueError(
                f"RoPE rotates pairs, so rotary_width must be even; got {self.rotary_width}"
            )

    @property
    def head_rows(self) -> dict[str, int]:
        """Which weights stack the rows of several heads, and of how many."""
        by_head = ("query_content", "query_rotary", "key_content", "value")
        return dict.fromkeys(by_head, self.heads)

    @property
    def query_weight(self) -> Tensor:
        """A weight that gets a gradient from every logit."""
        return self.query_content.weight

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return q and k (B, heads, T, d + r), the content part first, and v (B, heads, T, d)."""
        by_head = (self.heads, -1)
        latent_q = self.query_norm(self.query_down(x))  # (B, T, query_latent)
        latent_kv = self.kv_norm(self.kv_down(x))  # (B, T, kv_latent)
        q_c = (
            self.query_content(latent_q).unflatten(-1, by_head).transpose(1, 2)
        )  # (B, heads, T, d)
        q_r = self.query_rotary(latent_q).unflatten(-1, by_head).transpose(1, 2)  # (B, heads, T, r)
        k_c = self.key_content(latent_kv).unflatten(-1, by_head).transpose(1, 2)  # (B, heads, T, d)
        k_r = rope(self.key_rotary(x)).unsqueeze(1).expand_as(q_r)  # (B, heads, T, r)
        v = self.value(latent_kv).unflatten(-1, by_head).transpose(1, 2)  # (B, heads, T, d)
        return torch.cat((q_c, rope(q_r)), -1), torch.cat((k_c, k_r), -1), v

    @torch.no_grad()
    def clip_qk_(self, tau: float, alpha: float = 0.5) -> Tensor:
        """Scale each head's own parts so that no largest logit exceeds τ; return γ (heads,).

        q_C × γ^α and k_C × γ^(1−α), q_R × γ; the shared k_R is left alone, since scaling it once a
        head would compound. Both summands of every logit then carry exactly γ.
        """
        gamma = self._gamma(tau, alpha)  # (heads,)
        _scale_heads_(self.query_content, gamma**alpha)
        _scale_heads_(self.key_content, gamma ** (1 - alpha))
        _scale_heads_(self.query_rotary, gamma)
        return gamma

    def cache_bytes_per_token(self, dtype: torch.dtype = torch.bfloat16) -> int:
        """Count the bytes of one token's latent and rotary key: kv_latent + r numbers."""
        return (self.kv_latent + self.rotary_width) * dtype.itemsize
