"""Which parameters are matrices: told from what their modules are, on models of many kinds."""

import warnings

import pytest
import torch
from torch import nn

from muon_lab.model.gpt import GPT, GPTConfig
from muon_lab.muon import Muon
from muon_lab.split import describe, matrix_shape, split_parameters
from tests.assertions import assert_close


def names(model, muon=True, **options):
    """Return the names that go to Muon, or those that go to AdamW."""
    groups = split_parameters(model, **options)
    return {n for group in groups if group["use_muon"] == muon for n in group["names"]}


class Residual(nn.Module):
    """Two convolutions around a shortcut."""

    def __init__(self, width):
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, groups=width)

    def forward(self, x):
        return x + self.conv2(self.norm(self.conv1(x)).relu())


class ResNet(nn.Module):
    """A small residual network with a classifier of a name of its own."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.blocks = nn.Sequential(Residual(8), Residual(8))
        self.verdict = nn.Linear(8, 5)
        self.temperature = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return self.verdict(self.blocks(self.stem(x)).mean((2, 3))) * self.temperature


class HeadFirst(nn.Module):
    """A model whose output head is registered before its body."""

    def __init__(self):
        super().__init__()
        self.to_words = nn.Linear(8, 20, bias=False)
        self.body = nn.Linear(8, 8)
        self.positions = nn.Parameter(torch.zeros(4, 8))


@pytest.mark.parametrize("attention", ["mha", "gqa", "mla"])
@pytest.mark.parametrize("tied", [False, True])
def test_our_gpt(attention, tied):
    config = GPTConfig(layers=2, width=32, heads=4, context=8, attention=attention, tied=tied)
    model = GPT(config)
    muon = names(model)
    assert muon == {
        name for name, p in model.named_parameters() if name.startswith("blocks") and p.ndim == 2
    }
    others = names(model, muon=False)
    assert "embedding.weight" in others
    assert ("head.weight" in others) == (not tied)
    assert muon | others == {name for name, _ in model.named_parameters()}


def test_a_tied_weight_comes_once_and_is_an_embedding():
    model = nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 4), nn.Linear(4, 7, bias=False))
    model[2].weight = model[0].weight
    groups = split_parameters(model)
    assert groups[0]["names"] == ["1.weight"]
    assert groups[1]["names"] == ["0.weight", "1.bias"]
    assert groups[1]["kinds"][0] == "Embedding and Linear, output head"
    assert len(Muon(groups).param_groups) == 2


def test_a_head_that_is_tied_is_known_wherever_it_stands():
    model = HeadFirst()
    model.words = nn.Embedding(20, 8)
    model.to_words.weight = model.words.weight
    assert names(model) == {"body.weight"}


def test_torchs_transformer():
    model = nn.Transformer(16, 2, 1, 1, 32, batch_first=True)
    groups = split_parameters(model)
    by_heads = {group.get("heads"): set(group["names"]) for group in groups if group["use_muon"]}
    attentions = ("encoder.layers.0.self_attn", "decoder.layers.0.self_attn",
                  "decoder.layers.0.multihead_attn")  # fmt: skip
    assert by_heads[3] == {f"{name}.in_proj_weight" for name in attentions}
    plain = {f"{name}.out_proj.weight" for name in attentions}
    plain |= {f"{c}.layers.0.linear{i}.weight" for c in ("encoder", "decoder") for i in (1, 2)}
    assert by_heads[None] == plain
    model(torch.randn(1, 3, 16), torch.randn(1, 3, 16)).sum().backward()
    Muon(groups).step()
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_attention_with_key_and_value_widths_of_their_own():
    attention = nn.MultiheadAttention(8, 2, kdim=5, vdim=6, add_bias_kv=True)
    wanted = {"0.q_proj_weight", "0.k_proj_weight", "0.v_proj_weight", "0.out_proj.weight"}
    assert names(nn.ModuleList([attention])) == wanted


def test_a_resnet():
    model = ResNet()
    assert names(model) == {
        "stem.weight", "blocks.0.conv1.weight", "blocks.1.conv1.weight",
    }  # fmt: skip
    others = names(model, muon=False)
    assert {"temperature", "verdict.weight", "blocks.0.conv2.weight"} <= others
    optimizer = Muon(split_parameters(model), lr=0.02)
    images, labels = torch.randn(8, 3, 6, 6), torch.arange(8) % 5
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_a_head_that_cannot_be_told_is_named():
    assert names(HeadFirst(), head="to_words") == {"body.weight"}
    assert names(HeadFirst(), head=["to_words"]) == {"body.weight"}
    with pytest.warns(UserWarning, match="to_words"):
        assert names(HeadFirst(), head=()) == {"to_words.weight", "body.weight"}
    with pytest.raises(ValueError, match="to_word"):
        split_parameters(HeadFirst(), head="to_word")


def test_a_head_at_the_end_of_a_sequential_is_found():
    model = nn.ModuleDict(
        {
            "body": nn.Linear(4, 4),
            "classifier": nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 3), nn.Softmax(-1)),
        }
    )
    assert names(model) == {"body.weight"}


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda m: torch.compile(m, backend="eager")])
def test_wrapped_models_are_looked_into(wrap):
    bare = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3))
    assert {name.split(".", 1)[1] for name in names(wrap(bare))} == {"0.weight"}


def test_a_model_that_is_another_models_only_part_is_looked_into():
    class Lesson(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = ResNet()
            self.loss = nn.CrossEntropyLoss()

    assert "model.verdict.weight" in names(Lesson(), muon=False)
    assert "model.stem.weight" in names(Lesson())


def test_an_mlp_in_a_list_ends_with_its_head_but_a_lone_block_in_one_does_not():
    class Body(nn.Module):
        def __init__(self, *layers):
            super().__init__()
            self.layers = nn.ModuleList(layers)

    assert names(Body(nn.Linear(4, 4), nn.Linear(4, 3))) == {"layers.0.weight"}
    block = nn.ModuleDict({"up": nn.Linear(4, 8), "down": nn.Linear(8, 4)})
    assert names(Body(block)) == {"layers.0.up.weight", "layers.0.down.weight"}


def test_a_named_head_may_be_a_module_that_holds_it():
    model = HeadFirst()
    model.to_words = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 20))
    assert names(model, head="to_words") == {"body.weight"}


def test_a_model_without_parameters_has_no_groups():
    assert split_parameters(nn.ReLU()) == []
    assert describe([]) == ""


def test_what_is_left_to_adamw_though_it_looks_like_a_matrix_is_named_with_muons_share():
    model = nn.Sequential(nn.LSTM(4, 4), nn.Bilinear(4, 4, 2), nn.Conv2d(2, 2, 3, bias=False))
    with pytest.warns(UserWarning, match=r"Muon 16%.*ih_l0 \(16, 4\).*1.weight \(2, 4, 4\)"):
        groups = split_parameters(model)
    assert [group["names"] for group in groups if group["use_muon"]] == [["2.weight"]]
    assert "positions" in names(HeadFirst(), muon=False)


def test_transposed_convolutions_and_groups_of_several_rows_are_matrices():
    model = nn.ModuleList([
        nn.ConvTranspose2d(6, 4, 3), nn.Conv2d(8, 8, 3, groups=2), nn.Conv2d(8, 8, 3, groups=8)
    ])  # fmt: skip
    groups = split_parameters(model)
    shapes = {
        name: matrix_shape(p.shape, group["kernels"], group.get("heads"))
        for group in groups if group["use_muon"]
        for name, p in zip(group["names"], group["params"], strict=True)
    }  # fmt: skip
    assert shapes == {"0.weight": (6, 36), "1.weight": (2, 4, 36)}


class Experts(nn.Module):
    """A mixture of experts whose weights are one parameter per projection, as in transformers."""

    def __init__(self):
        super().__init__()
        self.num_experts = 4
        self.gate_up = nn.Parameter(torch.randn(4, 12, 8))
        self.down = nn.Parameter(torch.randn(4, 8, 6))

    def forward(self, x):
        gate, up = torch.einsum("eoi,ti->eto", self.gate_up, x).chunk(2, dim=-1)
        return torch.einsum("eoi,eti->to", self.down, gate.sigmoid() * up)


def test_stacks_of_experts_are_muons_and_each_matrix_is_orthogonalized_alone():
    model = nn.ModuleList([Experts(), nn.Linear(8, 8)])
    with pytest.warns(UserWarning, match=r"0.gate_up \(4, 12, 8\)"):
        assert names(model, head=()) == {"0.gate_up", "0.down", "1.weight"}
    groups = split_parameters(model, matrices={"gate_up": {"rows": (6, 6)}}, head=())
    exact = {"ns_coefficients": "convergent", "ns_steps": 40, "ns_dtype": torch.float64}
    optimizer = Muon(groups, lr=1.0, weight_decay=0.0, **exact)
    before = model[0].gate_up.detach().clone()
    model[1](model[0](torch.randn(5, 8))).square().sum().backward()
    optimizer.step()
    update = (before - model[0].gate_up.detach()).view(8, 6, 8)  # 4 experts, gate and up
    # Five tokens span five directions of each matrix: there every stretch is 1.
    assert_close(torch.linalg.svdvals(update)[:, :5], torch.ones(8, 5), atol=1e-3)


def test_a_stack_of_an_unknown_module_is_named_and_can_be_declared():
    class Mixture(nn.Module):
        def __init__(self):
            super().__init__()
            self.weights = nn.Parameter(torch.randn(3, 6, 4))

    model = nn.ModuleList([Mixture(), nn.Linear(4, 4)])
    with pytest.warns(UserWarning, match=r"Muon 0%.*0.weights \(3, 6, 4\)"):
        split_parameters(model)
    assert names(model, matrices={Mixture: {}}) == {"0.weights"}
    assert names(model, matrices={"weights": {}, "1": {}}) == {"0.weights", "1.weight"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert names(model, matrices={Mixture: None}) == set()


class StoredTransposed(nn.Module):
    """A third party's layer whose weight is (in, out), as transformers' Conv1D is."""

    def __init__(self, width, out):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width, out) / 8)

    def forward(self, x):
        return x @ self.weight


def test_fused_and_transposed_weights_step_as_the_matrices_that_they_hold():
    # Query, key and value where four heads share two keys: 8 + 4 + 4 rows of 8 columns in one.
    fused, parts = StoredTransposed(8, 16), [nn.Linear(8, n, bias=False) for n in (8, 4, 4)]
    with torch.no_grad():
        for part, rows in zip(parts, fused.weight.T.split((8, 4, 4)), strict=True):
            part.weight.copy_(rows)
    options = {"lr": 0.1, "ns_dtype": torch.float64}
    how = {StoredTransposed: {"transposed": True, "rows": (8, 4, 4)}}
    whole = Muon(split_parameters(nn.ModuleList([fused]), matrices=how), **options)
    apart = Muon([part.weight for part in parts], **options)
    for seed in range(3):
        x = torch.randn(5, 8, generator=torch.Generator().manual_seed(seed))
        for optimizer, out in ((whole, fused(x)), (apart, torch.cat([p(x) for p in parts], -1))):
            optimizer.zero_grad()
            out.square().sum().backward()
            optimizer.step()
    assert_close(fused.weight.T, torch.cat([part.weight for part in parts]), atol=1e-6)


@pytest.mark.parametrize("rows", [24, 16])  # three whole matrices, or keys and values shared
def test_a_fused_projection_is_named_for_its_name_or_its_shapes(rows):
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.mixed = nn.Linear(8, rows)
            self.out = nn.Linear(8, 8)

    model = nn.ModuleList([Attention(), nn.ModuleDict({"gate_up_proj": nn.Linear(8, 32)})])
    with pytest.warns(UserWarning, match=rf"0.mixed.weight \({rows}, 8\), 1.gate_up_proj.weight"):
        split_parameters(model, head=())
    said = {"mixed": {"rows": (8, (rows - 8) // 2, (rows - 8) // 2)}, "gate_up_proj": {}}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "0.mixed.weight" in names(model, head=(), matrices=said)


def test_what_has_no_shape_is_refused_with_what_to_do():
    with pytest.raises(ValueError, match=r"0.weight is not initialized: run one forward"):
        split_parameters(nn.Sequential(nn.LazyLinear(4), nn.Linear(4, 4)))
    flat = nn.Linear(4, 4)
    flat.weight._is_flat_param = True
    with pytest.raises(ValueError, match=r"weight was flattened.*fully_shard"):
        split_parameters(flat)
    with pytest.raises(TypeError, match=r"torch\.nn\.Module; got str"):
        split_parameters("model")
    with pytest.raises(ValueError, match=r"'verdikt'.*verdict"):
        split_parameters(ResNet(), matrices={"verdikt": {}})


def test_frozen_parameters_keep_their_place():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)).requires_grad_(False)
    assert names(model) == {"0.weight", "1.weight"}


def test_the_table_has_a_line_for_each_parameter():
    model = ResNet()
    lines = describe(split_parameters(model)).splitlines()
    assert len(lines) == len(list(model.parameters()))
    line = next(line for line in lines if line.startswith("verdict.weight"))
    assert line.split(maxsplit=3)[0] == "verdict.weight"
    assert "(5, 8)" in line
    assert line.endswith("AdamW  Linear, output head")
