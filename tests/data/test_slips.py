"""Labels that come in whole and mean something else, or meet what people did not intend to lose."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest

from tests.data.labelling import coco, pictures, put, train_and_valid, voc_xml, write_voc, write_yolo
from toolkit.data.catalog import load, load_pictures
from toolkit.data.formats import registry
from toolkit.data.formats.yolo_lines import hold_key_points
from toolkit.data.importing import import_dataset
from toolkit.pictures import load_image, save_image
from toolkit.runtime import InputError


def notes_of(top, **options) -> str:
    return "\n".join(registry.read(top, **options).intake.notes)


def test_what_is_no_data_set_is_not_replaced(tmp_path):
    truth = pictures(tmp_path / "mine", "images/a.jpg", "images/b.jpg")
    write_yolo(tmp_path / "mine", truth)
    put(tmp_path / "mine" / "classes.txt", "nut\nbolt\n")
    put(tmp_path / "other" / "thesis.docx", "years of work")
    before = sorted(path for path in tmp_path.rglob("*"))
    for output, words in (("mine", "which is read"), ("other", "holds thesis.docx"), (".", "which is read")):
        with pytest.raises(InputError, match=words):
            import_dataset(tmp_path / "mine", tmp_path / output, overwrite=True)
    assert sorted(path for path in tmp_path.rglob("*")) == before
    for _ in range(2):  # a data set is
        import_dataset(tmp_path / "mine", tmp_path / "out", overwrite=True)


def test_an_import_beside_its_source_is_not_read_again(tmp_path):
    write_yolo(tmp_path, pictures(tmp_path, "images/a.jpg"))
    put(tmp_path / "classes.txt", "nut\nbolt\n")
    first = import_dataset(tmp_path, tmp_path / "out")
    again = registry.read(tmp_path)
    assert (again.intake.format, again.files, len(again.labels)) == ("yolo", ["a.jpg"], len(first.labels))
    assert "not read again: out" in "".join(again.intake.notes)
    put(tmp_path / "out" / "import.json", "{}")  # a stranger's, of that name
    assert "not read again" not in "".join(registry.read(tmp_path).intake.notes)


def test_a_picture_is_replaced_and_its_other_links_stay(tmp_path):
    save_image(tmp_path / "a.png", np.zeros((4, 4, 3), np.uint8))
    os.link(tmp_path / "a.png", tmp_path / "b.png")
    save_image(tmp_path / "b.png", np.full((4, 4, 3), 255, np.uint8))
    assert [load_image(tmp_path / name).max() for name in ("a.png", "b.png")] == [0, 255]


def test_two_data_sets_in_one_folder_are_not_mixed(tmp_path):
    for person, names in (("anna", "nut\nbolt\n"), ("bob", "bolt\nnut\n")):
        write_yolo(tmp_path / person, pictures(tmp_path / person, f"{person}.jpg"))
        put(tmp_path / person / "classes.txt", names)
    with pytest.raises(
        InputError, match="name other classes, or in another order: import the folders one by"
    ):
        registry.read(tmp_path)
    put(tmp_path / "bob" / "classes.txt", "nut\nbolt\n")
    assert len(registry.read(tmp_path)) == 2
    for person in ("anna", "bob"):
        put(tmp_path / person / "data.yaml", "train: .\nnames: [nut, bolt]\n")
    with pytest.raises(InputError, match=r"several data sets .*anna.data\.yaml, .*bob.data\.yaml"):
        registry.read(tmp_path)


@pytest.mark.parametrize("last", ["-1 -1", "0.{0}2 0.{0}1"])
def test_key_points_without_settings_keep_their_boxes(last, tmp_path):
    """Boxes of a tenth around .5, .6 and .7 whose points lie close together, or are not there."""
    pictures(tmp_path, "a.jpg")
    points = f"0.{{0}}1 0.{{0}}2 0.{{0}}3 0.{{0}}4 {last}"
    lines = "".join(f"0 .{d}3 .{d}3 .1 .1 {points.format(d)}\n" for d in (5, 6, 7))
    put(tmp_path / "a.txt", lines)
    put(tmp_path / "classes.txt", "nut\n")
    dataset = registry.read(tmp_path)
    assert "key points" in "".join(dataset.intake.notes)
    sides = (dataset.boxes[:, 2:] - dataset.boxes[:, :2]) / dataset.sizes[0]
    np.testing.assert_allclose(sides, 0.1, atol=1e-5)


def test_polygons_are_hardly_ever_taken_for_key_points():
    rng = np.random.default_rng(0)
    for count in (4, 6):  # oriented boxes, and polygons of six corners
        for _ in range(200):
            turns = rng.uniform(0, 7, (20, 1)) + np.arange(count) * 2 * np.pi / count
            centre, side = rng.uniform(0.2, 0.8, (2, 20, 1)), rng.uniform(0.02, 0.2, (2, 20, 1))
            xy = np.stack((centre[0] + side[0] * np.cos(turns), centre[1] + side[1] * np.sin(turns)), axis=2)
            lines = [f"0 {' '.join(f'{v:.5f}' for v in row)}" for row in xy.reshape(20, -1)]
            assert not hold_key_points(lines)


def test_labels_of_another_format_for_pictures_without_boxes_are_counted(tmp_path):
    truth = pictures(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    files = list(truth)
    write_yolo(tmp_path, {files[0]: truth[files[0]]})
    put(tmp_path / "classes.txt", "nut\nbolt\n")
    for file in files[1:]:
        put(tmp_path / f"{file[:-4]}.xml", voc_xml(file, truth[file]))
    dataset = registry.read(tmp_path)
    (lost,) = dataset.intake.left_out
    assert (dataset.intake.format, lost.kind, lost.count) == ("voc", "label files of another format", 1)
    assert "a.txt is of the format yolo" in lost.example
    with pytest.raises(InputError, match="import the formats one by one"):
        registry.read(tmp_path, faults="refuse")
    write_yolo(tmp_path, truth)  # the same in both is no loss
    put(tmp_path / "a.xml", voc_xml("a.jpg", truth[files[0]]))
    assert not registry.read(tmp_path).intake.left_out


def test_recorded_sizes_and_near_names_are_remarked(tmp_path):
    labels = coco(pictures(tmp_path, "a.jpg", "b.jpg"))
    labels["images"][1] |= {"width": 7, "height": 9}
    labels["categories"].append({"id": 9, "name": " Nut"})
    put(tmp_path / "x.json", json.dumps(labels))
    notes = notes_of(tmp_path)
    assert "recorded size of 1 of 2 pictures" in notes
    assert "b.jpg is recorded as 7 x 9" in notes
    assert "'nut' and 'Nut' are two, and differ in upper and lower case only" in notes


def test_two_records_of_a_picture_are_one(tmp_path):
    labels = coco(truth := pictures(tmp_path, "a.jpg", "b.jpg"))
    labels["images"].append({**labels["images"][0], "id": 77})
    labels["annotations"][1]["image_id"] = 77
    put(tmp_path / "x.json", json.dumps(labels))
    dataset = registry.read(tmp_path)
    assert dataset.files == ["a.jpg", "b.jpg"]
    assert len(dataset.labels) == sum(map(len, truth.values()))
    assert "1 records of a picture that another one names were joined" in "".join(dataset.intake.notes)


def test_classes_of_nameless_labels_are_names_or_numbers(tmp_path):
    truth = pictures(tmp_path, "a.jpg", "b.jpg")
    write_yolo(tmp_path, truth)
    for asked, classes in ((["nut", "bolt"], {"nut", "bolt"}), (["1"], {"1"})):
        assert set(registry.read(tmp_path, classes=asked).classes) == classes
    both = registry.read(tmp_path)
    one = registry.read(tmp_path, classes=["1"])
    assert len(one.labels) == int((both.labels == 1).sum())


def test_a_list_with_the_rectangle_before_the_points(tmp_path):
    pictures(tmp_path, "a.jpg", "b.jpg")
    points = "40 40 50 40 45 45 41 50 49 50"
    put(tmp_path / "list.txt", f"a.jpg 30 60 35 55 {points}\nb.jpg 30 60 35 55 {points}\n")
    dataset = registry.read(tmp_path)
    assert dataset.boxes.tolist() == [[30, 35, 60, 55]] * 2
    assert dataset.keypoints[0, 0].tolist() == [40, 40, 2]


def test_rows_with_a_class_and_no_box_are_counted(tmp_path):
    pictures(tmp_path, "a.jpg", "b.jpg")
    header = "filename,width,height,class,xmin,ymin,xmax,ymax\n"
    put(
        tmp_path / "x.csv",
        f"{header}a.jpg,160,120,nut,1,2,30,40\nb.jpg,160,120,nut,,,,\nb.jpg,160\nb.jpg,,,,,,,\n",
    )
    dataset = registry.read(tmp_path)
    assert [(part.kind, part.count) for part in dataset.intake.left_out] == [("rows without a whole box", 2)]


def test_an_ampersand_alone_is_read(tmp_path):
    truth = pictures(tmp_path, "a.jpg")
    put(tmp_path / "a.xml", voc_xml("a.jpg", truth["a.jpg"]).replace("nut", "nut & bolt"))
    assert "nut & bolt" in registry.read(tmp_path).classes


def test_an_option_of_another_format_is_refused(tmp_path):
    truth = train_and_valid(tmp_path, "{split}/{name}.jpg")
    write_voc(tmp_path, truth, None)
    first = registry.read(tmp_path)
    moved = registry.read(tmp_path, one_based=True)
    np.testing.assert_array_equal(moved.boxes - first.boxes, [[-1, -1, 0, 0]] * len(first.labels))
    with pytest.raises(InputError, match="the format folder has no option one_based"):
        registry.read(tmp_path, "folder", one_based=True)


def test_pictures_to_be_labelled_may_lie_among_anything(tmp_path):
    pictures(tmp_path, "a.jpg", "b.jpg")
    put(tmp_path / "notes.txt", "taken in May")
    with pytest.raises(InputError, match=r"notes\.txt"):
        load(tmp_path)
    alone = load_pictures(tmp_path)
    assert alone.files == ["a.jpg", "b.jpg"]
    assert "only the pictures count: " in alone.intake.notes[-1]
    assert "notes.txt" in alone.intake.notes[-1]


def test_labels_beside_a_folder_of_pictures_are_named(tmp_path):
    truth = pictures(tmp_path / "set" / "images" / "train", "a.jpg", "b.jpg")
    labels = put(tmp_path / "set" / "result.json", json.dumps(coco(truth)))
    for folder in ("set/images", "set/images/train"):
        with pytest.raises(InputError, match=r"labels are near .*result\.json.: give .*set, or"):
            registry.read(tmp_path / folder)
    assert len(registry.read(tmp_path / "set").labels) == sum(map(len, truth.values()))
    (tmp_path / "set" / "images").rename(tmp_path / "set" / "holidays")  # whose name says nothing of the kind
    assert len(registry.read(tmp_path / "set" / "holidays")) == 2
    labels.unlink()
    assert registry.read(tmp_path / "set" / "holidays" / "train").intake.format == "folder"


def test_an_archive_in_a_folder_is_named(tmp_path):
    put(tmp_path / "export.zip", b"PK")
    with pytest.raises(InputError, match=r"export\.zip is an archive"):
        registry.read(tmp_path)


def test_boxes_of_moved_pictures_stay_in_order(tmp_path):
    write_yolo(tmp_path, pictures(tmp_path, "a.jpg", "b.jpg", "c.jpg"))
    put(tmp_path / "classes.txt", "nut\nbolt\n")
    dataset = registry.read(tmp_path)
    merged = dataset.merged(np.array([0, 1, 0]))
    assert merged.files == dataset.files[:2]
    own = [dataset.boxes[dataset.rows(i)] for i in (0, 2, 1)]
    np.testing.assert_array_equal(merged.boxes, np.concatenate(own))
    assert replace(dataset).merged(np.arange(3)).files == dataset.files
