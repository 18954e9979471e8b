"""The system's ssh against a real sshd on loopback, which a test starts as a process of its own."""

import shutil

import pytest

from tests.device.loopback_board import READY, Board
from toolkit.device.readings import read_timings
from toolkit.device.report import summary
from toolkit.device.settings import Load
from toolkit.device.timing import measure
from toolkit.runtime import InputError

if not READY:
    pytest.skip("needs openssh-server", allow_module_level=True)
SHORT = Load(warmup=1, loops=20, cooldown=0)


@pytest.fixture
def board(tmp_path, monkeypatch):
    folder, work = tmp_path / "sshd", tmp_path / "tmp"
    folder.mkdir()
    work.mkdir()
    board = Board(folder)
    yield board
    board.close()


def test_sweep_on_a_board(board, network):
    found = measure([network], ["ssh:board"], sweep=True, load=SHORT, ssh_config=board.config)
    assert [reading.model.format for _, reading in found][:1] == ["ncnn"]
    for _, reading in found:
        assert reading.device["kind"] == "ssh"
        assert reading.parity["agrees"]
        assert not reading.emulated
        assert summary(reading)["total"].p50 > summary(reading)["inference"].p50 > 0
    assert read_timings(network) == [reading for _, reading in found]


def test_a_cascade_on_a_board(board, cascade, zoo, tmp_path):
    folder, picture = (
        shutil.copytree(cascade[0], tmp_path / "detector"),
        zoo / "images" / "landmark-test.jpeg",
    )
    ((_, reading),) = measure(
        [folder], ["ssh:board"], picture=picture, load=SHORT, ssh_config=board.config, landmarks=cascade[1]
    )
    assert reading.parity["agrees"]
    assert summary(reading)["landmarks"].p50 > 0


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ("mktemp", "ssh:board cannot be reached"),
        ("getprop", "ssh:board went away while running a command"),
        ("tar -xf", "ssh:board went away while copying files to it"),
        ("./runner", "ssh:board went away while running a command"),
        ("/reading.json", "ssh:board went away while copying a result from it"),
    ],
)
def test_a_board_that_vanishes(step, said, board, network):
    board.vanish.write_text(step)
    before = sorted(path.name for path in network.iterdir())
    with pytest.raises(InputError, match=said) as error:
        measure([network], ["ssh:board"], load=SHORT, ssh_config=board.config)
    assert "\n" not in str(error.value)
    assert sorted(path.name for path in network.iterdir()) == before


def test_a_key_that_is_not_accepted(board, network):
    (board.folder / "own.pub").write_text("")
    with pytest.raises(InputError, match="accepts none of your keys: copy one with ssh-copy-id"):
        measure([network], ["ssh:board"], load=SHORT, ssh_config=board.config)


def test_an_unknown_host(board, network):
    (board.folder / "known_hosts").write_text("")
    with pytest.raises(InputError, match="not among your known hosts: connect to it once by hand"):
        measure([network], ["ssh:board"], load=SHORT, ssh_config=board.config)


def test_nobody_listens(board, network):
    board.close()
    with pytest.raises(
        InputError, match=r"cannot be reached \(.*refused.*\): check its name, port and network"
    ):
        measure([network], ["ssh:board"], load=SHORT, ssh_config=board.config)


@pytest.mark.parametrize("address", ["ssh:", "ssh:host:port", "ssh:-oProxyCommand=x"])
def test_no_address(address, network):
    with pytest.raises(InputError, match="expected ssh:user@host"):
        measure([network], [address], load=SHORT)


@pytest.mark.parametrize("answer", ["/", "/etc", "", "/tmp/toolkit-x /home"])
def test_a_board_does_not_choose_what_is_removed(board, network, answer):
    """Nothing is copied there or removed where `mktemp` names something else than a temporary folder."""
    notes = board.folder / "notes"
    for name, action in (("mktemp", f"printf '%s\\n' '{answer}'"), ("rm", ""), ("tar", "")):
        program = board.bin / name
        program.write_text(f"#!/bin/sh\necho {name} >> {notes}\n{action}\n")
        program.chmod(0o755)
    with pytest.raises(InputError, match=r"ssh:board.*temporary folder"):
        measure([network], ["ssh:board"], load=SHORT, ssh_config=board.config)
    assert notes.read_text() == "mktemp\n"
