import os

import pytest

from muon_lab.runs.files import check_writable, whole_file

FULL = os.path.exists("/dev/full")


def write(path, text):
    with whole_file(path) as file:
        file.write(text.encode())


def test_a_file_is_there_once_it_is_whole(tmp_path):
    path = tmp_path / "new" / "folder" / "a.txt"
    with whole_file(path) as file:
        file.write(b"whole")
        assert not path.exists()
    assert path.read_bytes() == b"whole"
    assert [other.name for other in path.parent.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("error", [KeyError("a bug"), KeyboardInterrupt(), RuntimeError("no disk")])
def test_what_breaks_off_a_write_is_raised_and_leaves_the_old_file(tmp_path, error):
    path = tmp_path / "a.txt"
    write(path, "old")
    with pytest.raises(type(error)) as raised, whole_file(path) as file:
        file.write(b"new and longer")
        raise error
    assert raised.value is error
    assert (path.read_text(), len(list(tmp_path.iterdir()))) == ("old", 1)


@pytest.mark.skipif(not FULL, reason="this system has no /dev/full")
@pytest.mark.parametrize("old", [True, False])
def test_a_full_disk_is_said_and_leaves_the_old_file(tmp_path, old):
    path = tmp_path / "a.txt"
    if old:
        write(path, "old")
    (tmp_path / "a.txt.part").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"could not write a\.txt in .*: No space left") as raised:
        write(path, "new")
    assert ("the one before it is whole" in str(raised.value)) == old
    assert [other.name for other in tmp_path.iterdir()] == ["a.txt"] * old
    assert not old or path.read_text() == "old"


def test_what_an_earlier_death_left_is_no_hindrance(tmp_path):
    (tmp_path / "a.txt.part").write_text("half of a longer")
    write(tmp_path / "a.txt", "whole")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.txt", "whole")]


def test_looking_whether_one_may_write_leaves_nothing_but_the_folder(tmp_path):
    check_writable(tmp_path / "new" / "a.txt")
    assert list((tmp_path / "new").iterdir()) == []


def test_looking_leaves_the_file_that_is_there(tmp_path):
    write(tmp_path / "a.txt", "old")
    check_writable(tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_text() == "old"


@pytest.mark.parametrize(
    ("name", "said"), [("file/a.txt", "Not a directory|File exists"), ("folder", "is a folder")]
)
def test_where_nothing_can_be_written_it_is_said(tmp_path, name, said):
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match=rf"cannot write .*({said}).*Name another file"):
        check_writable(tmp_path / name)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_folder_that_is_read_only_is_said(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OSError, match=r"Permission denied.*in a folder that you may write to"):
        check_writable(tmp_path / "a.txt")
