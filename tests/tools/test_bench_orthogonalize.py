"""The ways are timed side by side, counted and recorded; how fast any is, is not tested here."""

import json

import bench_orthogonalize
import pytest
import torch
from bench_orthogonalize import SVD, Timing, flops, main, ways

from muon_lab.orthogonalize import polar_factor
from muon_lab.roofline import COSTS, Machine

MACHINE = Machine(call_seconds=1e-6, bytes_per_second=1e10, flops_per_second=1e12)


def test_every_way_orthogonalizes_the_stack():
    stack = torch.randn(2, 8, 32)
    exact = polar_factor(stack)
    for name, run in ways(stack, compiled=False).items():
        result = run()
        result = torch.stack(list(result)) if isinstance(result, list) else result
        far = (result.float() - exact).norm() / exact.norm()
        assert far < 0.3, name


def test_a_large_stack_is_spared_the_svd(monkeypatch):
    assert SVD in ways(torch.randn(1, 4, 8), compiled=False)
    monkeypatch.setattr(bench_orthogonalize, "SVD_NUMBERS", 31)
    assert SVD not in ways(torch.randn(1, 4, 8), compiled=False)


def test_the_table_shows_counts_times_and_the_share_of_the_roof():
    seconds = {"standard": [0.002, 0.001, 0.003], "Gram form": [0.001] * 3, SVD: [0.02] * 3}
    timing = Timing((2, 128, 512), seconds, MACHINE)
    lines = [line.split() for line in str(timing).splitlines()]
    assert lines[0] == ["2", "of", "128×512", "FLOPs", "symmetric", "time", "GFLOP/s", "roof"]
    assert lines[1] == ["standard", "1.00", "0.72", "1.00", "189", "28%"]  # roof 10 GB/s · 67.8
    assert lines[2][:5] == ["Gram", "form", "0.78", "0.52", "0.50"]
    assert lines[3][0:4] == ["SVD", "0.58", "0.58", "10.00"]
    assert timing.speed("standard") == pytest.approx(2 * 90 * 128**3 / 0.002)


def test_ways_without_a_cost_of_their_own_are_the_standard_form():
    for name in ways(torch.randn(1, 4, 8), compiled=False):
        if name not in COSTS and name != SVD:
            assert flops(name, 4, 8) == COSTS["standard"].flops(4, 8)


def test_the_command_line_prints_draws_and_records(capsys, tmp_path):
    files = tmp_path / "new" / "roof.png", tmp_path / "new" / "roof.json"
    words = "--device cpu --seconds 0 --sizes 8 16 --stacks 2x8x16 1x8x8"
    main([*words.split(), "--plot", str(files[0]), "--json", str(files[1])])
    printed = capsys.readouterr().out
    assert "copy: " in printed and "2 of 8×16" in printed and "Turbo-Muon" in printed
    assert files[0].read_bytes().startswith(b"\x89PNG")
    record = json.loads(files[1].read_text())
    assert {"date", "python", "commit", "torch", "processor", "threads"} < record.keys()
    assert record["machine"]["flops_per_second"] > 0
    assert [one["stack"] for one in record["tables"]] == [[2, 8, 16], [1, 8, 8]]
    assert all(one["text"] in printed and one["rounds"] == 3 for one in record["tables"])
    assert record["rates"] in printed


def test_compiling_without_a_compiler_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(bench_orthogonalize.shutil, "which", lambda name: None)
    with pytest.raises(SystemExit):
        main(["--compiled"])
    assert "needs a C compiler" in capsys.readouterr().err
