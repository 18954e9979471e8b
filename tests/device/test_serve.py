"""The page's server against strangers: what is refused, what is not given, nothing left."""

import http.client
import json
import socket
import ssl
import threading
import urllib.request
from urllib.parse import urlsplit

import cv2
import numpy as np
import psutil
import pytest

from toolkit import create_model
from toolkit.device.readings import read_timings
from toolkit.device.report import table_of_engines
from toolkit.device.serve import HEADERS, PageServer, code_lines, code_svg
from toolkit.export.folder import Exported
from toolkit.export.write import export_model
from toolkit.runtime import InputError

AGENT = "Mozilla/5.0 (Linux; Android 15) Chrome/140.0"


@pytest.fixture(scope="module")
def exported(page_engine, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exports") / "net"
    export_model(create_model("yoloface-50k"), folder, ["onnx", "ncnn"], name="net")
    return folder


@pytest.fixture
def server(exported):
    (exported / "timing.json").unlink(missing_ok=True)
    with PageServer([exported]) as server:
        yield server


def asked(server, method, path, body=None, **headers):
    """-> (status, headers, body) of one request."""
    url = urlsplit(server.address)
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=20)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): v for name, v in headers.items()})
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def posted(server, body, place="readings", **headers):
    url = urlsplit(server.address)
    usual = {"Content_Type": "application/json", "Origin": f"http://{url.netloc}"}
    status, _, answer = asked(server, "POST", server.path + place, body, **usual | headers)
    return status, json.loads(answer)


def reading(exported, **changes):
    """What the page sends, with `changes` {"settings.threads": 3}."""
    sha256 = Exported.read(exported).facts("onnx")["model.onnx"].sha256
    data = {
        "schema": 1,
        "kind": "bench",
        "model": {"name": "net", "format": "onnx", "sha256": {"model.onnx": sha256}},
        "input": {"picture": "mine.jpg", "width": 640, "height": 480},
        "settings": {"threads": 2, "powersave": 0, "precision": "fp32", "conf": 0.3, "iou": 0.45,
                     "run_as": "browser", "backend": "wasm"},
        "runtime": {"engine": "onnxruntime-web", "version": "1", "isolated": True},
        "cpu": {"cores": 8},
        "device": {"kind": "browser", "user_agent": AGENT, "charging": True},
        "date": "2026-11-30T05:00:00Z",
        "load_ms": 12.5,
        "samples": {f"{name}_ms": [1.0, 2.0] for name in ("start", "preprocess", "inference", "postprocess")},
        "detections": [],
    }  # fmt: skip
    for path, value in changes.items():
        *places, last = path.split(".")
        part = data
        for place in places:
            part = part[place]
        part[last] = value
    return json.dumps(data).encode()


def test_a_reading_arrives_and_is_kept(exported):
    arrived = []
    with PageServer([exported], told=lambda folder, reading: arrived.append((folder, reading))) as server:
        assert posted(server, reading(exported)) == (200, {"network": "net", "parity": {}})
        posted(server, reading(exported))  # the same again is no second one
        ((folder, kept),) = server.inbox.readings
    assert arrived == [(folder, kept)]
    assert read_timings(exported) == [kept]
    assert kept.machine == "browser (wasm), not native: Chrome 140, Linux"
    assert kept.device["charging"] is True
    columns = table_of_engines([(folder, kept)])
    assert columns["browser, WASM, ms"] == ["1.5"]
    assert columns["device"] == ["unknown device"]


HOSTILE = {
    "no JSON": b"{",
    "no object": b"[]",
    "deep": b"[" * 100_000,
    "binary": bytes(range(256)),
    "a number of 10^5 digits": b'{"schema": ' + b"9" * 100_000 + b"}",
    "NaN": {"load_ms": float("nan")},
    "infinite": {"load_ms": float("inf")},
    "negative": {"samples.inference_ms": [-1.0, 2.0]},
    "uneven": {"samples.inference_ms": [1.0]},
    "no samples": {"samples": {}},
    "text for a number": {"settings.threads": "many"},
    "threads": {"settings.threads": 10**9},
    "a path": {"model.sha256": {"../../etc/passwd": "0" * 64}},
    "another file": {"model.sha256": {"model.onnx": "0" * 64}},
    "another network": {"model.name": "../net"},
    "another format": {"model.format": "ncnn"},
    "a format of nobody": {"model.format": "rm -rf"},
    "a program's": {"settings.run_as": "program"},
    "escape sequences": {"model.name": "\x1b[31m"},
    "landmarks of nobody": {"landmarks": {"name": "x", "format": "onnx", "sha256": {"x": "0" * 64}}},
    "a schema": {"schema": 99},
    "scores": {"detections": [{"class": "a", "score": 7, "box": [0, 0, 1, 1]}]},
    "boxes": {"detections": [{"class": "a", "score": 0.5, "box": [0, 0, 1, 1e999]}]},
    "a date of 10 kB": {"date": "9" * 10_000},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_posts_are_refused(name, server, exported):
    body = HOSTILE[name]
    if isinstance(body, dict):
        body = reading(exported, **body)
    status, answer = posted(server, body)
    assert status == 400
    assert 10 < len(answer["error"]) < 500
    assert answer["error"].isprintable()
    assert server.inbox.readings == []
    assert not (exported / "timing.json").exists()


REFUSED = {
    "another origin": ({"Origin": "https://example.org"}, 403),
    "no origin": ({"Origin": ""}, 403),
    "a form": ({"Content_Type": "text/plain"}, 415),
    "another host": ({"Host": "example.org"}, 404),
    "no host": ({"Host": ""}, 404),
    "half a host": ({"Host": "["}, 404),
    "half an origin": ({"Origin": "http://["}, 403),
    "a length of words": ({"Content_Length": "ten"}, 411),
    "a negative length": ({"Content_Length": "-5"}, 411),
    "50 GB": ({"Content_Length": "50000000000"}, 413),
    "a length of 10^4 digits": ({"Content_Length": "9" * 10_000}, 413),
}


@pytest.mark.parametrize("name", REFUSED)
def test_posts_from_elsewhere_are_refused_before_they_are_read(name, server, exported):
    headers, status = REFUSED[name]
    assert posted(server, reading(exported), **headers)[0] == status
    assert not (exported / "timing.json").exists()


def test_a_post_needs_the_token_and_a_place(server, exported):
    for path in ("/readings", "/x/readings", server.path[:-2] + "/readings", server.path + "else", "/", ""):
        status, _, _ = asked(server, "POST", path or "/", reading(exported))
        assert status == 404
    assert not (exported / "timing.json").exists()


def test_files_of_the_page_alone(server, exported):
    status, headers, body = asked(server, "GET", server.path)
    assert status == 200
    assert b'<meta name="session"' in body
    assert {name: headers[name] for name in HEADERS} == HEADERS
    status, headers, _ = asked(server, "GET", server.path + "ort/ort-wasm-simd-threaded.wasm")
    assert (status, headers["Content-Type"]) == (200, "application/wasm")
    for path in (
        "/",
        "/index.html",
        server.path + "../",
        server.path + "%2e%2e/%2e%2e/etc/passwd",
        server.path + "/etc/passwd",
        server.path + "models/",
        server.path + "models/net/timing.json",
        server.path + "%00",
        server.path[:-3] + "xx/",
        "//[" + server.path,
    ):
        assert asked(server, "GET", path)[0] == 404, path
    assert asked(server, "GET", server.path, Host="evil.example")[0] == 404
    assert asked(server, "PUT", server.path, b"x")[0] == 501


def test_noise_and_silence_keep_nobody_else_out(server):
    """Connections that say nothing, or no HTTP, are dropped; a page is answered meanwhile."""
    url = urlsplit(server.address)
    silent = [socket.create_connection((url.hostname, url.port)) for _ in range(20)]
    noise = socket.create_connection((url.hostname, url.port))
    noise.sendall(b"\x16\x03\x01" + bytes(1000))
    assert asked(server, "GET", server.path)[0] == 200
    for connection in (*silent, noise):
        connection.close()


def listening():
    return {c.laddr.port for c in psutil.Process().net_connections() if c.status == psutil.CONN_LISTEN}


@pytest.mark.parametrize("tls", [False, True])
def test_nothing_listens_afterwards(exported, tls, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = listening()
    with PageServer([exported], tls=tls) as server:
        assert listening() - before == {server.port}
        assert {c.laddr.ip for c in psutil.Process().net_connections() if c.laddr.port == server.port} == {
            "127.0.0.1"
        }
        context = ssl._create_unverified_context() if tls else None
        with urllib.request.urlopen(server.address, context=context) as page:
            assert page.status == 200
        # one that never speaks TLS holds up nobody
        with (
            socket.create_connection(("127.0.0.1", server.port)),
            urllib.request.urlopen(server.address, context=context, timeout=10) as page,
        ):
            assert page.status == 200
    assert listening() == before
    assert not [thread for thread in threading.enumerate() if thread.name.endswith("(serve_forever)")]
    assert not list(tmp_path.iterdir())


def test_in_the_network_it_is_https_at_one_address(exported):
    try:
        server = PageServer([exported], lan=True)
    except InputError as error:
        pytest.skip(str(error))
    with server:
        url = urlsplit(server.address)
        assert url.scheme == "https"
        assert url.hostname not in ("127.0.0.1", "0.0.0.0")
        assert "warns once" in server.note
        pem = ssl.get_server_certificate((url.hostname, url.port))
        context = ssl.create_default_context(cadata=pem)  # it is for this address, and valid
        with urllib.request.urlopen(server.address, context=context) as page:
            assert page.status == 200


def test_a_taken_port(exported):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port} of 127.0.0.1 cannot be used"):
            PageServer([exported], port=port)


def test_the_code_is_the_address(server):
    """As a camera reads it off a dark terminal."""
    halves = {"\u2588": (1, 1), "\u2580": (1, 0), "\u2584": (0, 1), " ": (0, 0)}
    lines = [line for line in code_lines(server.address).splitlines() if line]
    rows = [[halves[letter] for letter in line] for line in lines]
    image = np.array(rows, np.uint8).transpose(0, 2, 1).reshape(2 * len(rows), -1) * 255
    image = cv2.resize(image, None, fx=8, fy=8, interpolation=cv2.INTER_NEAREST)
    assert cv2.QRCodeDetector().detectAndDecode(image)[0] == server.address
    assert "<svg" in code_svg(server.address)
