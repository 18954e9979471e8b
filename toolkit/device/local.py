"""This machine as a device: the same steps as on a phone or board, without a cable."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from toolkit.device.answers import decoded, run_bounded
from toolkit.files import temporary_folder
from toolkit.runtime import InputError


class LocalDevice:
    """Runs commands in a temporary folder of this machine. The methods are those of `connect.Device`."""

    name = "local"

    def __init__(self) -> None:
        self.stack = ExitStack()
        self.folder = str(self.stack.enter_context(temporary_folder()))

    def push(self, files: Sequence[Path], folder: str = ".") -> None:
        target = Path(self.folder, folder)
        target.mkdir(exist_ok=True)
        for file in files:
            shutil.copy(file, target)

    def run(self, command: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        try:
            ended = run_bounded(["sh", "-c", command], "this machine", timeout=timeout, folder=self.folder)
        except subprocess.TimeoutExpired:
            raise InputError(f"this machine did not finish within {timeout:.0f} s: use fewer loops") from None
        return decoded(ended)

    def pull(self, file: str) -> bytes:
        return Path(self.folder, file).read_bytes()

    def close(self) -> None:
        self.stack.close()
