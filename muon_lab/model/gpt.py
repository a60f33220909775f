"""A byte-level GPT: embedding, blocks of attention and MLP, a head; small enough to read whole.

Tokens are bytes, so the vocabulary is 256 and there is no tokenizer to explain. Norms are RMSNorm
before each part, positions are RoPE inside attention, and no layer has a bias.
"""

from dataclasses import dataclass
from numbers import Integral
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from muon_lab.model.attention import MultiHeadAttention, MultiHeadLatentAttention

AttentionKind = Literal["mha", "gqa", "mla"]


@dataclass(frozen=True, kw_only=True)
class GPTConfig:
    """Say what model to build; a combination that cannot work is refused here, with the reason.

    ``attention``: "mha" (a key and value for each head), "gqa" (``kv_heads`` of them, by default
    half as many as heads) or "mla" (latents, see :class:`MultiHeadLatentAttention`, whose three
    widths may be given). ``qk_norm`` normalises queries and keys (not for "mla"). ``tied`` makes
    the head share the embedding's weight.

    >>> GPTConfig(layers=2, width=64, heads=4, context=32, attention="gqa").kv_heads
    2
    """

    vocab: int = 256
    layers: int = 4
    width: int = 128
    heads: int = 4
    context: int = 128
    attention: AttentionKind = "mha"
    kv_heads: int | None = None
    qk_norm: bool = False
    tied: bool = False
    query_latent: int | None = None
    kv_latent: int | None = None
    rotary_width: int | None = None

    def __post_init__(self):
        for name in ("vocab", "layers", "width", "heads", "context"):
            value = getattr(self, name)
            if not isinstance(value, Integral) or value < 1:
                raise ValueError(f"{name} must be a whole number of at least 1; got {value!r}.")
        if self.attention not in get_args(AttentionKind):
            raise ValueError(
                f"attention must be one of {get_args(AttentionKind)}; got {self.attention!r}."
            )
        if self.attention == "mla":
            self._refuse_under_mla()
        else:
            self._settle_grouping()
        with torch.device("meta"):  # where building a layer costs no memory
            _make_attention(self)  # which knows what widths and heads fit it

    def _settle_grouping(self) -> None:
        """Settle how many key and value heads there are."""
        given = [
            n for n in ("query_latent", "kv_latent", "rotary_width") if getattr(self, n) is not None
        ]
        if given:
            raise ValueError(
                f"{', '.join(given)} belong to attention='mla'; got {self.attention!r}."
            )
        if self.kv_heads is None:
            shared = self.heads if self.attention == "mha" else max(1, self.heads // 2)
            object.__setattr__(self, "kv_heads", shared)
        if self.attention == "mha" and self.kv_heads != self.heads:
            raise ValueError(
                f"attention='mha' has kv_heads = heads; got {self.kv_heads} and {self.heads}. "
                "Use attention='gqa' for shared keys."
            )

    def _refuse_under_mla(self) -> None:
        if self.kv_heads is not None:
            raise ValueError(
                f"attention='mla' has no kv_heads (got {self.kv_heads}): its cache is set by "
                "kv_latent and rotary_width."
            )
        if self.qk_norm:
            raise ValueError(
                "qk_norm does not go with attention='mla': the latents are normalised already, and "
                "a norm on each head's key would force the cache to hold whole keys again."
            )


def _make_attention(config: GPTConfig) -> MultiHeadAttention | MultiHeadLatentAttention:
    if config.attention == "mla":
        return MultiHeadLatentAttention(
            config.width,
            config.heads,
            query_latent=config.query_latent,
            kv_latent=config.kv_latent,
            rotary_width=config.rotary_width,
        )
    return MultiHeadAttention(config.width, config.heads, config.kv_heads, qk_norm=config.qk_norm)


class MLP(nn.Module):
    """Two matrices with a squared ReLU between: width → 4·width → width."""

    def __init__(self, width: int):
        super().__init__()
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, T, width) to (B, T, width)."""
        return self.down(F.relu(self.up(x)).square())  # (B, T, 4·width) between


class Block(nn.Module):
    """Attention, then the MLP, each added to what came in."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.attention_norm = nn.RMSNorm(config.width)
        self.attention = _make_attention(config)
        self.mlp_norm = nn.RMSNorm(config.width)
        self.mlp = MLP(config.width)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, T, width) to (B, T, width)."""
        x = x + self.attention(self.attention_norm(x))  # (B, T, width)
        return x + self.mlp(self.mlp_norm(x))  # (B, T, width)


class GPT(nn.Module):
    """Predict each next byte from those before it.

    ``model(tokens, targets)`` takes (B, T) integer tensors and returns (logits (B, T, vocab),
    mean cross-entropy in nats, or None without targets).

    >>> model = GPT(GPTConfig(layers=1, width=32, heads=2, context=16))
    >>> logits, loss = model(torch.zeros(2, 8, dtype=torch.long))
    >>> logits.shape, loss
    (torch.Size([2, 8, 256]), None)
    """

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.final_norm = nn.RMSNorm(config.width)
        self.head = nn.Linear(config.width, config.vocab, bias=False)
        self._initialise()
        if config.tied:
            self.head.weight = self.embedding.weight

    @torch.no_grad()
    def _initialise(self) -> None:
        """Draw matrices with variance 1/in; what a block adds, and the logits, start small."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=module.in_features**-0.5)
        for block in self.blocks:
            for added in (block.attention.output, block.mlp.down):
                added.weight.mul_((2 * self.config.layers) ** -0.5)
        nn.init.normal_(self.head.weight, std=0.02)
        # A tied embedding is the head; one of its own may speak as loudly as a block's output.
        nn.init.normal_(self.embedding.weight, std=0.02 if self.config.tied else 1.0)

    def forward(
        self, tokens: Tensor, targets: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Return next-byte logits (B, T, vocab) and, with targets (B, T), the mean loss in nats.

        Raises TypeError for tokens that are no integers, ValueError for more than ``context`` of
        them, and on a CPU for one outside the vocabulary.
        """
        if tokens.dtype not in (torch.int64, torch.int32) or tokens.ndim != 2 or 0 in tokens.shape:
            raise TypeError(
                "tokens must be int64 or int32 of shape (B, T), not empty; got "
                f"{tokens.dtype} of shape {tuple(tokens.shape)}. Use tokens.long()"
            )
        if tokens.shape[1] > self.config.context:
            raise ValueError(
                f"{tokens.shape[1]} tokens exceed the context of {self.config.context}; "
                "pass the last ones, tokens[:, -context:]"
            )
        try:
            x = self.embedding(tokens)  # (B, T, width)
        except IndexError:
            low, high = tokens.min().item(), tokens.max().item()
            raise ValueError(
                f"tokens must lie in [0, {self.config.vocab}); got {low} to {high}"
            ) from None
        for block in self.blocks:
            x = block(x)  # (B, T, width)
        logits = self.head(self.final_norm(x))  # (B, T, vocab)
        if targets is None:
            return logits, None
        # In bf16 a sum of 256 exponentials loses the loss's third digit.
        wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
        try:
            return logits, F.cross_entropy(wide.flatten(0, 1), targets.flatten())
        except IndexError as error:
            raise ValueError(f"targets must lie in [0, {self.config.vocab}): {error}") from None

    @torch.no_grad()
    def generate(
        self,
        tokens: Tensor,
        count: int,
        temperature: float = 1.0,
        top_k: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Append ``count`` sampled bytes to tokens (B, T) and return (B, T + count).

        ``temperature`` divides the logits (0 takes the likeliest byte), ``top_k`` keeps the k
        likeliest bytes. Sampling leaves ``max_logits`` alone and repeats with the generator's seed.
        """
        if tokens.ndim != 2 or not tokens.shape[1]:
            raise ValueError(
                f"tokens must be (B, T) with at least one to go on from; got {tuple(tokens.shape)}."
            )
        if not temperature >= 0 or (top_k is not None and top_k < 1):
            raise ValueError(
                f"temperature must be ≥ 0 and top_k ≥ 1 or None; got {temperature}, {top_k}."
            )
        for _ in range(count):
            logits = self(tokens[:, -self.config.context :])[0][:, -1]  # (B, vocab)
            following = _sample(logits, temperature, top_k, generator)  # (B, 1)
            tokens = torch.cat((tokens, following), dim=1)  # (B, T + 1)
        return tokens

    @property
    def attentions(self) -> list[MultiHeadAttention | MultiHeadLatentAttention]:
        """The attention module of each layer, first layer first."""
        return [block.attention for block in self.blocks]

    def record_max_logits(self, on: bool) -> None:
        """Switch on or off, in every layer, the recording of maxima that the clip needs.

        It is on in a new model. Off, forwards use the fused kernel and ``max_logits`` stays.
        """
        for attention in self.attentions:
            attention.records_max_logits = on

    def max_logits(self) -> Tensor | None:
        """Return the maxima since the last clip, (layers, heads), or None before a forward."""
        seen = [attention.max_logits for attention in self.attentions]
        return None if any(maxima is None for maxima in seen) else torch.stack(seen)

    def forget_max_logits(self) -> None:
        """Begin new maxima, as a clip does, for runs that record without clipping."""
        for attention in self.attentions:
            attention.max_logits = None

    def parameter_count(self) -> int:
        """Count the parameters, a tied head once."""
        return sum(parameter.numel() for parameter in self.parameters())

    def cache_bytes_per_token(self, dtype: torch.dtype = torch.bfloat16) -> int:
        """Count what one token leaves in all layers' caches."""
        return sum(attention.cache_bytes_per_token(dtype) for attention in self.attentions)

    def flops_per_byte(self, length: int | None = None, *, training: bool = False) -> int:
        """Count the matrix products' FLOPs for one byte in a sequence of ``length`` (context).

        A multiply-add counts as two. Scores are counted for all ``length`` keys, as torch's
        FlopCounterMode counts them, though half lie in the future. Training costs three forwards:
        the backward pass has two products for each one of the forward.
        """
        length = self.config.context if length is None else length
        linear = sum(m.weight.numel() for m in self.modules() if isinstance(m, nn.Linear))
        mixing = sum(
            a.heads * length * (a.logit_width + a.head_width) for a in self.attentions
        )  # q·k and weights·v
        return 2 * (linear + mixing) * (3 if training else 1)


def _sample(
    logits: Tensor, temperature: float, top_k: int | None, generator: torch.Generator | None
) -> Tensor:
    """Draw one byte for each row of logits (B, vocab); returns (B, 1)."""
    if temperature == 0:
        return logits.argmax(dim=-1, keepdim=True)
    logits = logits.float() / temperature  # (B, vocab)
    if top_k is not None:
        kept = logits.topk(min(top_k, logits.shape[-1]))  # (B, k): k of them where there are ties
        logits = torch.full_like(logits, -torch.inf).scatter(-1, kept.indices, kept.values)
    return torch.multinomial(logits.softmax(dim=-1), 1, generator=generator)
