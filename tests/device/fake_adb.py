"""An Android device on loopback: enough of adb's protocol for the real client, and qemu for what is pushed.

The wire protocol (CNXN, OPEN, OKAY, WRTE, CLSE), the services shell v2 and sync v1, and a shell that is this
machine's own with `getprop` and `uname` of the phone. A pushed ELF file runs through qemu's user mode. See
https://android.googlesource.com/platform/packages/modules/adb/+/refs/heads/main/protocol.txt and SYNC.TXT.
"""

import contextlib
import os
import queue
import socket
import struct
import subprocess
import threading
from pathlib import Path

PLACE = "/data/local/tmp"
QEMU = {  # by ELF's e_machine; a processor without half precision is three times as fast to imitate
    183: "qemu-aarch64-static -cpu cortex-a57",
    40: "qemu-arm-static",
    62: "qemu-x86_64-static",
}
PROPERTIES = {
    "ro.product.manufacturer": "Imagined",
    "ro.product.model": "Phone",
    "ro.build.version.release": "15",
    "ro.product.cpu.abilist": "arm64-v8a,armeabi-v7a,armeabi",
    "ro.kernel.qemu": "1",
}


@contextlib.contextmanager
def adb_server(home: Path):
    """An adb server of a test's own, whose key is made in `home`; yields its port."""
    import adbutils  # where it is missing the tests are skipped

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    environment = {**os.environ, "ANDROID_ADB_SERVER_PORT": port, "HOME": str(home)}
    program = adbutils.adb_path()
    subprocess.run([program, "start-server"], env=environment, check=True, stderr=subprocess.DEVNULL)
    try:
        yield port
    finally:
        subprocess.run([program, "kill-server"], env=environment, check=True)


@contextlib.contextmanager
def adb_server_that_sees(devices: str):
    """An adb server in name alone: it tells its version and a list of devices, of which none can be reached.
    For states that need a real USB port. Yields its port."""
    answers = {"host:version": "0029", "host:devices": devices}
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, contextlib.suppress(ValueError):
                    request = connection.recv(int(connection.recv(4), 16)).decode()
                    text = answers[request]
                    connection.sendall(f"OKAY{len(text):04x}{text}".encode())

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield str(listener.getsockname()[1])
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


class FakePhone:
    """Listens on a free port of 127.0.0.1 until `close`.

    `vanish_at`: the step ("connect", "ask", "push", "run" or "pull") at which its sockets close, after it
    went well `survives` times. `authorised`: False answers every key with a question. `full`: files
    find no space; `free_kb`: what df tells.
    """

    def __init__(
        self,
        root: Path,
        machine="aarch64",
        properties=None,
        vanish_at="",
        survives=0,
        authorised=True,
        full=False,
        free_kb=1_000_000,
    ):
        self.root, self.vanish_at, self.authorised, self.full = root, vanish_at, authorised, full
        self.survives = survives
        (root / "tmp").mkdir(parents=True)
        self.commands: list[str] = []
        self.reversed: dict[str, socket.socket] = {}
        values = {**PROPERTIES, **(properties or {})}
        lines = "\n".join(f"{key}) echo '{value}';;" for key, value in values.items())
        self.add_program("getprop", f'case "$1" in\n{lines}\nesac')
        self.add_program("uname", f'case "$1" in -m) echo {machine};; *) echo Linux 6.1.0;; esac')
        self.add_program(
            "df", f"echo Filesystem 1024-blocks Used Available\necho /dev/x 9 9 {free_kb} 1% /data"
        )
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.serial = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.connections: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        for connection in [self.listener, *self.connections]:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def step(self, name: str) -> None:
        if name == self.vanish_at:
            self.survives -= 1
            if self.survives >= 0:
                return
            self.close()
            raise ConnectionError("the device vanishes")

    def path(self, remote: str) -> Path:
        return Path(remote.replace(PLACE, str(self.root / "tmp")))

    def add_program(self, name: str, text: str) -> None:
        file = self.root / "bin" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"#!/bin/sh\n{text}\n")
        file.chmod(0o755)

    def store(self, remote: str, mode: int, data: bytes) -> None:
        path = self.path(remote)
        if data[:4] == b"\x7fELF":  # the host cannot execute it by itself
            binary = path.with_name(path.name + ".elf")
            binary.write_bytes(data)
            binary.chmod(0o755)
            qemu = QEMU[struct.unpack_from("<H", data, 18)[0]]
            data = f'#!/bin/sh\nexec {qemu} "{binary}" "$@"\n'.encode()
        path.write_bytes(data)
        path.chmod(mode & 0o777)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections.append(connection)
            threading.Thread(target=Transport(self, connection).serve, daemon=True).start()


class Transport:
    """One connection with adb's server; many streams in it."""

    def __init__(self, phone: FakePhone, connection: socket.socket):
        self.phone, self.connection = phone, connection
        self.sending = threading.Lock()
        self.streams: dict[int, Stream] = {}

    def send(self, command: bytes, first: int, second: int, data: bytes = b"") -> None:
        number = struct.unpack("<I", command)[0]
        head = struct.pack(
            "<6I", number, first, second, len(data), sum(data) & 0xFFFFFFFF, number ^ 0xFFFFFFFF
        )
        with self.sending:
            self.connection.sendall(head + data)

    def _read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            part = self.connection.recv(count - len(data))
            if not part:
                raise ConnectionError("adb's server closed the connection")
            data += part
        return data

    def serve(self) -> None:
        try:
            while True:
                number, first, second, length, _, _ = struct.unpack("<6I", self._read(24))
                data = self._read(length)
                self.receive(struct.pack("<I", number), first, second, data)
        except OSError:
            for stream in self.streams.values():
                stream.incoming.put(b"")

    def lead(self, listener: socket.socket, target: str) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                number = len(self.streams) + 1
                self.streams[number] = stream = Stream(self, number, 0)
                self.send(b"OPEN", number, 0, target.encode() + b"\0")
                threading.Thread(target=stream.pump, args=(connection,), daemon=True).start()

    def receive(self, command: bytes, first: int, second: int, data: bytes) -> None:
        if command in (b"CNXN", b"AUTH"):
            self.phone.step("connect")
            if self.phone.authorised:
                banner = b"device::ro.product.name=phone;ro.product.model=Phone;features=shell_v2"
                self.send(b"CNXN", 0x01000001, 256 * 1024, banner)
            else:
                self.send(b"AUTH", 1, 0, os.urandom(20))
        elif command == b"OPEN":
            number = len(self.streams) + 1
            self.streams[number] = stream = Stream(self, number, first)
            self.send(b"OKAY", number, first)
            threading.Thread(target=stream.run, args=(data.rstrip(b"\0").decode(),), daemon=True).start()
        elif command == b"OKAY":
            self.streams[second].client = first
            self.streams[second].taken.release()
        elif command == b"WRTE":
            self.streams[second].incoming.put(data)
            self.send(b"OKAY", second, first)
        elif command == b"CLSE" and second in self.streams:
            self.streams[second].incoming.put(b"")
            self.streams[second].taken.release()


class Stream:
    """A service: takes what the client sends with `read`, answers with `write`."""

    def __init__(self, transport: Transport, number: int, client: int):
        self.transport, self.phone, self.number, self.client = transport, transport.phone, number, client
        self.taken = threading.Semaphore(0)  # the client has taken the last packet
        self.incoming: queue.SimpleQueue[bytes] = queue.SimpleQueue()  # b"" at its end
        self.waiting = b""

    def read(self, count: int) -> bytes:
        while len(self.waiting) < count and (data := self.incoming.get()):
            self.waiting += data
        data, self.waiting = self.waiting[:count], self.waiting[count:]
        return data

    def write(self, data: bytes) -> None:
        for start in range(0, len(data), 64 * 1024):
            self.transport.send(b"WRTE", self.number, self.client, data[start : start + 64 * 1024])
            self.taken.acquire()

    def run(self, service: str) -> None:
        try:
            if service.startswith("shell,v2"):
                self.shell(service.partition(":")[2])
            elif service.startswith("reverse:"):
                self.reverse(service.removeprefix("reverse:"))
            elif service == "sync:":
                self.sync()
            self.transport.send(b"CLSE", self.number, self.client)
        except (OSError, struct.error):
            pass  # the other side is gone

    def shell(self, command: str) -> None:
        self.phone.commands.append(command)
        for word, name in (("getprop", "ask"), ("./runner", "run")):
            if word in command:
                self.phone.step(name)
        environment = {"PATH": f"{self.phone.root / 'bin'}:{os.environ['PATH']}"}
        command = command.replace(PLACE, str(self.phone.root / "tmp"))
        done = subprocess.run(["sh", "-c", command], capture_output=True, env=environment)
        for kind, data in ((1, done.stdout), (2, done.stderr), (3, bytes([done.returncode & 255]))):
            if data:
                self.write(struct.pack("<BI", kind, len(data)) + data)

    def pump(self, connection: socket.socket) -> None:
        """Between a connection on the phone and the computer, until either ends."""
        self.taken.acquire()  # it is open

        def forth() -> None:
            with contextlib.suppress(OSError):
                while data := connection.recv(64 * 1024):
                    self.write(data)
            self.transport.send(b"CLSE", self.number, self.client)

        threading.Thread(target=forth, daemon=True).start()
        with contextlib.suppress(OSError):
            while data := self.incoming.get():
                connection.sendall(data)
            connection.shutdown(socket.SHUT_RDWR)
        connection.close()

    def reverse(self, request: str) -> None:
        """Ports of the phone that lead to the computer: each connection is a stream that the phone opens."""
        if request.startswith("killforward:"):
            self.phone.reversed.pop(request.partition(":")[2]).close()
            self.write(b"OKAY")
            return
        target = request.partition(";")[2]
        listener = socket.create_server(("127.0.0.1", 0))
        port = str(listener.getsockname()[1])
        self.phone.reversed[f"tcp:{port}"] = listener
        threading.Thread(target=self.transport.lead, args=(listener, target), daemon=True).start()
        self.write(f"OKAY{len(port):04x}{port}".encode())

    def sync(self) -> None:
        while head := self.read(8):
            command, length = head[:4], struct.unpack("<I", head[4:])[0]
            name = self.read(length).decode()
            if command == b"QUIT":
                return
            if command == b"STAT":
                path = self.phone.path(name)
                there = path.stat() if path.exists() else os.stat_result([0] * 10)
                self.write(b"STAT" + struct.pack("<3I", there.st_mode, there.st_size, int(there.st_mtime)))
            elif command == b"SEND":
                self.phone.step("push")
                remote, _, mode = name.rpartition(",")
                data = b""
                while (head := self.read(8))[:4] == b"DATA":
                    data += self.read(struct.unpack("<I", head[4:])[0])
                if self.phone.full:
                    said = b"couldn't write: No space left on device"
                    self.write(b"FAIL" + struct.pack("<I", len(said)) + said)
                else:
                    self.phone.store(remote, int(mode), data)
                    self.write(b"OKAY" + struct.pack("<I", 0))
            elif command == b"RECV":
                self.phone.step("pull")
                data = self.phone.path(name).read_bytes()
                for start in range(0, len(data), 64 * 1024):
                    part = data[start : start + 64 * 1024]
                    self.write(b"DATA" + struct.pack("<I", len(part)) + part)
                self.write(b"DONE" + struct.pack("<I", 0))
