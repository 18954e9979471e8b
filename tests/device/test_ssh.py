"""The system's ssh against a real sshd on loopback, which a test starts as a process of its own."""

import getpass
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

from toolkit.device.timing import Load, measure, read_timings, summary
from toolkit.runtime import InputError

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/sbin") or ""
if not SSHD or shutil.which("ssh") is None:
    pytest.skip("needs openssh-server", allow_module_level=True)
SHORT = Load(warmup=1, loops=20, cooldown=0)


class Board:
    """sshd on a free port. A command that contains `vanish` kills its own connection instead of running."""

    def __init__(self, folder: Path):
        self.folder, self.vanish = folder, folder / "vanish"
        self.vanish.write_text("never")
        for name in ("host", "own"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        gate = folder / "gate"
        gate.write_text(
            f'#!/bin/sh\ncase "$SSH_ORIGINAL_COMMAND" in *"$(cat {self.vanish})"*) kill -9 $PPID;; '
            '*) exec sh -c "$SSH_ORIGINAL_COMMAND";; esac\n'
        )
        gate.chmod(0o755)
        (folder / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile none\nUsePAM no\n"
            f"AuthorizedKeysFile {folder}/own.pub\nStrictModes no\nPasswordAuthentication no\n"
            f"PermitRootLogin yes\nForceCommand {gate}\n"
        )
        key = (folder / "host.pub").read_text().rsplit(" ", 1)[0]
        (folder / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {key}\n")
        self.config = folder / "ssh_config"
        self.config.write_text(
            f"Host board\nHostName 127.0.0.1\nPort {self.port}\nUser {getpass.getuser()}\n"
            f"IdentityFile {folder}/own\nIdentitiesOnly yes\nUserKnownHostsFile {folder}/known_hosts\n"
        )
        Path("/run/sshd").mkdir(exist_ok=True)
        self.server = subprocess.Popen(
            [SSHD, "-D", "-e", "-f", folder / "sshd_config"], stderr=subprocess.DEVNULL
        )
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise AssertionError("sshd does not listen")


@pytest.fixture
def board(tmp_path, monkeypatch):
    folder, work = tmp_path / "sshd", tmp_path / "tmp"
    folder.mkdir()
    work.mkdir()
    board = Board(folder)
    yield board
    board.server.terminate()
    board.server.wait()


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
    board.server.terminate()
    board.server.wait()
    with pytest.raises(
        InputError, match=r"cannot be reached \(.*refused.*\): check its name, port and network"
    ):
        measure([network], ["ssh:board"], load=SHORT, ssh_config=board.config)


@pytest.mark.parametrize("address", ["ssh:", "ssh:host:port", "ssh:-oProxyCommand=x"])
def test_no_address(address, network):
    with pytest.raises(InputError, match="expected ssh:user@host"):
        measure([network], [address], load=SHORT)
