"""A page with exported networks, served to the browsers of this machine or of its network, which send the
milliseconds that they measure back."""

from __future__ import annotations

import json
import mimetypes
import secrets
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from toolkit.device.certificate import server_context
from toolkit.device.inbox import SENT, Inbox
from toolkit.device.readings import Reading
from toolkit.device.settings import load_picture
from toolkit.device.web import package_web
from toolkit.files import temporary_folder
from toolkit.pictures import save_image
from toolkit.runtime import InputError, require
from toolkit.text import MEGABYTE, one_line, parse_json

LOOPBACK = "127.0.0.1"
POST_BYTES = 4 * MEGABYTE  # of what a page sends; a reading of four seconds has some 100 kB
SILENCE = 30.0  # s that a connection may take for a step
CONNECTIONS = 64  # at the same time
PICTURE, SESSION = "picture.png", "session.json"
READINGS, FAULTS = "readings", "faults"  # where a page posts
# Isolation, which WebAssembly's threads ask for; nothing of the page is seen by, or comes from, elsewhere.
HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": (
        "default-src 'self' blob: data:; script-src 'self' blob: 'wasm-unsafe-eval'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
TYPES = {  # those that not every machine's own table has
    ".mjs": "text/javascript",
    ".js": "text/javascript",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
}


@dataclass(frozen=True)
class PageTask:
    """A benchmark that a page begins by itself.

    Attributes:
        model: the network's name.
        backend: "wasm" or "webgpu".
        threads: of WebAssembly.
        warmup: loops before those that are timed.
        loops: timed loops.
        seconds: duration instead of loops, where above 0.
        cooldown: seconds of rest afterwards.
    """

    model: str
    backend: str
    threads: int
    warmup: int
    loops: int
    seconds: float
    cooldown: float


class PageServer:
    """A page at a fresh address, until `close` or the end of the process.

    Attributes:
        address: for a browser; the token in it keeps others out.
        note: what a person should know of it.
        inbox: the readings that came.
    """

    def __init__(
        self,
        folders: Sequence[str | Path],
        lan: bool = False,
        tls: bool | None = None,
        port: int = 0,
        picture: str | Path | None = None,
        tasks: Sequence[PageTask] = (),
        about: Mapping[str, Any] = {},
        told: Callable[[Path, Reading], None] = lambda folder, reading: None,
        failed: Callable[[str], None] = lambda sentence: None,
    ):
        """
        Args:
            folders: exported networks with ONNX files, as for `package_web`.
            lan: for other devices in this machine's network, instead of this machine alone.
            tls: https with a certificate of its own; by default where `lan` is, since browsers give camera
                and threads to no plain address of another machine.
            port: 0 for a free one.
            picture: what the page shows first and times; scikit-image's astronaut unless given.
            tasks: benchmarks that the page begins by itself.
            about: what is known of the device, for its readings.
            told: called with every reading that came, in a thread of the server.
            failed: called with a page's sentence about a task that it could not do.

        Raises:
            InputError: as for `package_web`; this machine is in no network; the port is not free; a package
                is missing.
        """
        image, name = load_picture(picture)
        host, tls = (_own_address() if lan else LOOPBACK), (lan if tls is None else tls)
        unique = list(dict.fromkeys(Path(folder) for folder in folders))
        with ExitStack() as stack:
            page = stack.enter_context(temporary_folder()) / "page"
            package_web(unique, page)
            self.inbox = Inbox(unique, image, name, about, told)
            self.failed = failed
            save_image(page / PICTURE, image)
            session = {"picture": name, "file": PICTURE, "tasks": [asdict(task) for task in tasks]}
            (page / SESSION).write_text(json.dumps(session), encoding="utf-8")
            _announce_session(page / "index.html")
            self.files = {
                path.relative_to(page).as_posix(): path for path in page.rglob("*") if path.is_file()
            }
            self.path, self.hosts = f"/{secrets.token_urlsafe(16)}/", {host, "localhost"}
            try:
                server = _Server((host, port), _Handler)
            except OSError as error:
                raise InputError(
                    f"port {port} of {host} cannot be used ({error.strerror}): name another one, or none"
                ) from None
            server.page = self
            stack.callback(server.server_close)
            if tls:  # the handshake is made in the connection's own thread
                server.socket = server_context(host).wrap_socket(
                    server.socket, server_side=True, do_handshake_on_connect=False
                )
            thread = threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True)
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            self.stack = stack.pop_all()
        self.port = int(server.server_address[1])
        self.address = f"{'https' if tls else 'http'}://{host}:{self.port}{self.path}"
        self.note = _note(lan, tls)

    def close(self) -> None:
        """Ends the server and removes its files: nothing listens afterwards."""
        self.stack.close()

    def __enter__(self) -> PageServer:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class _Server(ThreadingHTTPServer):
    page: PageServer
    request_queue_size = CONNECTIONS
    block_on_close = False

    def __init__(self, *words: Any):
        self.free = threading.BoundedSemaphore(CONNECTIONS)
        super().__init__(*words)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self.free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away, or no TLS, is no fault of this side."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    timeout = SILENCE
    server_version, sys_version = "toolkit", ""

    def do_GET(self) -> None:
        name = self._name()
        file = None if name is None else self.server.page.files.get(name or "index.html")
        if file is None:
            self._refuse(HTTPStatus.NOT_FOUND, "there is no such page: open the address as it was given")
        else:
            guessed = TYPES.get(file.suffix) or mimetypes.guess_type(file.name)[0]
            self._answer(HTTPStatus.OK, guessed or "application/octet-stream", file.read_bytes())

    def do_POST(self) -> None:
        name, origin = self._name(), self.headers.get("Origin", "").partition("://")[2]
        length = self.headers.get("Content-Length", "")
        if name not in (READINGS, FAULTS):
            self._refuse(HTTPStatus.NOT_FOUND, "there is no such place to post to")
        elif origin != self.headers.get("Host"):
            self._refuse(HTTPStatus.FORBIDDEN, "expected a post from this page itself")
        elif self.headers.get_content_type() != "application/json":
            self._refuse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "expected application/json")
        elif not (length.isascii() and length.isdigit()):
            self._refuse(HTTPStatus.LENGTH_REQUIRED, "expected the number of bytes (Content-Length)")
        elif len(length) > 10 or int(length) > POST_BYTES:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"expected at most {POST_BYTES:,} bytes")
        else:
            self._take(name, self.rfile.read(int(length)))

    def _take(self, name: str, data: bytes) -> None:
        page, answer = self.server.page, {}
        try:
            if name == FAULTS:
                page.failed(one_line(str(parse_json(data, SENT)), 400))
            else:
                reading = page.inbox.take(data)
                answer = {"network": reading.network, "parity": reading.parity}
        except InputError as error:
            self._refuse(HTTPStatus.BAD_REQUEST, str(error))
        else:
            self._answer(HTTPStatus.OK, "application/json", json.dumps(answer).encode())

    def _name(self) -> str | None:
        """What is asked for, below the token; None without the token, or for a machine of another name."""
        page = self.server.page
        try:
            host = urlsplit(f"//{self.headers.get('Host', '')}").hostname
            path = unquote(urlsplit(self.path).path)
        except ValueError:  # brackets that hold no address
            return None
        inside = secrets.compare_digest(path[: len(page.path)].encode(), page.path.encode())
        return path[len(page.path) :] if inside and host in page.hosts else None

    def _refuse(self, status: HTTPStatus, sentence: str) -> None:
        self.close_connection = True  # what follows may be what was not read
        self._answer(status, "application/json", json.dumps({"error": sentence}).encode())

    def _answer(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        for name, value in {**HEADERS, "Content-Type": kind, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *words: Any) -> None:
        pass


def _announce_session(html: Path) -> None:
    """The page asks for SESSION only where somebody serves it."""
    text = html.read_text(encoding="utf-8")
    mark = f'<meta name="session" content="{SESSION}">'
    html.write_text(text.replace("</head>", f"{mark}\n</head>", 1), encoding="utf-8")


def _own_address() -> str:
    """This machine's address in its network: what a packet to elsewhere would come from. None is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # for documentation only, RFC 5737
            return str(probe.getsockname()[0])
        except OSError:
            raise InputError("this machine is in no network: connect it, or serve to itself") from None


def _note(lan: bool, tls: bool) -> str:
    if not lan:
        return "It answers this machine alone: a phone needs --lan (lan=True)."
    if not tls:
        return "Without https a browser gives it neither camera nor threads; pictures and timing work."
    return (
        "Its certificate was made now, for this address, so the browser warns once: go on by Advanced "
        "(Safari: Show Details)."
    )


def _code(address: str) -> Any:
    return require("segno", "device").make(address, error="m")


def code_lines(address: str) -> str:
    """An address as a QR code in lines of text, for a terminal. Raises InputError where segno is missing."""
    lines = StringIO()
    _code(address).terminal(lines, compact=True)
    return lines.getvalue()


def code_svg(address: str) -> str:
    """An address as a QR code in SVG, for a notebook. Raises InputError where segno is missing."""
    return str(_code(address).svg_inline(scale=4, border=3, dark="#000", light="#fff"))
