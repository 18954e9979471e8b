"""Boards over ssh (Raspberry Pi, RK3588): the system's own ssh with the reader's keys and ~/.ssh/config.

Nothing but `sh`, `tar` and `cat` is needed on the board.
"""

from __future__ import annotations

import io
import shlex
import shutil
import subprocess
import tarfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from toolkit.device.answers import decoded, last_line, made_folder, run_bounded
from toolkit.files import temporary_folder
from toolkit.runtime import InputError

LOST = 255  # ssh's own exit code for anything that is not the command's
OPTIONS = (
    "BatchMode=yes", "ConnectTimeout=10", "ServerAliveInterval=5", "ServerAliveCountMax=3",
    "ControlMaster=auto", "ControlPersist=60",
)  # fmt: skip


class SshDevice:
    """A temporary folder of another machine. `address`: [user@]host[:port]; host may be an alias of
    ~/.ssh/config, or of the file `config`. Raises InputError where it cannot be reached without a password.
    The methods are those of `connect.Device`."""

    def __init__(self, address: str, config: str | Path | None = None):
        self.name = f"ssh:{address}"
        host, _, port = address.partition(":")
        if not host or host.startswith("-") or (port and not port.isdigit()):
            raise InputError(f"expected ssh:user@host or ssh:user@host:port, found {self.name}")
        program = shutil.which("ssh")
        if program is None:
            raise InputError("there is no ssh on this machine: install an OpenSSH client")
        self.stack = ExitStack()
        sockets = self.stack.enter_context(temporary_folder())  # one connection for all steps
        self.base = [program, "-o", f"ControlPath={sockets}/%C"]
        self.base += [word for option in OPTIONS for word in ("-o", option)]
        self.base += ["-F", str(config)] * (config is not None) + ["-p", port] * bool(port)
        self.host, self.folder = host, ""
        try:
            made = self._step('mktemp -d "${TMPDIR:-/tmp}/toolkit-XXXXXX"', "connecting to it")
            self.folder = made_folder(made.stdout, self.name)
        except InputError:
            self.close()
            raise

    def push(self, files: Sequence[Path], folder: str = ".") -> None:
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            for file in files:
                archive.add(file, file.name)
        place = shlex.quote(f"{self.folder}/{folder}")
        self._step(f"mkdir -p {place} && tar -xf - -C {place}", "copying files to it", packed.getvalue(), 600)

    def run(self, command: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        return self._call(
            f"cd {shlex.quote(self.folder)} && {command}", "running a command on it", b"", timeout
        )

    def pull(self, file: str) -> bytes:
        place = shlex.quote(f"{self.folder}/{file}")
        return self._step(f"cat {place}", "copying a result from it", timeout=600).stdout.encode()

    def close(self) -> None:
        try:
            if self.folder:
                self._call(f"rm -rf {shlex.quote(self.folder)}", "cleaning up", timeout=20)
        except InputError:
            pass  # it is gone, which an earlier step has reported
        finally:
            subprocess.run([*self.base, "-O", "exit", self.host], capture_output=True)
            self.stack.close()

    def _call(
        self, command: str, doing: str, data: bytes = b"", timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        words = [*self.base, self.host, f"sh -c {shlex.quote(command)}"]
        try:
            done = decoded(run_bounded(words, self.name, data, timeout))
        except subprocess.TimeoutExpired:
            raise InputError(
                f"{self.name} did not answer within {timeout:.0f} s while {doing}: see whether it hangs, "
                "or use fewer loops"
            ) from None
        if done.returncode == LOST:
            raise InputError(_lost(self.name, doing, done.stderr))
        return done

    def _step(
        self, command: str, doing: str, data: bytes = b"", timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """A command that must succeed."""
        done = self._call(command, doing, data, timeout)
        if done.returncode:
            if "No space left" in done.stderr:
                raise InputError(f"{self.name} has no space left in {self.folder or '/tmp'}: free some there")
            last = last_line(done.stderr, f"exit code {done.returncode}")
            raise InputError(f"{self.name} failed while {doing}: {last}")
        return done


def _lost(name: str, doing: str, message: str) -> str:
    last = last_line(message)
    if "Permission denied" in message:
        return (
            f"{name} accepts none of your keys: copy one with ssh-copy-id {name.removeprefix('ssh:')}, "
            "or load it with ssh-add"
        )
    if "Host key verification failed" in message:
        return f"{name} is not among your known hosts: connect to it once by hand with ssh, then run again"
    if doing == "connecting to it":
        return f"{name} cannot be reached ({last}): check its name, port and network"
    return (
        f"{name} went away while {doing} ({last}): connect it again and repeat the command; "
        "readings that were complete are kept"
    )
