import itertools
import json

import cv2
import numpy as np
import pytest
import torch

from toolkit import create_model, detect
from toolkit.boxes import cxcywh_to_xyxy, nms
from toolkit.inference.backend import DetectSettings
from toolkit.inference.preprocess import preprocess, resize_darknet
from toolkit.inference.results import as_coco, as_records
from toolkit.inference.run import annotate_video, find_in, run
from toolkit.inference.speed import speeds
from toolkit.models.decode import Boxes, decode
from toolkit.pictures import find_images, load_image
from toolkit.runtime import InputError
from toolkit.samples import untrained
from toolkit.videos import Video

# Today's darknet suppresses by its greedynms, the build that the seed published with by plain IoU.
NMS_OF_BUILD = {"darknet_noavx": "diou", "qqsrc": "plain"}


@pytest.fixture(scope="module")
def faces(zoo):
    return create_model("yoloface-500k-v2", "published")


def unmatched(found, dets, tolerance, threshold):
    """Detections of either side without a partner of the same class within `tolerance`, both in score and in
    box (relative to the picture), except those within 1e-4 of the threshold."""
    rows = np.array(dets, np.float64).reshape(-1, 7)
    rows = rows[rows[:, 1] > 0]
    theirs = list(zip(rows[:, 0], rows[:, 1], cxcywh_to_xyxy(rows[:, 3:7]), strict=True))
    lonely = []
    for box, score, class_id in zip(found.boxes, found.scores, found.class_ids, strict=True):
        for i, (their_class, their_score, their_box) in enumerate(theirs):
            near = abs(score - their_score) < tolerance and np.abs(box - their_box).max() < tolerance
            if their_class == class_id and near:
                theirs.pop(i)
                break
        else:
            lonely.append(score)
    lonely += [score for _, score, _ in theirs]
    return [s for s in lonely if abs(s - threshold) > 1e-4]


def relative(candidates, kind):
    keep = nms(candidates.boxes_norm, candidates.scores, candidates.class_ids, 0.45, kind)
    return Boxes(candidates.boxes_norm[keep], candidates.scores[keep], candidates.class_ids[keep])


def test_detections_from_darknets_own_tensors(faces, reference):
    lists = json.loads((reference / "yoloface-500k-v2.images.json").read_text())
    with np.load(reference / "yoloface-500k-v2.images.npz") as file:
        tensors = {k.split("|")[0]: file[k][None] for k in file if k.endswith("|input")}
    count = 0
    for key, entry in lists.items():
        image, threshold, build = key.split("|")
        (candidates,) = decode(faces.predict(tensors[image]), faces.io, float(threshold))
        found = relative(candidates, NMS_OF_BUILD[build])
        assert unmatched(found, entry["post"]["dets"], 5e-5, float(threshold)) == [], key
        count += len(found.scores)
    assert len(lists) == 28
    assert count > 1000


@pytest.mark.parametrize("name", ["yoloface-500k-v2", "nano-voc", "fastest-v2"])
def test_scores_from_the_jpeg_files(name, zoo, reference):
    """Another JPEG decoder leaves scores within .03; near the threshold lists may differ."""
    model = create_model(name, "published")
    lists = json.loads((reference / f"{name}.images.json").read_text())
    compared = 0
    for key, entry in lists.items():
        image, threshold, build = key.split("|")
        if threshold != "0.25" or not (zoo / "images" / image).is_file():
            continue
        x, _ = preprocess(load_image(zoo / "images" / image), model.io, DetectSettings(resize="darknet"))
        (candidates,) = decode(model.predict(x[None]), model.io, 0.25)
        found = relative(candidates, NMS_OF_BUILD[build])
        far = [s for s in unmatched(found, entry["post"]["dets"], 0.03, 0.25) if abs(s - 0.25) > 0.03]
        assert far == [], key
        compared += len(found.scores)
    assert compared > 5


def slow_resize(image, width, height):
    """darknet's resize_image, one value after the other (image.c)."""
    h, w, channels = image.shape
    part, out = np.zeros((h, width, channels), np.float32), np.zeros((height, width, channels), np.float32)
    w_scale, h_scale = np.float32(w - 1) / np.float32(width - 1), np.float32(h - 1) / np.float32(height - 1)
    for k, r, c in itertools.product(range(channels), range(h), range(width)):
        if c == width - 1 or w == 1:
            part[r, c, k] = image[r, w - 1, k]
        else:
            ix = int(np.float32(c) * w_scale)
            dx = np.float32(c) * w_scale - np.float32(ix)
            part[r, c, k] = (1 - dx) * image[r, ix, k] + dx * image[r, ix + 1, k]
    for k, r, c in itertools.product(range(channels), range(height), range(width)):
        iy = int(np.float32(r) * h_scale)
        dy = np.float32(r) * h_scale - np.float32(iy)
        out[r, c, k] = (1 - dy) * part[iy, c, k]
        if not (r == height - 1 or h == 1):
            out[r, c, k] += dy * part[iy + 1, c, k]
    return out


@pytest.mark.parametrize("source", [(7, 9), (31, 18), (12, 1)])
def test_resize_as_darknet_writes_it(source):
    image = np.random.default_rng(1).random((*source, 3), np.float32)
    np.testing.assert_allclose(resize_darknet(image, 16, 24), slow_resize(image, 16, 24), atol=1e-6)


def test_resize_as_darknet_fed_it(faces, zoo, reference):
    """The tensors that darknet fed: equal but for what its JPEG decoder rounds otherwise."""
    with np.load(reference / "yoloface-500k-v2.images.npz") as file:
        theirs = file["person.jpg|input"]
    image = load_image(zoo / "images" / "person.jpg")
    exact, _ = preprocess(image, faces.io, DetectSettings(resize="darknet"))
    bilinear, _ = preprocess(image, faces.io, DetectSettings(resize="bilinear"))
    assert np.abs(exact - theirs).max() < 4 / 255
    assert np.abs(bilinear - theirs).max() > 0.1


@pytest.mark.parametrize("fit", ["stretch", "letterbox"])
def test_boxes_land_on_the_picture(faces, pictures, fit):
    image = pictures["astronaut"]
    found = detect(faces, image, fit=fit)
    assert len(found) == 1
    assert found.data["class_name"].tolist() == ["face"]
    wide = cv2.copyMakeBorder(image, 0, 0, 300, 0, cv2.BORDER_CONSTANT)
    moved = detect(faces, wide, fit=fit)
    np.testing.assert_allclose(moved.xyxy[0] - [300, 0, 300, 0], found.xyxy[0], atol=40)


def test_run_equals_detect_for_any_batch(faces, pictures):
    images = list(pictures.values())
    one = [detect(faces, image, conf=0.05) for image in images]
    for batch in (1, 3, 16):
        many = list(run(faces, images, DetectSettings(conf=0.05), batch=batch))
        assert len(many) == len(images)
        for a, b in zip(one, many, strict=True):
            np.testing.assert_allclose(a.xyxy, b.boxes, atol=0.05)
            np.testing.assert_allclose(a.confidence, b.scores, atol=1e-5)


def test_other_input_sizes(faces, pictures):
    assert len(detect(faces, pictures["astronaut"], size=(480, 416))) == 1
    with pytest.raises(InputError, match="481x416 is not a multiple of this network's stride 32"):
        detect(faces, pictures["astronaut"], size=(481, 416))


def test_records(faces, pictures):
    (found,) = run(faces, [pictures["astronaut"]])
    (record,) = as_records(found, faces.io)
    (row,) = as_coco(found, 7)
    assert record["class"] == "face"
    assert (row["image_id"], row["category_id"]) == (7, 1)
    x1, y1, x2, y2 = record["box"]
    np.testing.assert_allclose(row["bbox"], [x1, y1, x2 - x1, y2 - y1], atol=0.02)


@pytest.mark.parametrize("batch", [1, 3, 20])
def test_pictures_that_do_not_decode_are_entered_and_leave_the_others_alone(faces, tmp_path, pictures, batch):
    paths = [tmp_path / f"{i}.png" for i in range(11)]
    for i, path in enumerate(paths):
        cv2.imwrite(str(path), pictures["astronaut"][..., ::-1][:, i:])
    whole = list(run(faces, paths, batch=batch))
    bad = [0, 1, 2, 7, 10]
    for i in bad:
        paths[i].write_bytes(b"no picture")
    paths[7].unlink()
    with pytest.raises(InputError, match="0.png does not decode"):
        list(run(faces, paths, batch=batch))
    unreadable: dict[int, str] = {}
    part = list(run(faces, paths, batch=batch, unreadable=unreadable))
    assert sorted(unreadable) == bad
    assert unreadable[7] == "is missing"
    assert unreadable[0].startswith("does not decode as a picture")
    assert [len(boxes.scores) for boxes in part] == [
        0 if i in bad else len(boxes.scores) for i, boxes in enumerate(whole)
    ]
    for i in set(range(11)) - set(bad):
        np.testing.assert_allclose(part[i].boxes, whole[i].boxes, atol=1e-3)


def test_folders_and_bad_pictures(faces, tmp_path, pictures):
    with pytest.raises(InputError, match="there is no picture in"):
        find_images(tmp_path)
    with pytest.raises(InputError, match="there is no picture, folder or video"):
        find_images(tmp_path / "none")
    (tmp_path / "sub").mkdir()
    for name in ("b.png", "sub/a.jpg"):
        assert cv2.imwrite(str(tmp_path / name), pictures["cat"])
    (tmp_path / "notes.txt").write_text("x")
    assert [p.name for p in find_images(tmp_path)] == ["b.png", "a.jpg"]
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    (tmp_path / "empty.png").write_bytes(b"")
    for name in ("broken.jpg", "empty.png"):
        with pytest.raises(InputError, match=f"{name} does not decode as a picture"):
            detect(faces, tmp_path / name)
    with pytest.raises(InputError, match="none.jpg is missing"):
        detect(faces, tmp_path / "none.jpg")
    with pytest.raises(InputError, match=r"expected an RGB picture \(H, W, 3\) of uint8"):
        detect(faces, pictures["cat"][..., 0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"resize": "cubic"}, "resize must be one of bilinear, darknet"),
        ({"fit": "crop"}, "fit must be one of stretch, letterbox"),
        ({"nms": "soft"}, "nms must be one of plain, diou"),
        ({"conf": 25}, "conf .* between 0 and 1.* 25"),
        ({"conf": "0.5"}, "conf .* between 0 and 1.* '0.5'"),
        ({"iou": -1}, "iou .* between 0 and 1.* -1"),
        ({"tresh": 0.1}, "unknown setting 'tresh'.* conf, iou, nms"),
    ],
)
def test_bad_settings(faces, pictures, settings, message):
    with pytest.raises(InputError, match=message):
        detect(faces, pictures["cat"], **settings)


def test_video(faces, pictures, tmp_path):
    source = tmp_path / "in.mp4"
    image = cv2.resize(pictures["astronaut"], (320, 320))
    writer = cv2.VideoWriter(str(source), cv2.VideoWriter.fourcc(*"mp4v"), 10, (320, 320))
    for shift in range(6):
        writer.write(np.roll(image[..., ::-1], 4 * shift, axis=1))
    writer.release()
    found = annotate_video(faces, Video(source), tmp_path / "out.mp4", settings=DetectSettings(conf=0.6))
    assert [len(f.scores) for f in found] == [1] * 6
    assert found[5].boxes[0, 0] - found[0].boxes[0, 0] == pytest.approx(20, abs=6)
    drawn = Video(tmp_path / "out.mp4")
    assert (len(drawn), drawn.size, drawn.fps) == (6, (320, 320), 10)
    assert len(annotate_video(faces, Video(source), tmp_path / "short.mp4", frames=2)) == 2
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    with pytest.raises(InputError, match="cannot open the video"):
        Video(tmp_path / "bad.mp4")
    with pytest.raises(InputError, match="cannot open the camera 97"):
        Video(97)


def test_many_batches_run_in_threads_and_leave_everything_as_it_was(pictures):
    model = untrained("yoloface-50k").train()
    images = [pictures["astronaut"], pictures["coffee"]] * 5
    threads = torch.get_num_threads(), cv2.getNumThreads()
    apart = [found for image in images for found in run(model, [image], DetectSettings(conf=0.01))]
    together = list(run(model, images, DetectSettings(conf=0.01), batch=3))
    assert sum(len(found.scores) for found in apart) > 0
    for one, other in zip(apart, together, strict=True):
        np.testing.assert_allclose(one.boxes, other.boxes, atol=1e-2)
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)
    assert model.training
    assert (torch.get_num_threads(), cv2.getNumThreads()) == threads


def test_what_was_found_shows_itself(faces, pictures):
    some = {name: pictures[name] for name in ("astronaut", "china")}
    found = find_in(faces, some, 0.5)
    assert found.columns()["picture"] == ["astronaut", "china"]
    assert found.columns()["boxes"][0] == len(found.detections[0].scores) > 0
    assert found.columns()["highest scores"][0].startswith("face ")
    assert len(found.figure().axes) == 2
    assert "<table" not in found._repr_html_()


def test_speeds_are_compared_with_the_first(faces):
    small = create_model("yoloface-50k")
    x = np.zeros((1, 3, 288, 352), np.float32)
    times = speeds({"small": small, "large": faces}, x, 0.2)
    assert times["small"].shape == times["large"].shape
    columns = times.columns()
    assert columns["network"] == ["small", "large"]
    first, second = columns["time / time of small [95 %]"]
    assert first == "1.000 [1.000, 1.000]"
    assert float(second.split()[0]) > 1
    assert len(times.figure().axes[0].patches) == 2
