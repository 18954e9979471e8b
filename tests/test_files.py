import errno

import pytest

from toolkit import files


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

    with pytest.raises(OSError, match="No space"):
        broken()
    assert (target / "a").read_text() == "1"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    with files.whole_folder(target) as folder:
        (folder / "b").write_text("3")
    assert [p.name for p in target.iterdir()] == ["b"]


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
