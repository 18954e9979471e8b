"""A board on loopback: a real sshd, started as a process of its own, with keys of its own."""

import getpass
import shutil
import socket
import subprocess
import time
from pathlib import Path

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/sbin") or ""
READY = bool(SSHD and shutil.which("ssh"))


class Board:
    """sshd on a free port. A command that contains `vanish` kills its own connection instead of running.
    Programs in `bin` come before the system's."""

    def __init__(self, folder: Path):
        self.folder, self.vanish = folder, folder / "vanish"
        self.vanish.write_text("never")
        for name in ("host", "own"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.bin = folder / "bin"
        self.bin.mkdir()
        gate = folder / "gate"
        gate.write_text(
            f'#!/bin/sh\ncase "$SSH_ORIGINAL_COMMAND" in *"$(cat {self.vanish})"*) kill -9 $PPID;; '
            f'*) PATH="{folder}/bin:$PATH" exec sh -c "$SSH_ORIGINAL_COMMAND";; esac\n'
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

    def close(self):
        self.server.terminate()
        self.server.wait()
