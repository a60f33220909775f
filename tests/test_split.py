"""Which parameters are matrices: told from what their modules are, on models of many kinds."""

import pytest
import torch
from torch import nn

from muon_lab.model.gpt import GPT, GPTConfig
from muon_lab.muon import Muon
from muon_lab.split import describe, split_parameters


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
    assert names(HeadFirst(), head=()) == {"to_words.weight", "body.weight"}
    with pytest.raises(AttributeError, match="to_word"):
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


def test_what_is_left_goes_to_adamw():
    model = nn.Sequential(nn.LSTM(4, 4), nn.Bilinear(4, 4, 2), nn.ConvTranspose2d(2, 2, 3))
    assert names(model) == set()
    assert [group["use_muon"] for group in split_parameters(model)] == [False]
    assert "positions" in names(HeadFirst(), muon=False)


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
