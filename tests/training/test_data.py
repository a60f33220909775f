import itertools

import pytest
import torch

from muon_lab.training.data import batches, load_corpus, main, windows, xz_bits_per_byte


@pytest.fixture(scope="module")
def library():
    return load_corpus()


@pytest.fixture
def folder(tmp_path):
    """Forty small text files, a binary one, an empty one and a hidden one."""
    for number in range(40):
        (tmp_path / f"part{number % 3}").mkdir(exist_ok=True)
        (tmp_path / f"part{number % 3}" / f"{number}.txt").write_text(f"<{number}>" * 20)
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\0\0")
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "config").write_text("hidden" * 20)
    return tmp_path


def noise(size):
    return torch.randint(256, (size,), generator=torch.Generator().manual_seed(0)).byte()


def as_bytes(tensor):
    return tensor.numpy().tobytes()


def test_the_standard_library_is_some_ten_megabytes_with_about_a_tenth_held_out(library):
    total = library.train.numel() + library.valid.numel()
    assert 5e6 < total < 30e6
    assert 0.05 < library.valid.numel() / total < 0.2
    assert library.train_files + library.valid_files > 300


def test_tests_and_installed_packages_are_excluded(library):
    both = as_bytes(library.train) + as_bytes(library.valid)
    assert b"class TestLoader" in both  # unittest/loader.py: part of the library itself
    assert b"class TestHeapPython" not in both  # test/test_heapq.py
    assert b"def newton_schulz" not in both  # site-packages


def test_what_each_build_writes_of_itself_is_excluded(folder, monkeypatch):
    monkeypatch.setattr("sysconfig.get_path", lambda _: folder)
    for name in ("this.py", "that/this.py", "_sysconfigdata__linux_.py", "config-3.11/config.py"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(f"# {name} of one machine")
    first = load_corpus()
    for name in ("_sysconfigdata__linux_.py", "config-3.11/config.py"):
        (folder / name).write_text("# and of another")
    assert first.train_files + first.valid_files == 2
    assert load_corpus().sha256 == first.sha256


def test_loading_twice_gives_the_same_bytes_and_hash(library):
    again = load_corpus()
    assert again.sha256 == library.sha256
    assert torch.equal(again.train, library.train) and torch.equal(again.valid, library.valid)


def test_files_are_held_out_whole(folder):
    corpus = load_corpus(folder)
    assert corpus.train_files + corpus.valid_files == 40
    for number in range(40):
        text = f"<{number}>".encode()
        counts = as_bytes(corpus.train).count(text), as_bytes(corpus.valid).count(text)
        assert counts in {(20, 0), (0, 20)}


def test_hidden_binary_and_empty_files_are_left_out(folder):
    corpus = load_corpus(folder)
    both = as_bytes(corpus.train) + as_bytes(corpus.valid)
    assert b"hidden" not in both and b"PNG" not in both


def test_another_file_moves_no_file_from_training_to_validation(folder):
    before = load_corpus(folder)
    (folder / "part0" / "another.txt").write_text("another" * 20)
    after = load_corpus(folder)
    without = [as_bytes(text).replace(b"another" * 20, b"") for text in (after.train, after.valid)]
    assert without == [as_bytes(before.train), as_bytes(before.valid)]
    assert after.sha256 != before.sha256


def test_a_folder_too_small_for_the_hash_still_holds_one_file_out(tmp_path):
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(name * 50)
    corpus = load_corpus(tmp_path)
    assert (corpus.train_files, corpus.valid_files) == (1, 1)


def test_a_single_file_gives_its_last_tenth(tmp_path):
    (tmp_path / "book.txt").write_text("a" * 900 + "b" * 100)
    corpus = load_corpus(tmp_path / "book.txt")
    assert as_bytes(corpus.train) == b"a" * 900 and as_bytes(corpus.valid) == b"b" * 100
    assert corpus.name == "book.txt"


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({}, "0 files"),
        ({"picture.png": b"\x89PNG\0"}, "1 of them binary and 0 empty"),
        ({"empty.txt": b""}, "0 of them binary and 1 empty"),
        ({"short.txt": b"word"}, "too short"),
    ],
)
def test_a_folder_without_text_says_what_was_there(tmp_path, files, sentence):
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=sentence):
        load_corpus(tmp_path)


@pytest.mark.parametrize("path", ["nowhere", ""])
def test_a_missing_path_says_so_and_what_would_work(path):
    with pytest.raises(ValueError, match=f"no corpus at '{path}'.*file or folder; name a text"):
        load_corpus(path)


@pytest.mark.parametrize("cut", [batches, windows])
def test_a_text_shorter_than_a_context_is_refused_at_once(cut):
    size = {"batch": 2, "seed": 0} if cut is batches else {"number": 2}
    with pytest.raises(ValueError, match="a context of 8 needs at least 9 bytes"):
        cut(torch.zeros(8, dtype=torch.uint8), context=8, **size)


def test_targets_are_the_next_bytes_of_the_text():
    text = noise(500)
    for inputs, targets in itertools.islice(batches(text, batch=4, context=16, seed=1), 5):
        assert inputs.dtype == targets.dtype == torch.int64
        assert torch.equal(inputs[:, 1:], targets[:, :-1])
        assert all(as_bytes(row.byte()) in as_bytes(text) for row in inputs)


def test_batches_depend_on_seed_and_number_alone():
    text = noise(5_000)
    size = {"batch": 4, "context": 16}
    first = [inputs for inputs, _ in itertools.islice(batches(text, seed=3, **size), 6)]
    late = [inputs for inputs, _ in itertools.islice(batches(text, seed=3, start=4, **size), 2)]
    other, _ = next(batches(text, seed=4, **size))
    assert torch.equal(torch.stack(first[4:]), torch.stack(late))
    assert not torch.equal(first[0], other) and not torch.equal(first[0], first[1])


def test_every_byte_can_be_drawn_the_last_one_too():
    text = torch.arange(10, dtype=torch.uint8)
    drawn = itertools.islice(batches(text, batch=8, context=4, seed=0), 20)
    assert {int(byte) for _, targets in drawn for byte in targets.flatten()} == set(range(1, 10))


def test_windows_span_the_text_evenly():
    text = torch.arange(101, dtype=torch.uint8)
    inputs, targets = windows(text, number=5, context=20)
    assert inputs[:, 0].tolist() == [0, 20, 40, 60, 80]
    assert targets[-1, -1] == 100


def test_xz_tells_noise_from_repetition():
    assert xz_bits_per_byte(noise(20_000)) == pytest.approx(8, abs=0.1)
    assert xz_bits_per_byte(torch.arange(20_000).remainder(7).byte()) < 0.1


def test_a_copy_of_the_library_has_its_hash(tmp_path, capsys, library):
    folder = tmp_path / "copied" / "library"
    main([str(folder)])
    copy = load_corpus(folder)
    assert copy.sha256 == library.sha256 and torch.equal(copy.valid, library.valid)
    assert f"sha256 {copy.sha256[:12]}" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([str(folder)])
    assert "library exists already" in capsys.readouterr().err
