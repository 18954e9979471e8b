"""README's `toolkit data curate --app`: somebody looks, moves a picture to another split, closes the page."""

import json
import shlex
import socket
import time
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest

from tests.test_readme import WITH_APP
from toolkit.data.catalog import load
from toolkit.data.curation import read_record
from toolkit.data.curation.app import RELOAD_SECONDS
from toolkit.data.toy import make_toy


def pixels(pictures):
    """What the browser shows of each, (H, W, 3)."""
    shots = [np.frombuffer(picture.screenshot(), np.uint8) for picture in pictures.all()]
    return [cv2.imdecode(shot, cv2.IMREAD_COLOR) for shot in shots]


def small(image):
    return cv2.resize(image, (16, 16), interpolation=cv2.INTER_AREA).astype(int)


def assert_boxes_are_drawn(toy, i, drawn, plain):
    """`plain` is picture `i`; `drawn` differs from it along the outlines of its boxes and nowhere else."""
    assert np.abs(small(plain) - small(cv2.imread(str(toy.path(i))))).mean() < 5
    height, width = plain.shape[:2]
    corners = toy.boxes[toy.rows(i)] * np.tile((width, height), 2) / np.tile(toy.sizes[i], 2)
    lines, near = np.zeros((2, height, width), np.uint8)
    for x1, y1, x2, y2 in corners.round().astype(int).tolist():
        cv2.rectangle(lines, (x1, y1), (x2, y2), 1)
        cv2.rectangle(near, (x1, y1), (x2, y2), 1, thickness=5)
    changed = (cv2.absdiff(drawn, plain).max(axis=2) > 30).astype(np.uint8)
    assert not changed[near == 0].any()
    assert cv2.dilate(changed, np.ones((5, 5)))[lines == 1].mean() > 0.95


def test_boxes_are_shown_and_what_was_decided_comes_back(page, start, address, zoo, tmp_path):
    (command,) = WITH_APP
    program, *words = shlex.split(command, comments=True)
    assert (program, words[:4]) == ("toolkit", ["data", "curate", "datasets/mine", "curated"])
    toy = make_toy(tmp_path / "datasets" / "mine", count=24, classes=4)
    toy.path(1).write_bytes(toy.path(0).read_bytes())  # a duplicate: tagged, and kept without the option
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = start(
        *("toolkit.cli", *words, "--json"),
        FIFTYONE_DEFAULT_APP_PORT=str(port),
        BROWSER="true",  # the command opens one, and this program does nothing
    )
    page.add_locator_handler(
        page.get_by_role("button", name="Dismiss"), lambda button: button.first.click(), no_wait_after=True
    )
    page.goto(address(process))
    looker = page.locator("[data-cy=looker]")
    pictures = looker.locator("canvas[canvas-loaded=true]")
    pictures.nth(len(toy) - 1).wait_for()
    page.get_by_text("FiftyOne", exact=True).hover()  # a picture below the mouse gets a frame
    shown = []
    for name in ("boxes", "pictures"):
        page.wait_for_timeout(1000)  # they fade in
        page.screenshot(path=tmp_path / f"{name}.png")
        shown.append(pixels(pictures))
        page.locator("[data-cy=checkbox-ground_truth]").click()
    assert len(shown[0]) == len(toy)
    for i, (drawn, plain) in enumerate(zip(*shown, strict=True)):
        assert_boxes_are_drawn(toy, i, drawn, plain)

    looker.nth(2).hover()
    looker.nth(2).locator("label").click()
    page.locator("[data-cy=action-tag-sample-labels]").click()
    for split in ("train", "val"):  # off, on
        page.locator("[data-cy=popout]").get_by_text(split, exact=True).click()
    page.screenshot(path=tmp_path / "tags.png")
    page.locator("[data-cy=button-Apply]").click()
    moved, deadline = str(toy.image_ids[2]), time.monotonic() + 60
    while "split" not in read_record(tmp_path / "curated" / "record.json")["pictures"].get(moved, {}):
        assert time.monotonic() < deadline
        page.wait_for_timeout(200)

    page.reload()
    pictures.nth(len(toy) - 1).wait_for()
    page.wait_for_timeout(1000 * (RELOAD_SECONDS + 2))
    assert process.poll() is None
    page.context.browser.close()  # of a page alone, Chromium may keep the connection
    assert process.wait(timeout=120) == 0
    answer = json.loads((tmp_path / "answer.txt").read_text())
    assert (answer["pictures"], answer["kept"], answer["views"]["duplicates"]) == (24, 24, 2)
    record = read_record(tmp_path / "curated" / "record.json")
    assert record["pictures"][moved]["split"] == {"from": "train", "to": "val"}
    curated = load(tmp_path / "curated" / "curated")
    splits = dict(zip(toy.files, toy.splits, strict=True)) | {toy.files[2]: "val"}
    assert dict(zip(curated.files, curated.splits, strict=True)) == splits
    assert len(curated.boxes) == len(toy.boxes)


def connected(address):
    """A connection that asks for the App's events, as its page does."""
    initializer = {"events": ["state_update"], "initializer": {"dataset": "curation"}, "subscription": "a"}
    body, url = json.dumps(initializer), urlsplit(address)
    head = f"POST /events HTTP/1.1\r\nHost: {url.netloc}\r\nContent-Type: application/json\r\n"
    connection = socket.create_connection((url.hostname, url.port))
    connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
    return connection


def test_a_page_that_goes_before_it_is_answered_does_not_count_as_open(start, address, tmp_path):
    pytest.importorskip("fiftyone", reason="the extra curation is not installed")
    make_toy(tmp_path / "mine", count=4, classes=4)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = ("toolkit.cli", "data", "curate", "mine", "curated", "--app", "--json")
    process = start(*words, FIFTYONE_DEFAULT_APP_PORT=str(port), BROWSER="true")
    app = address(process)
    for i in range(20):
        connection = connected(app)
        time.sleep(0.002 * i)
        connection.close()
    for _ in range(2):  # loaded again after a second or two
        last = connected(app)
        assert last.recv(100)
        last.close()
        time.sleep(1.5)
    last = connected(app)
    assert last.recv(100)
    time.sleep(RELOAD_SECONDS + 2)
    assert process.poll() is None
    last.close()
    assert process.wait(timeout=60) == 0
