"""`toolkit package --web` in Chromium: the same objects and points as in Python, a camera, no network."""

import functools
import json
import re
import shutil
import threading
from base64 import b64decode
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np
import pytest

from tests.browser.conftest import ready
from toolkit import create_model
from toolkit.device import web
from toolkit.device.readings import import_readings, read_timings
from toolkit.device.report import table
from toolkit.export.write import export_model
from toolkit.faces import place_points, windows_of_boxes
from toolkit.inference.backend import DetectSettings
from toolkit.inference.run import run
from toolkit.networks import open_network
from toolkit.pictures import load_image, save_image
from toolkit.runtime import InputError

NETWORKS = ("nano-coco", "yoloface-500k-v2", "landmark106")
# Objects of a picture, and points in each, by the page's own modules.
LOOK = """async ([folder, source, conf, overlap]) => {
    const { Network } = await import("./engine.js");
    const index = await (await fetch("models/page.json")).json();
    const entry = index.models.find((each) => each.folder === folder);
    const network = await Network.open(entry, "wasm", 1);
    const landmarks = await Network.open(index.landmarks, "wasm", 1);
    const blob = await (await fetch(source)).blob();
    const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none" });
    const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
    const context = canvas.getContext("2d");
    context.drawImage(bitmap, 0, 0);
    const image = context.getImageData(0, 0, bitmap.width, bitmap.height);
    const { found } = await network.detect(image, { conf, overlap });
    const { points } = await landmarks.place(image, found);
    await network.close();
    await landmarks.close();
    return { found, points };
}"""


@pytest.fixture(scope="module")
def networks(zoo, tmp_path_factory):
    root = tmp_path_factory.mktemp("networks")
    for name in NETWORKS:
        export_model(create_model(name, "published"), root / name, ["onnx"], name=name)
    return root


@pytest.fixture(scope="module")
def folder(networks, page_engine, tmp_path_factory):
    """The page, and pictures beside it."""
    output = tmp_path_factory.mktemp("page") / "page"
    rows = web.package_web([networks / name for name in NETWORKS], output, "Faces & <things>")
    assert [row.name for row in rows] == list(NETWORKS)
    return output


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *words):
        pass


@pytest.fixture
def served(folder):
    """(address, stop) of a plain server for the folder."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()

    def stop():
        server.shutdown()
        server.server_close()
        thread.join()

    yield f"http://127.0.0.1:{server.server_port}/", stop
    if thread.is_alive():
        stop()


def looks(pictures):
    """Ten pictures of several sizes and proportions."""
    people, cat, coffee = (pictures[name] for name in ("astronaut", "cat", "coffee"))
    yield from (people, people[:, ::-1], people[:400, 60:420], cv2.resize(people, (300, 500)), people[30:330])
    yield from (cat, cat[:, ::-1], coffee, coffee[:, ::-1], cv2.resize(people, None, fx=1.7, fy=1.7))


def assert_alike(image, found, network, landmarks, placed):
    """What the page found in an image are Python's boxes and, where `placed`, landmarks. -> how many."""
    conf = 0.3
    (wanted,) = run(network, [image], DetectSettings(conf=conf, clip=False))
    sides = image.shape[1], image.shape[0]
    boxes = np.array([[d["x1"], d["y1"], d["x2"], d["y2"]] for d in found["found"]]).reshape(-1, 4)
    # An object at the threshold may be on either side of it.
    sure = wanted.scores > conf + 0.005
    assert len(boxes) >= sure.sum()
    for score, box, label in zip(
        *(v[sure] for v in (wanted.scores, wanted.boxes, wanted.class_ids)), strict=True
    ):
        far = np.abs(boxes * (*sides, *sides) - box).max(1)
        k = int(far.argmin())
        assert far[k] < 1
        assert found["found"][k]["label"] == label
        assert found["found"][k]["score"] == pytest.approx(score, abs=0.005)
        if placed:
            windows = windows_of_boxes(boxes[k : k + 1] * (*sides, *sides), landmarks.io)
            (points,), _ = place_points(image, windows.astype(np.float32), landmarks)
            # OpenCV's cut has 32 places between two pixels
            most = max(1, 0.01 * (windows[0, 2] - windows[0, 0]))
            assert np.abs(np.array(found["points"][k]) - points).max() < most
    return int(sure.sum())


@pytest.mark.parametrize("name", NETWORKS[:2])
def test_objects_and_points_are_those_of_python(name, page, served, folder, networks, pictures):
    network, landmarks = (open_network(str(networks / each)) for each in (name, "landmark106"))
    page.goto(served[0])
    ready(page)
    total = 0
    for i, image in enumerate(looks(pictures)):
        path = folder / f"look-{i}.png"
        save_image(path, np.ascontiguousarray(image))
        found = page.evaluate(LOOK, [name, path.name, 0.3, 0.45])
        total += assert_alike(load_image(path), found, network, landmarks, name == "yoloface-500k-v2")
        path.unlink()
    assert total >= 6


def test_a_picture_is_looked_at_and_timed(page, served, networks, pictures, tmp_path):
    save_image(tmp_path / "a.png", pictures["astronaut"])
    faults = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(served[0])
    assert page.title() == "Faces & <things>"
    ready(page)
    page.select_option("#model", "yoloface-500k-v2")
    ready(page)
    page.set_input_files("#file", tmp_path / "a.png")
    page.wait_for_function("document.getElementById('count').textContent === '1'")
    assert page.get_attribute("#canvas", "aria-label") == "Found: 1 face"
    page.locator("#timing summary").click()
    page.locator("#bench").click()
    page.wait_for_function("document.getElementById('bench-status').textContent.includes('timed')")
    stages = page.locator("#stages tbody tr").all_inner_texts()
    assert [row.split()[0] for row in stages] == [
        "preprocess",
        "inference",
        "postprocess",
        "landmarks",
        "all",
    ]
    assert all(float(number) > 0 for row in stages for number in row.split()[1:])
    with page.expect_download() as download:
        page.locator("#save").click()
    (reading,) = json.loads(download.value.path().read_text())["readings"]
    assert (reading["model"]["name"], reading["settings"]["run_as"]) == ("yoloface-500k-v2", "browser")
    assert len(reading["samples"]["inference_ms"]) >= 30
    assert faults == []
    exports = tmp_path / "exports"
    shutil.copytree(networks, exports)
    assert import_readings([download.value.path()], exports) == {exports / "yoloface-500k-v2": 1}
    (kept,) = read_timings(exports / "yoloface-500k-v2")
    (machine,) = table([(exports / "yoloface-500k-v2", kept)])["device"]
    assert re.fullmatch(r"browser \(wasm\), not native: Chrome \d+, X11", machine)


@pytest.fixture
def filmed(pictures, tmp_path):
    """filmed(network) -> a page whose camera is a film of five frames, as YUV like a real one's."""
    api = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed: see `make debian`")
    image = cv2.resize(pictures["astronaut"], (640, 480))
    film = tmp_path / "a.y4m"
    with film.open("wb") as file:
        file.write(b"YUV4MPEG2 W640 H480 F2:1 Ip C420jpeg\n")
        for shift in (0, 60, -60, 120, -120):
            frame = np.roll(image, shift, axis=1)
            file.write(b"FRAME\n" + cv2.cvtColor(frame, cv2.COLOR_RGB2YUV_I420).tobytes())
    camera = ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
    options = {
        "executable_path": chromium,
        "args": ["--no-sandbox", *camera, f"--use-file-for-fake-video-capture={film}"],
    }
    with api.sync_playwright() as playwright, playwright.chromium.launch(**options) as browser:
        yield browser.new_page()


def test_a_camera_is_looked_at_and_switched_off(filmed, served):
    page = filmed
    page.goto(served[0])
    ready(page)
    page.select_option("#model", "yoloface-500k-v2")
    ready(page)
    page.locator("#results summary").click()
    page.locator("#camera").click()
    page.wait_for_function("document.querySelectorAll('#rows tr').length > 0")
    label, score, _ = page.locator("#rows tr").first.locator("td").all_inner_texts()
    page.locator("#camera").click()
    page.wait_for_function("document.getElementById('status').textContent === 'Camera is off.'")
    assert label == "face"
    assert float(score) > 0.5


# Frames of the camera with what the page's modules find in them.
FILM = """async ([folder, conf, overlap]) => {
    const { Network } = await import("./engine.js");
    const index = await (await fetch("models/page.json")).json();
    const network = await Network.open(index.models.find((each) => each.folder === folder), "wasm", 1);
    const landmarks = await Network.open(index.landmarks, "wasm", 1);
    const video = document.createElement("video");
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: true });
    await video.play();
    const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
    const context = canvas.getContext("2d");
    const frames = [];
    while (frames.length < 8) {
        context.drawImage(video, 0, 0);
        const image = context.getImageData(0, 0, canvas.width, canvas.height);
        const { found } = await network.detect(image, { conf, overlap });
        const { points } = await landmarks.place(image, found);
        const file = await canvas.convertToBlob({ type: "image/png" });
        const bytes = Array.from(new Uint8Array(await file.arrayBuffer()), (b) => String.fromCharCode(b));
        frames.push({ found, points, png: btoa(bytes.join("")) });
        await new Promise((resolve) => setTimeout(resolve, 300));
    }
    return frames;
}"""


@pytest.mark.parametrize("name", NETWORKS[:2])
def test_frames_of_a_film_are_those_of_python(name, filmed, served, networks):
    network, landmarks = (open_network(str(networks / each)) for each in (name, "landmark106"))
    filmed.goto(served[0])
    ready(filmed)
    frames = filmed.evaluate(FILM, [name, 0.3, 0.45])
    images = [
        cv2.cvtColor(cv2.imdecode(np.frombuffer(b64decode(frame["png"]), np.uint8), 1), cv2.COLOR_BGR2RGB)
        for frame in frames
    ]
    assert len({image.tobytes() for image in images}) >= 3
    total = sum(
        assert_alike(image, frame, network, landmarks, name == "yoloface-500k-v2")
        for image, frame in zip(images, frames, strict=True)
    )
    assert total >= len(frames)


def test_it_works_offline_after_the_first_visit(page, served, pictures, tmp_path):
    save_image(tmp_path / "a.png", pictures["astronaut"])
    address, stop = served
    page.goto(address)
    ready(page)
    page.wait_for_function("navigator.serviceWorker.controller !== null")
    stop()
    page.reload()
    ready(page)
    page.set_input_files("#file", tmp_path / "a.png")
    page.wait_for_function("document.getElementById('count').textContent === '1'")
    assert page.get_attribute("#canvas", "aria-label") == "Found: 1 person"


def test_bad_input(networks, tmp_path):
    with pytest.raises(InputError, match="places landmarks and finds no objects"):
        web.package_web([networks / "landmark106"], tmp_path / "page")
    export_model(create_model("yoloface-50k"), tmp_path / "net", ["ncnn"])
    with pytest.raises(
        InputError, match="has no onnx files, which the app runs: export the network with --to onnx"
    ):
        web.package_web([tmp_path / "net"], tmp_path / "page")
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "a.txt").write_text("a")
    with pytest.raises(InputError, match="exists and is not a packaged page"):
        web.package_web([networks / "nano-coco"], tmp_path / "own")
    assert not (tmp_path / "page").exists()


def test_no_file_is_from_elsewhere(folder):
    """The page asks no other host for anything."""
    for path in folder.rglob("*"):
        if path.suffix in (".html", ".css", ".js", ".webmanifest", ".svg") and path.parent.name != "ort":
            addresses = re.findall(r"https?://[^\s\"')]+", path.read_text())
            assert set(addresses) <= {"http://www.w3.org/2000/svg"}, path
