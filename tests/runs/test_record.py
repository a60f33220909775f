import errno
import json
import os
import resource
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from example_runs import example_content, make_run

from muon_lab.runs.record import (
    Run,
    check_writable,
    load,
    load_all,
    problems_in,
    write_atomically,
)

RECORDED = sorted((Path(__file__).parents[2] / "data" / "runs").rglob("*.json"))


def test_a_saved_run_is_loaded_exactly(tmp_path):
    random = np.random.default_rng(0)
    gamma, logits = random.random((3, 2, 2)), 1e4 * random.random((3, 2, 2))
    run = make_run(np.exp(random.random(5)), gamma=gamma, max_logit=logits)
    again = load(run.save(tmp_path / "new" / "run.json"))
    assert (again.config, again.provenance) == (run.config, run.provenance)
    assert (again.samples, again.costs) == (run.samples, run.costs)
    assert again.curves.keys() == run.curves.keys()
    for name, curve in run.curves.items():
        np.testing.assert_array_equal(again.curves[name], curve)


def test_a_record_keeps_six_digits():
    run = make_run(max_logit=np.full((1, 1, 1), 1234.56789))
    assert run.curves["max_logit"].item() == 1234.57


def test_a_file_is_small_and_has_one_curve_per_line(tmp_path):
    logits = np.random.default_rng(0).random((300, 4, 4))
    path = make_run(max_logit=logits).save(tmp_path / "r.json")
    lines = path.read_text().splitlines()
    assert path.stat().st_size < 100_000
    assert [line for line in lines if line.startswith('  "valid_step": [0,10]')]


def test_missing_curves_are_named():
    with pytest.raises(ValueError, match="valid_loss, valid_bytes"):
        Run({}, {}, {"loss": [1], "valid_step": [1], "valid_seconds": [1]})


@pytest.mark.parametrize("bad", [[np.nan], [np.inf], [10**400], [[1], [1, 2]], ["1"], [None], 3.0])
def test_a_curve_that_is_no_array_of_finite_numbers_is_refused(bad):
    with pytest.raises(ValueError, match="'max_logit'"):
        make_run(max_logit=bad)


def test_the_bytes_to_a_loss_are_interpolated_linearly():
    run = make_run((4.0, 2.0, 1.0))
    assert run.to_loss(3.0) == pytest.approx(50)
    assert run.to_loss(1.5, "seconds") == pytest.approx(15)
    assert run.to_loss(5.0) == 0
    assert run.to_loss(0.5) is None
    with pytest.raises(ValueError, match=r"bytes, steps, seconds.*'byte'"):
        run.to_loss(3.0, "byte")


def test_bits_per_byte_are_nats_over_log_2():
    assert make_run((4.0, np.log(2))).bits_per_byte == pytest.approx(1, abs=1e-5)


# What a file may hold.


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_recorded_run_is_complete_small_and_says_where_it_was_made(path):
    run = load(path)  # which asks `problems_in`
    provenance, on_cpu = run.provenance, run.config["device"] == "cpu"
    assert path.stat().st_size < (100_000 if on_cpu else 1_500_000)  # each head at each step
    assert provenance["commit"] and "changes" not in provenance["commit"]
    assert provenance["command"].startswith("python -m muon_lab.training --preset")


def test_complete_content_has_no_problem():
    assert list(problems_in(example_content())) == []


LOST = [
    "config.lr",
    "config.weight_decay",
    "config.clip_norm",
    "provenance.device",
    "provenance.commit",
    "provenance.corpus.sha256",
    "provenance.spectra.quantiles",
    "curves.valid_bytes",
    "curves.valid_step",
    "curves.grad_norm",
    "costs.optimizer_share",
    "costs.state_bytes.optimizer",
    "samples.after",
    "costs",
]


@pytest.mark.parametrize("field", LOST)
def test_a_lost_field_is_named(field):
    data = part = example_content()
    *parents, last = field.split(".")
    for name in parents:
        part = part[name]
    del part[last]
    assert f"{field} is missing" in list(problems_in(data))


@pytest.mark.parametrize(
    ("part", "name", "value", "sentence"),
    [
        ("config", "lr", "fast", "config.lr must be int | float; got 'fast'"),
        ("config", "compile", 1, "config.compile must be bool; got 1"),
        ("config", "seed", True, "config.seed must be int; got True"),
        ("config", "lr", float("nan"), "config.lr must be a finite number"),
        ("config", "seed", 10**400, "config.seed must be a finite number"),
        ("provenance", "corpus", [], "provenance.corpus must be dict; got []"),
        ("provenance", "date", "today", "provenance.date must be like 2026-"),
        ("provenance", "date", "0001-01-01T00:00:00+02:00", "provenance.date must be like 2026-"),
        ("curves", "loss", [1.0], "curves.loss must have shape (3,), (steps); got (1,)"),
        ("curves", "valid_loss", [1, 2, 3], "curves.valid_loss must have shape (2,)"),
        ("curves", "max_logit", [[1, 2]] * 3, "curves.max_logit must have shape (3, 2, 2)"),
        ("curves", "rare_share", [[1], [1, 2]], "curves.rare_share must be a list of finite"),
        ("curves", "loss", [1.0, None, 2.0], "curves.loss must be a list of finite numbers"),
        ("curves", "loss", [1.0, {}, 2.0], "curves.loss must be a list of finite numbers"),
        ("curves", "loss", [1.0, 10**400, 2.0], "curves.loss must be a list of finite numbers"),
        ("curves", "of another", 5, "curves.of another must be a list of finite numbers"),
        ("curves", "valid_step", [], "curves.valid_step is empty"),
        ("costs", "peak_memory_bytes", None, "costs.peak_memory_bytes must be int; got None"),
    ],
)
def test_a_wrong_field_is_named_with_what_was_expected(part, name, value, sentence):
    data = example_content()
    data[part][name] = value
    assert [problem for problem in problems_in(data) if problem.startswith(sentence)]


def test_a_part_of_the_wrong_type_is_reported_alone():
    assert list(problems_in(example_content() | {"curves": []})) == ["curves must be dict; got []"]


# Reading.


def altered(tmp_path, change):
    path = make_run().save(tmp_path / "run.json")
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    return path


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda data: data["curves"].pop("valid_loss"), "curves.valid_loss is missing"),
        (lambda data: data.update(version=9), "'version': 2.*'version': 9"),
        (lambda data: data.update(version=1), "'version': 2.*'version': 1"),
        (lambda data: data.pop("version"), "'version': None"),
        (lambda data: data.pop("provenance"), "provenance is missing"),
        (lambda data: data.pop("costs"), "costs is missing"),
        (lambda data: data.pop("format"), "'muon_lab run'.*'format': None"),
        (lambda data: data["config"].update(lr=10**400), "config.lr must be a finite"),
        (lambda data: data["curves"].update(loss=[10**400] * 3), "curves.loss must be a list"),
    ],
)
def test_a_wrong_file_says_what_is_wrong_and_what_to_do(tmp_path, change, sentence):
    with pytest.raises(ValueError, match=rf"run.json.*{sentence}.*record it again"):
        load(altered(tmp_path, change))


@pytest.mark.parametrize(
    "text", [b"", b"{", b"\xff\xfe", b"[" * 10**5, b"9" * 5000], ids=lambda text: text[:2]
)
def test_a_file_that_is_no_json_is_refused_by_name(tmp_path, text):
    (tmp_path / "run.json").write_bytes(text)
    with pytest.raises(ValueError, match=r"run.json.*record it again"):
        load(tmp_path / "run.json")


def test_a_file_cut_short_is_refused(tmp_path):
    path = make_run().save(tmp_path / "run.json")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"run.json.*cut short"):
        load(path)


@pytest.fixture
def fifo(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    return tmp_path / "pipe.json"


def test_what_is_no_file_is_refused_and_the_neighbours_are_named(tmp_path, fifo):
    make_run().save(tmp_path / "near.json")
    for path, problem in {
        tmp_path / "far.json": "No such file",
        tmp_path: "not a regular file",
        fifo: "not a regular file",
    }.items():
        with pytest.raises(ValueError, match=problem):
            load(path)
    with pytest.raises(ValueError, match=r"beside it: near.json"):
        load(tmp_path / "far.json")


def test_a_folder_is_loaded_in_the_order_of_its_names(tmp_path):
    for seed in (1, 0, 2):
        make_run(seed=seed).save(tmp_path / f"adamw-seed{seed}.json")
    assert [run.config["seed"] for run in load_all(tmp_path, "adamw-*.json")] == [0, 1, 2]


@pytest.mark.parametrize(
    ("folder", "pattern", "named"),
    [(".", "muon-*.json", "muon-"), ("nowhere", "*.json", "nowhere"), ("a.json", "*", "a.json")],
)
def test_a_folder_without_runs_is_named(tmp_path, folder, pattern, named):
    make_run().save(tmp_path / "a.json")
    with pytest.raises(ValueError, match=named):
        load_all(tmp_path / folder, pattern)


# Writing.


def write(path, text):
    with write_atomically(path) as file:
        file.write(text.encode())


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "new" / "folder" / "a.txt"
    with write_atomically(path) as file:
        file.write(b"whole")
        assert not path.exists()
    assert path.read_bytes() == b"whole"
    assert names_in(path.parent) == ["a.txt"]


@pytest.mark.parametrize("error", [KeyError("a bug"), KeyboardInterrupt(), RuntimeError("no disk")])
def test_an_error_during_a_write_is_raised_and_leaves_the_old_file(tmp_path, error):
    path = tmp_path / "a.txt"
    write(path, "old")
    with pytest.raises(type(error)) as raised, write_atomically(path) as file:
        file.write(b"new and longer")
        raise error
    assert raised.value is error
    assert (path.read_text(), names_in(tmp_path)) == ("old", ["a.txt"])


@contextmanager
def full_disk():
    """Let no file grow beyond 100 bytes; within the test, as pytest's own report is a file too."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("old", ["", "old"])
def test_a_full_disk_is_named_and_leaves_the_old_file(tmp_path, old):
    path = tmp_path / "a.txt"
    if old:
        path.write_text(old)
    words = r"cannot write a\.txt in .*: File too large"
    with full_disk(), pytest.raises(OSError, match=words) as raised:
        write(path, "new" * 100)
    assert ("the previous file is intact" in str(raised.value)) == bool(old)
    assert names_in(tmp_path) == ["a.txt"] * bool(old)
    assert not old or path.read_text() == old


def test_the_cause_is_found_behind_an_error_that_hides_it(tmp_path):
    with (
        pytest.raises(OSError, match="No space left"),
        write_atomically(tmp_path / "a.txt"),
    ):
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError:
            raise RuntimeError("unexpected position")  # noqa: B904 (torch.save does the same)


def test_readers_never_see_a_mixture_of_two_writers(tmp_path):
    path = tmp_path / "a.txt"
    texts = ["a" * 200_000, "b" * 100_000]
    write(path, texts[0])
    with ThreadPoolExecutor(2) as pool:
        writers = [pool.submit(lambda text: [write(path, text) for _ in range(30)], text)
                   for text in texts]  # fmt: skip
        seen = set()
        while not all(writer.done() for writer in writers):
            seen.add(path.read_text())
    assert [writer.result() for writer in writers] == [[None] * 30] * 2
    assert seen <= set(texts)
    assert names_in(tmp_path) == ["a.txt"]


def test_a_link_is_followed_and_stays(tmp_path):
    (tmp_path / "disk").mkdir()
    for name in ("there.txt", "not_yet.txt"):
        link, target = tmp_path / f"link to {name}", tmp_path / "disk" / name
        if name == "there.txt":
            target.write_text("old")
        link.symlink_to(target)
        write(link, "new")
        assert link.is_symlink() and target.read_text() == "new"
    assert names_in(tmp_path / "disk") == ["not_yet.txt", "there.txt"]


def test_a_written_file_has_the_permissions_of_any_new_file(tmp_path):
    (tmp_path / "plain.txt").write_text("")
    write(tmp_path / "a.txt", "")
    assert (tmp_path / "a.txt").stat().st_mode == (tmp_path / "plain.txt").stat().st_mode


@pytest.mark.parametrize("through_link", [False, True])
def test_what_is_no_regular_file_is_never_replaced(tmp_path, fifo, through_link):
    (tmp_path / "link").symlink_to(fifo)
    path = tmp_path / "link" if through_link else fifo
    for refuse in (check_writable, lambda path: write(path, "new"), make_run().save):
        with pytest.raises(OSError, match="not a regular file"):
            refuse(path)
    assert fifo.is_fifo() and names_in(tmp_path) == ["link", "pipe.json"]


def test_checking_leaves_nothing_but_the_folder(tmp_path):
    assert check_writable(tmp_path / "new" / "a.txt") == tmp_path / "new" / "a.txt"
    assert names_in(tmp_path / "new") == []


def test_checking_leaves_an_existing_file(tmp_path):
    write(tmp_path / "a.txt", "old")
    check_writable(tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_text() == "old"


@pytest.mark.parametrize(
    ("name", "reason"),
    [("file/a.txt", "Not a directory|File exists"), ("folder", "not a regular file")],
)
def test_a_path_that_cannot_be_written_is_refused(tmp_path, name, reason):
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match=rf"cannot write .*({reason}).*choose another file"):
        check_writable(tmp_path / name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OSError, match="Permission denied"):
        check_writable(tmp_path / "a.txt")
