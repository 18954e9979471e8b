"""Android devices through adb: adbutils' client, and the adb program that it finds or brings along."""

from __future__ import annotations

import atexit
import os
import shlex
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from toolkit.device.answers import LIMIT, last_line, too_long, whole_number
from toolkit.runtime import InputError, require
from toolkit.text import one_line

CHROME = "com.android.chrome"
PLACE = "/data/local/tmp"  # where the shell's user may write and execute


def _client() -> tuple[Any, str]:
    """adbutils' client with its server running, and the path of the adb program. The server's port is 5037
    or ANDROID_ADB_SERVER_PORT. One that was not running before ends with this process."""
    adbutils = require("adbutils", "device")
    client = adbutils.AdbClient()
    # left to itself the server asks everybody in the network for devices
    environment = {"ADB_MDNS": "0", **os.environ}
    try:
        program = adbutils.adb_path()
        if not _server_runs(client):
            atexit.register(subprocess.run, [program, "kill-server"], capture_output=True, timeout=10)
        started = subprocess.run([program, "start-server"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                 text=True, timeout=30, env=environment)  # fmt: skip
    except (adbutils.AdbError, OSError):
        raise InputError(
            "no adb program was found: install Android's platform tools and have adb in PATH (adbutils "
            "brings one for common machines)"
        ) from None
    except subprocess.TimeoutExpired:
        raise InputError("adb's server did not start within 30 s: run adb kill-server, then again") from None
    if started.returncode:
        raise InputError(f"adb's server did not start: {last_line(started.stderr)}")
    return client, program


def _server_runs(client: Any) -> bool:
    try:
        socket.create_connection((client.host, client.port), 2).close()
    except OSError:
        return False
    return True


def serials() -> list[str]:
    """Serial numbers of the devices that can be used now; none where there is no adb either."""
    try:
        client, _ = _client()
    except InputError:
        return []
    return [serial for serial, state in _states(client).items() if state == "device"]


class AdbDevice:
    """A folder of its own under /data/local/tmp of an Android device. `serial` may be left out where one
    device can be used: others that are offline or not authorised are named on stderr. HOST:PORT is connected
    to over the network. Raises InputError where there is no such device, it cannot be used, or several can
    and none is named. The methods are those of
    `connect.Device`."""

    def __init__(self, serial: str = ""):
        client, self.program = _client()
        self.errors = (require("adbutils", "device").AdbError, OSError, EOFError)
        self.timeout = require("adbutils", "device").AdbTimeout
        self.serial = _choose(client, serial, self.errors)
        self.name = f"adb:{self.serial}"
        self.client, self.device = client, _bounded(client.device(self.serial), self.name)
        self.folder = f"{PLACE}/toolkit-{uuid.uuid4().hex[:8]}"
        folder_made = self._shell(f"mkdir -p {self.folder}", "connecting to it", 30)
        if folder_made.returncode:
            raise InputError(
                f"{self.name} lets nobody write to {PLACE}: "
                f"{last_line(folder_made.stdout + folder_made.stderr)}"
            )

    def push(self, files: Sequence[Path], folder: str = ".") -> None:
        target = f"{self.folder}/{folder}"
        self._shell(f"mkdir -p {shlex.quote(target)}", "copying files to it", 30)
        # adb's own push: adbutils' does not tell why one failed
        command = [self.program, "-s", self.serial, "push", *map(str, files), target]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=600)
        except subprocess.TimeoutExpired:
            raise InputError(
                f"{self.name} took no files for ten minutes: reconnect it, then run again"
            ) from None
        if done.returncode:
            if "No space left" in done.stderr:
                raise InputError(f"{self.name} has no space left in {PLACE}: free some there")
            raise InputError(self._gone("copying files to it", done.stderr))

    def run(self, command: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        return self._shell(f"cd {self.folder} && {command}", "running a command on it", timeout)

    def pull(self, file: str) -> bytes:
        with self._reached("copying a result from it"):
            return bytes(self.device.sync.read_bytes(f"{self.folder}/{file}"))

    @contextmanager
    def reversed(self, port: int) -> Iterator[int]:
        """A port of the device's own 127.0.0.1 that leads to `port` of this machine's, inside the block."""
        chosen = whole_number(self._adb("reverse", "tcp:0", f"tcp:{port}").strip())
        if chosen is None:
            raise InputError(f"{self.name} gives no port back to this machine: update adb on both sides")
        try:
            yield chosen
        finally:
            with suppress(InputError):  # it is gone, and the port with it
                self._adb("reverse", "--remove", f"tcp:{chosen}")

    def open_page(self, address: str) -> None:
        """Chrome with a page. Raises InputError where the device has no Chrome, or is locked down."""
        command = f"am start -a android.intent.action.VIEW -d {shlex.quote(address)} {CHROME}"
        done = self._shell(command, "opening a page on it", 30)
        said = done.stdout + done.stderr
        if done.returncode or "Error" in said:
            raise InputError(
                f"{self.name} does not open a page in Chrome ({last_line(said)}): install Chrome there, or "
                "scan the code of toolkit serve with another browser"
            )

    def _adb(self, *words: str) -> str:
        """What the adb program says; unlike adbutils it knows ports that the device chooses."""
        command = [self.program, "-s", self.serial, *words]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        except subprocess.TimeoutExpired:
            raise InputError(f"{self.name} did not answer for 30 s: connect it again") from None
        if done.returncode:
            raise InputError(self._gone(f"asking it for {words[0]}", done.stderr))
        return done.stdout

    def close(self) -> None:
        with suppress(InputError):  # it is gone, which an earlier step has reported
            self._shell(f"rm -rf {self.folder}", "cleaning up", 20)

    def _shell(self, command: str, doing: str, timeout: float) -> subprocess.CompletedProcess[str]:
        with self._reached(doing):
            done = self.device.shell2(command, timeout=timeout, v2=True)  # v1 loses exit codes
            return subprocess.CompletedProcess(
                command, done.returncode, done.stdout or done.output, done.stderr
            )

    @contextmanager
    def _reached(self, doing: str) -> Iterator[None]:
        try:
            yield
        except self.timeout:
            raise InputError(
                f"{self.name} did not answer in time while {doing}: see whether it hangs, or use fewer loops"
            ) from None
        except self.errors as error:
            raise InputError(self._gone(doing, str(error))) from None

    def _gone(self, doing: str, message: str) -> str:
        return (
            f"{self.name} went away while {doing} ({last_line(message)}): connect it again and repeat the "
            "command; "
            "readings that were complete are kept"
        )


class _Bounded:
    """A connection's socket that gives at most `LIMIT` bytes, and takes at most so many seconds for all."""

    def __init__(self, connected: Any, name: str, seconds: float):
        self.connected, self.name, self.left = connected, name, LIMIT
        self.deadline = time.monotonic() + seconds

    def recv(self, count: int) -> bytes:
        self.connected.settimeout(max(0.001, self.deadline - time.monotonic()))
        data = bytes(self.connected.recv(min(count, 1 << 16)))  # whatever length the device announces
        self.left -= len(data)
        if self.left < 0:
            raise too_long(self.name)
        return data

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self.connected, attribute)


def _bounded(device: Any, name: str) -> Any:
    """adbutils' device, whose connections it reads without bounds, with bounds."""
    open_transport = device.open_transport

    def opened(command: str | None = None, timeout: float | None = None) -> Any:
        seconds = timeout or 600
        connection = open_transport(command, seconds)
        connection._AdbConnection__conn = _Bounded(connection.conn, name, seconds)
        return connection

    device.open_transport = opened
    return device


# What adb calls a device that cannot be used -> what is the matter, and what to do.
_UNAUTHORISED = "has not authorised this computer: unlock it, accept 'Allow USB debugging', and run again"
_FAULTS = {
    "unauthorized": _UNAUTHORISED,
    "authorizing": _UNAUTHORISED,
    "offline": "is offline: connect it again, or restart it, and run again",
    "no permissions": (
        "may not be opened by this user: install udev rules for Android devices (Debian and Ubuntu: apt "
        "install android-sdk-platform-tools-common), be in the group plugdev, connect it again, and run adb "
        "kill-server"
    ),
}


def _fault(serial: str, state: str) -> str:
    """What is the matter with a device that is not in the state "device"."""
    kind = "no permissions" if state.startswith("no permissions") else state
    return f"adb:{serial} " + _FAULTS.get(
        kind, f"is in the state {state!r}: restart it as usual, and run again"
    )


def _states(client: Any) -> dict[str, str]:
    """Serial number -> state of every device that adb's server sees. Some states are of several words, which
    adbutils' own list cuts."""
    with client.make_connection() as connection:
        connection.send_command("host:devices")
        connection.check_okay()
        lines = connection.read_string_block().splitlines()
    return {serial: state for serial, _, state in (line.partition("\t") for line in lines) if state}


def _choose(client: Any, serial: str, errors: tuple[type[Exception], ...]) -> str:
    """The serial number of the device to use: the one of that name, or the only one that can be used."""
    try:
        if ":" in serial and serial not in _states(client):
            message = client.connect(serial, timeout=15)
            if "authenticate" in message:
                raise InputError(_fault(serial, "unauthorized"))
            if "connected to" not in message:
                raise InputError(
                    f"adb cannot connect to {serial} ({one_line(message)}): check address and network"
                )
        states = _states(client)
    except errors as error:
        raise InputError(f"adb's server does not answer ({error}): run adb kill-server, then again") from None
    if not states:
        raise InputError(
            "no Android device answers adb: connect one by USB with USB debugging on, or name one in the "
            "network as adb:HOST:PORT; a board takes ssh:user@host, this machine local"
        )
    if not serial:
        return _only_one(states)
    if serial not in states:
        raise InputError(f"no device {serial} answers adb, only {', '.join(states)}: name one of these")
    if states[serial] != "device":
        raise InputError(_fault(serial, states[serial]))
    return serial


def _only_one(states: dict[str, str]) -> str:
    """The one device that can be used; the others are named on stderr."""
    usable = [serial for serial, state in states.items() if state == "device"]
    faults = [_fault(serial, state) for serial, state in states.items() if state != "device"]
    if not usable:
        raise InputError("; ".join(faults))
    if len(usable) > 1:
        raise InputError(
            f"{len(usable)} devices answer adb, {', '.join(usable)}: name one as adb:{usable[0]}"
        )
    for fault in faults:
        print(f"not used: {fault}", file=sys.stderr)
    return usable[0]
