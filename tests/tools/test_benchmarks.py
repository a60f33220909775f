"""The benchmarks time what they say and record it; how fast anything is, is not tested here."""

import json

import benchmarks
import pytest
import torch
from benchmarks import Case, Timing, cases, main, measure, plain_loop

from muon_lab.model.gpt import GPTConfig
from muon_lab.muon import Muon
from tests.assertions import assert_close

SMALL = Case("small", GPTConfig(layers=1, width=32, heads=2, context=8), batch=1, tokens=8)


def test_a_measurement_has_all_contenders_and_the_same_rounds():
    timing = measure(SMALL, seconds=0.0)
    assert list(timing.seconds) == [
        "muon_lab's Muon", "torch.optim.Muon", "Muon in a plain loop", "torch.optim.AdamW",
        "our Newton–Schulz", "torch's Newton–Schulz", "forward and backward",
    ]  # fmt: skip
    assert {len(taken) for taken in timing.seconds.values()} == {3}
    assert all(second > 0 for taken in timing.seconds.values() for second in taken)


def test_the_table_shows_medians_and_ratios():
    seconds = {
        benchmarks.OURS: [0.001, 0.002, 0.9],
        benchmarks.TORCH: [0.006] * 3,
        benchmarks.LOOP: [0.012] * 3,
        benchmarks.ADAMW: [0.001] * 3,
        benchmarks.OUR_ITERATION: [0.001] * 3,
        benchmarks.TORCH_ITERATION: [0.005] * 3,
        benchmarks.TRAIN: [0.1] * 3,
    }
    timing = Timing(SMALL, "NVIDIA H100 80GB HBM3", seconds)
    assert timing.ratio(benchmarks.TORCH, benchmarks.OURS) == pytest.approx(3.0)
    lines = str(timing).splitlines()
    assert lines[0] == "small: 4 of 32×32, 1 of 128×32, 1 of 32×128"
    assert "1 × 8 tokens" in lines[1]
    shares = [line.split()[-1] for line in lines[3:10]]
    assert shares == ["2.0%", "6.0%", "12.0%", "1.0%", "1.0%", "5.0%", "100.0%"]
    assert "3.00 ×" in lines[3] and "1.00 ×" in lines[4] and "0.50 ×" in lines[5]
    assert "×" not in lines[6]
    flops = 5 * (4 * 6 * 32**3 + 2 * (4 * 32**2 * 128 + 2 * 32**3))
    assert timing.flops_per_second()[benchmarks.OUR_ITERATION] == pytest.approx(flops / 0.001)
    assert lines[10] == "our Newton–Schulz: 0.00983 TFLOP/s, 0% of the chip's 989"


def test_both_newton_schulz_do_the_same_work():
    grads = [torch.randn(shape) for shape in ((12, 12), (24, 12), (12, 12))]
    ours, theirs = (run() for run in benchmarks.orthogonalizations(grads).values())
    for got, wanted in zip((*ours[0], *ours[1]), (theirs[0], theirs[2], theirs[1]), strict=True):
        assert_close(got.float(), wanted.float(), atol=0.03)  # bfloat16


def test_the_plain_loop_is_muon():
    ours, theirs = ([torch.nn.Parameter(torch.ones(12, 12))] for _ in range(2))
    ours[0].grad = theirs[0].grad = torch.randn(12, 12)
    plain_loop(ours)()
    Muon(theirs, lr=1e-3, ns_dtype=torch.bfloat16).step()
    assert_close(ours[0], theirs[0], atol=1e-6)


def test_the_cases_are_the_presets():
    shapes = {name: case.shapes() for name, case in cases().items()}
    assert {name: len(each) for name, each in shapes.items()} == {
        "cpu": 24, "gpu": 60, "gpu-124m": 72,
    }  # fmt: skip
    assert set(shapes["cpu"]) == {(128, 128), (512, 128), (128, 512)}
    numbers = sum(rows * columns for rows, columns in shapes["gpu-124m"])
    assert numbers == 84_934_656  # GPT-2 small's


@pytest.mark.parametrize(("device", "size"), [("cpu", (1, 256)), ("cuda", (32, 1024))])
def test_a_cpu_gives_a_large_model_a_small_batch(device, size):
    case = cases(device)["gpu-124m"]
    assert (case.batch, case.tokens) == size


def test_the_command_line_prints_a_table_and_records_it(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(benchmarks, "cases", lambda device: {"cpu": SMALL})
    file = tmp_path / "records" / "cpu.json"
    main(["--device", "cpu", "--seconds", "0", "--case", "cpu", "--json", str(file)])
    printed = capsys.readouterr().out
    assert printed.startswith("small: 4 of 32×32")
    assert "torch.optim.AdamW" in printed
    record = json.loads(file.read_text())
    assert record.keys() == {"date", "python", "commit", "torch", "tables"}
    (table,) = record["tables"]
    assert table["text"] == printed.strip()
    assert table["rounds"] == 3
    assert table["shapes"] == [[32, 32]] * 4 + [[128, 32], [32, 128]]
    assert table["median_seconds"].keys() > {"muon_lab's Muon", "torch.optim.Muon"}
    assert table["flops_per_second"].keys() == {"our Newton–Schulz", "torch's Newton–Schulz"}
    assert table["peak_flops_per_second"] is None


def test_blocks_of_any_width_can_be_timed(capsys):
    main(["--device", "cpu", "--seconds", "0", "--width", "64", "128"])
    tables = capsys.readouterr().out.strip().split("\n\n")
    assert [table.splitlines()[0] for table in tables] == [
        f"One block of width {w}: 4 of {w}×{w}, 1 of {4 * w}×{w}, 1 of {w}×{4 * w}"
        for w in (64, 128)
    ]


def test_a_compiled_step_takes_its_turn_too(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda step: step)
    timing = measure(SMALL, seconds=0.0, compiled=True)
    assert list(timing.seconds)[:3] == [benchmarks.OURS, benchmarks.COMPILED, benchmarks.TORCH]
    assert "×" in next(line for line in str(timing).splitlines() if "compiled" in line)
