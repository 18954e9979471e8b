"""Published files through a real HTTP server on loopback that also misbehaves."""

import gc
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from toolkit.models.published import fetch, published_files
from toolkit.models.zoo import published_weights
from toolkit.runtime import InputError

FILE = "yoloface-50k/yoloface-50k.weights"


# pooch leaves the connection of a download that failed to the garbage collector, which says so at any time.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True)
def collected():
    """What is left to the garbage collector goes while the filters above hold."""
    yield
    gc.collect()


@pytest.fixture
def server(zoo, monkeypatch, tmp_path):
    """Serves the zoo under the seed's paths; `mode` makes it fail. -> (address, set_mode, requests)."""
    state = {"mode": "good", "requests": 0}
    paths = {f"/{p.repository}/{p.commit}/{p.path}": zoo / name for name, p in published_files().items()}
    release = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            state["requests"] += 1
            data = paths[self.path].read_bytes()
            mode = state["mode"]
            if mode == "404":
                self.send_error(404)
                return
            if mode == "hang":
                release.wait(20)
                return
            if mode == "corrupt":
                data = data[:100] + b"\0" + data[101:]
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2] if mode == "cut" else data)

        def log_message(self, *args):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    monkeypatch.delenv("TOOLKIT_ZOO")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    yield f"http://127.0.0.1:{http.server_port}", state
    release.set()
    http.shutdown()
    http.server_close()
    thread.join()


def test_download_once_and_keep(server, zoo, tmp_path):
    host, state = server
    path = fetch(FILE, host)
    assert path.read_bytes() == (zoo / FILE).read_bytes()
    assert path.is_relative_to(tmp_path)
    assert fetch(FILE, host) == path
    assert state["requests"] == 1


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("corrupt", "differs from the published file"),
        ("404", "the server answers 404"),
        ("cut", "differs from the published file|cannot download"),
        ("hang", "no answer in 0.5 seconds"),
    ],
)
def test_a_bad_server_leaves_nothing_behind(server, mode, message, tmp_path):
    host, state = server
    state["mode"] = mode
    with pytest.raises(InputError, match=message) as caught:
        fetch(FILE, host, timeout=0.5)
    assert "\n" not in str(caught.value)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []
    state["mode"] = "good"
    assert fetch(FILE, host).stat().st_size == published_files()[FILE].bytes


def test_a_damaged_file_in_the_cache_is_replaced(server, zoo):
    host, _ = server
    path = fetch(FILE, host)
    path.write_bytes(b"damaged")
    assert fetch(FILE, host).read_bytes() == (zoo / FILE).read_bytes()


def test_no_network(monkeypatch, tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    monkeypatch.delenv("TOOLKIT_ZOO", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("TOOLKIT_ZOO_HOST", f"http://127.0.0.1:{port}")
    with pytest.raises(InputError, match="connect to a network, or set TOOLKIT_ZOO to a folder"):
        published_weights("nano-voc")


def test_a_local_zoo_is_checked(zoo, tmp_path, monkeypatch):
    monkeypatch.setenv("TOOLKIT_ZOO", str(tmp_path))
    with pytest.raises(InputError, match="is missing in TOOLKIT_ZOO"):
        fetch(FILE)
    (tmp_path / "yoloface-50k").mkdir()
    (tmp_path / FILE).write_bytes(b"other")
    with pytest.raises(InputError, match="its sha256 is not"):
        fetch(FILE)
    with pytest.raises(InputError, match="not among the published files"):
        fetch("yolov9.weights")


def test_every_published_file_is_the_one_in_the_registry(zoo, monkeypatch):
    for name, entry in published_files().items():
        assert fetch(name).stat().st_size == entry.bytes
        assert len(entry.commit) == 40
        assert entry.url("https://host").startswith("https://host/dog-qiuqiu/")
