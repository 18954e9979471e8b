"""Published files through a real HTTP server on loopback that also misbehaves."""

import gc
import socket
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from toolkit import detect
from toolkit.boxes import iou
from toolkit.models.published import blob_id, can_fetch, fetch, published_files
from toolkit.models.zoo import create_model, has_published_weights, published_weights
from toolkit.runtime import InputError
from toolkit.samples import photographs

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
    seed = {name: entry for name, entry in published_files().items() if not entry.shipped}
    paths = {f"/{p.repository}/{p.commit}/{p.path}": zoo / name for name, p in seed.items()}
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
        ("corrupt", "differs from the published file: its sha256"),
        ("404", "the server answers 404"),
        ("cut", "differs from the published file: it has 22506 bytes|cannot download"),
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
    with pytest.raises(InputError, match="or save .*TOOLKIT_ZOO=FOLDER; .* without --weights"):
        published_weights("nano-voc")


def test_a_local_zoo_is_checked(zoo, tmp_path, monkeypatch):
    monkeypatch.setenv("TOOLKIT_ZOO", str(tmp_path))
    with pytest.raises(InputError, match="is missing in TOOLKIT_ZOO"):
        fetch(FILE)
    (tmp_path / "yoloface-50k").mkdir()
    for content, message in ((b"other", "it has 5 bytes"), (bytes(45_012), "its sha256 is not")):
        (tmp_path / FILE).write_bytes(content)
        with pytest.raises(InputError, match=message):
            fetch(FILE)
    with pytest.raises(InputError, match="not among the published files"):
        fetch("yolov9.weights")


def test_every_published_file_is_the_one_in_the_registry(zoo, monkeypatch):
    for name, entry in published_files().items():
        if entry.sha256:
            assert fetch(name).stat().st_size == entry.bytes
        if entry.shipped:
            continue
        if not entry.sha256:
            assert len(entry.blob) == 40
        assert len(entry.commit) == 40
        assert entry.url("https://host").startswith("https://host/dog-qiuqiu/")


def test_own_weights_come_with_the_package(monkeypatch, tmp_path):
    """They need neither a network nor a folder of the seed's files, and find faces at once."""
    monkeypatch.setenv("TOOLKIT_ZOO", str(tmp_path))  # empty
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    shipped = [entry for entry in published_files().values() if entry.shipped]
    assert shipped
    for entry in shipped:
        assert can_fetch(entry.file)
        model = create_model(entry.file.partition("/")[0], "published")
        (face,) = detect(model, photographs()["astronaut"], conf=0.4).xyxy
        assert iou(face[None], np.array([[175, 60, 270, 190]], np.float32))[0, 0] > 0.5
    assert not (tmp_path / "cache").exists()


def test_damaged_own_weights_are_named(monkeypatch):
    (entry,) = (e for e in published_files().values() if e.file.startswith("yoloface-100k-v2/"))
    monkeypatch.setitem(published_files(), entry.file, replace(entry, sha256="0" * 64))
    with pytest.raises(InputError, match="install this project again"):
        fetch(entry.file)


LARGE = {"lite-voc": 1_882_102, "lite-coco": 2_003_422, "spp-coco": 4_400_845}  # parameters


def test_the_large_networks_have_published_weights_of_the_right_size():
    """A darknet file is a header of 20 bytes and 4 for each parameter."""
    for name, parameters in LARGE.items():
        assert has_published_weights(name)
        assert published_files()[f"{name}/{name}.weights"].bytes == 4 * parameters + 20
    assert published_files()["spp-coco/spp-coco.conv.57"].bytes is None


@pytest.fixture
def by_blob(server, zoo, monkeypatch):
    """yoloface-50k's weights stand for spp-coco's, known by size and blob id alone. -> a function that sets
    what is known about them."""
    known = published_files()
    small = known[FILE]
    monkeypatch.setenv("TOOLKIT_ZOO_HOST", server[0])
    blob = blob_id((zoo / FILE).read_bytes())

    def set_known(**changes):
        changes = {"sha256": "", "blob": blob, **changes}
        monkeypatch.setitem(known, BY_BLOB, replace(small, file=BY_BLOB, **changes))

    return set_known


BY_BLOB = "spp-coco/spp-coco.weights"


def test_a_file_known_by_its_blob_id(by_blob, server, zoo, tmp_path):
    """As git itself has it."""
    import subprocess

    command = ["git", "hash-object", "--no-filters", str(zoo / FILE)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    assert blob_id((zoo / FILE).read_bytes()) == told
    for size in (45_012, None):
        by_blob(bytes=size)
        path = published_weights("spp-coco")
        assert path.read_bytes() == (zoo / FILE).read_bytes()
        path.write_bytes(b"damaged")
        assert fetch(BY_BLOB).read_bytes() == (zoo / FILE).read_bytes()
        path.unlink()
    assert server[1]["requests"] == 4
    by_blob()
    with pytest.raises(InputError, match=r"45,?012 bytes|11,?248 floats"):
        create_model("spp-coco", "published")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bytes": 45_016}, "it has 45012 bytes, .* 45016"),
        ({"blob": "0" * 40}, "blob id is not 000000000000"),
    ],
)
def test_a_wrong_file_does_not_appear(by_blob, changes, message, tmp_path):
    by_blob(**changes)
    with pytest.raises(InputError, match=message):
        published_weights("spp-coco")
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_a_local_zoo_without_the_large_files(zoo):
    assert can_fetch(FILE)
    assert not can_fetch(BY_BLOB)
    with pytest.raises(
        InputError, match=r"spp-coco\.weights is missing in TOOLKIT_ZOO=.*put it there, or unset"
    ):
        create_model("spp-coco", "published")
