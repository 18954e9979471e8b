import errno
import os
import subprocess
import sys
import time

import pytest

from toolkit import files
from toolkit.runtime import InputError


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "out"
    with files.whole_folder(target) as folder:
        (folder / "a").write_text("1")
        assert not target.exists()
    assert (target / "a").read_text() == "1"

    def broken():
        with files.whole_folder(target) as folder:
            (folder / "a").write_text("2")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space") as caught:
        broken()
    assert caught.value.filename == str(target)
    assert (target / "a").read_text() == "1"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    with files.whole_folder(target, durable=True) as folder:
        (folder / "b").write_text("3")
    assert [p.name for p in target.iterdir()] == ["b"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_latest_is_the_newest_that_is_whole(tmp_path):
    pattern = str(tmp_path / "*" / "best.cfg")
    assert files.latest(pattern, "fastest-v2") == "fastest-v2"
    for second, name in enumerate(("b", "a", ".unfinished")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "best.cfg").touch()
        os.utime(tmp_path / name / "best.cfg", (second, second))
    assert files.latest(pattern, "fastest-v2") == str(tmp_path / "a" / "best.cfg")


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "file.txt"

    def broken():
        with files.whole_file(target) as temporary:
            temporary.write_text("half")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        broken()
    assert list(tmp_path.iterdir()) == []
    with files.whole_file(target) as temporary:
        temporary.write_text("whole")
    assert target.read_text() == "whole"


def test_json_holds_no_nan(tmp_path):
    target = tmp_path / "file.json"
    files.write_json(target, {"name": "螺母"})
    assert target.read_text(encoding="utf-8") == '{\n "name": "螺母"\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(target, {"score": float("nan")})
    assert "螺母" in target.read_text(encoding="utf-8")


def started(tmp_path, code):
    """A process that runs `code` and then waits; returned once it waits."""
    lines = f"from pathlib import Path\nfrom toolkit.files import *\nt = Path({str(tmp_path)!r})\n"
    process = subprocess.Popen(
        [sys.executable, "-c", lines + code + "\n    print(1, flush=True)\n    import time; time.sleep(99)"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"1\n", process.stderr.read().decode()
    return process


def kill(process):
    process.kill()
    process.communicate()


def test_one_process_works_in_a_folder(tmp_path):
    process = started(tmp_path, "with locked(t / 'run'):")
    try:
        with pytest.raises(files.Occupied, match="another process works in"), files.locked(tmp_path / "run"):
            pass
        with files.locked(tmp_path / "run2"):
            pass
    finally:
        kill(process)
    with files.locked(tmp_path / "run"), files.locked(tmp_path / "run"):  # a killed process has no lock
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_waits_comes_next(tmp_path):
    process = started(tmp_path, "with locked(t / 'run'):")
    code = f"from toolkit.files import locked\nwith locked({str(tmp_path / 'run')!r}, wait=True): print('in')"
    second = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    time.sleep(0.3)
    assert second.poll() is None
    kill(process)
    assert second.communicate(timeout=30)[0] == b"in\n"


def let_others_in(folder):
    """pytest's folders are closed to other users, up to the system's own."""
    for path in (folder, *folder.parents):
        if path.stat().st_mode & 0o055 != 0o055:
            path.chmod(0o755)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_a_folder_in_a_place_that_is_not_ours_has_its_lock_inside(tmp_path):
    let_others_in(tmp_path)
    folder = tmp_path / "mine"
    folder.mkdir()
    os.chown(folder, 65534, 65534)
    code = (
        "import os, sys, filelock._unix\nfrom pathlib import Path\nfrom toolkit.files import *\n"
        "folder = Path(sys.argv[1])\nos.setuid(65534)\n"
        "with locked(folder):\n    print(*os.listdir(folder)); check_place(folder, 'mark', 'it')"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stdout) == (0, ".toolkit.lock\n"), run.stderr
    assert list(folder.iterdir()) == []


def test_what_killed_processes_left_goes_with_the_next_call(tmp_path):
    code = (
        "with whole_folder(t / 'out') as f, whole_file(t / 'a.txt') as g, scratch_folder(t / 'out', 'zip'):"
    )
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "before").touch()
    process = started(tmp_path, code)
    during = {path.name for path in tmp_path.iterdir()}
    with files.whole_file(tmp_path / "a.txt") as temporary:  # two that are alive are not in each other's way
        temporary.write_text("mine")
    kill(process)
    assert during > {"out"}
    assert {path.name for path in tmp_path.iterdir()} == during | {"a.txt"}
    with files.whole_file(tmp_path / "a.txt"), files.scratch_folder(tmp_path / "out", "zip"):
        pass
    with files.whole_folder(tmp_path / "out") as folder:
        (folder / "after").touch()
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")) == ["a.txt", "out", "out/after"]


def test_temporary_folders_of_killed_processes_go(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    dead, alive = (
        started(tmp_path, "with temporary_folder() as f:\n    (f / 'x').touch()") for _ in range(2)
    )
    try:
        kill(dead)
        with files.temporary_folder() as folder:
            assert folder.parent == tmp_path
            assert len(list(tmp_path.iterdir())) == 2
    finally:
        kill(alive)


def test_the_only_copy_of_a_folder_comes_back(tmp_path):
    """As where a call was killed between the two renames, on a system that cannot exchange two folders."""
    old = tmp_path / ".out.old"
    old.mkdir()
    (old / "spec.json").touch()
    with pytest.raises(InputError, match="is not an app"):
        files.check_place(tmp_path / "out", "app.json", "an app")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_two_renames_where_folders_cannot_be_exchanged(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "platform", "other")
    for text in ("1", "2"):
        with files.whole_folder(tmp_path / "out") as folder:
            (folder / "a").write_text(text)
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")) == ["out", "out/a"]
    assert (tmp_path / "out/a").read_text() == "2"


def test_a_folder_is_never_missing_while_it_is_replaced(tmp_path):
    with files.whole_folder(tmp_path / "out") as folder:
        (folder / "a").touch()
    paths = str(tmp_path / "end"), str(tmp_path / "out/a")
    watch = "import os, sys\nwhile not os.path.exists(sys.argv[1]):\n    os.stat(sys.argv[2])"
    process = subprocess.Popen([sys.executable, "-c", watch, *paths])
    for _ in range(200):
        with files.whole_folder(tmp_path / "out") as folder:
            (folder / "a").touch()
    (tmp_path / "end").touch()
    assert process.wait(30) == 0


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EACCES])
def test_the_sentence_of_an_error_names_the_file(number):
    sentence = files.os_sentence(OSError(number, os.strerror(number), "there/file"))
    assert sentence.startswith("there/file cannot be ")
    assert os.strerror(number) in sentence
    assert "name another place" in sentence


def test_the_next_writer_keeps_its_file(tmp_path, monkeypatch):
    """Another process that begins right after the file has its place takes the temporary name again."""
    moved = os.replace

    def move(temporary, path):
        moved(temporary, path)
        temporary.write_text("next")

    monkeypatch.setattr(os, "replace", move)
    with files.whole_file(tmp_path / "a.txt") as temporary:
        temporary.write_text("first")
    assert temporary.read_text() == "next"
    assert (tmp_path / "a.txt").read_text() == "first"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
@pytest.mark.parametrize("mode", [0o644, 0o600])
def test_what_another_user_left_is_in_nobodys_way(tmp_path, mode):
    let_others_in(tmp_path)
    tmp_path.chmod(0o777)
    for name in (".a.new.txt", ".run.lock"):
        (tmp_path / name).touch()
        (tmp_path / name).chmod(mode if name == ".a.new.txt" else 0o644)
    code = (
        "import os, sys, filelock._unix\nfrom pathlib import Path\nfrom toolkit.files import *\n"
        "folder = Path(sys.argv[1])\nos.setuid(65534)\n"
        "with locked(folder / 'run'), whole_file(folder / 'a.txt') as file:\n    file.write_text('mine')"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "a.txt").read_text() == "mine"


def test_writing_where_open_files_and_folders_cannot_be_used(tmp_path, monkeypatch):
    """As on Windows: a file that is open cannot be moved, and a folder cannot be opened."""
    moved, opened = os.replace, os.open

    def move(source, target):
        held = {os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")}
        if str(source) in held:
            raise PermissionError(errno.EACCES, "it is open", str(source))
        moved(source, target)

    def open_file(path, *arguments, **options):
        if os.path.isdir(path):
            raise PermissionError(errno.EACCES, "it is a folder", str(path))
        return opened(path, *arguments, **options)

    def fails():
        with files.whole_file(tmp_path / "b.txt"):
            raise RuntimeError("stop")

    with monkeypatch.context() as patch:
        patch.setattr(sys, "platform", "win32")
        patch.setattr(os, "replace", move)
        patch.setattr(os, "open", open_file)
        with files.whole_folder(tmp_path / "out", durable=True) as folder:
            (folder / "inner").mkdir()
            files.write_json(folder / "inner/a.json", {})
        with pytest.raises(RuntimeError, match="stop"):
            fails()
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")) == [
        "out",
        "out/inner",
        "out/inner/a.json",
    ]


def test_the_working_directory_is_not_replaced(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in (".", tmp_path, f"../{tmp_path.name}"):
        with pytest.raises(InputError, match="is the working directory"), files.whole_folder(name):
            pass
        files.check_place(name, "mark", "a result")
    assert list(tmp_path.iterdir()) == []
