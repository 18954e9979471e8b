"""Devices by address: adb, ssh or this machine."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from toolkit.device.adb import AdbDevice
from toolkit.device.local import LocalDevice
from toolkit.device.ssh import SshDevice
from toolkit.runtime import InputError


class Device(Protocol):
    """A place that takes files and runs them, in a temporary folder that `close` removes. Every step raises
    InputError where the device does not answer."""

    name: str  # as it was asked for: adb:SERIAL, ssh:user@host, local
    folder: str

    def push(self, files: Sequence[Path], folder: str = ".") -> None:
        """Copy files into a subfolder, made where it is missing."""
        ...

    def run(self, command: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """A line of POSIX shell in the folder; whatever its exit code, no error."""
        ...

    def pull(self, file: str) -> bytes: ...

    def close(self) -> None: ...


def open_device(address: str, ssh_config: str | Path | None = None) -> Device:
    """adb[:SERIAL], ssh:[user@]host[:port] or local. Raises InputError where there is no such device."""
    kind, _, rest = address.partition(":")
    if kind == "adb":
        return AdbDevice(rest)
    if kind == "ssh":
        return SshDevice(rest, ssh_config)
    if address == "local":
        return LocalDevice()
    raise InputError(f"unknown device {address!r}: expected adb, adb:SERIAL, ssh:user@host or local")
