"""Tables of boxes as tools write them: what their columns mean, their classes, splits and faults."""

import pytest

from tests.data.labelling import put
from tests.data.sets import labels_of, write_picture
from toolkit.data.formats import registry
from toolkit.runtime import InputError

SIZE = (200, 100)
CAT = {"a.jpg": [("cat", 20, 10, 60, 50)]}
TF = "filename,width,height,class,xmin,ymin,xmax,ymax\n"


def folder(top, *names, **texts):
    """Pictures of 200 x 100 px, and label files."""
    for name in names:
        write_picture(top / name, *SIZE)
    for name, text in texts.items():
        put(top / name.replace("__", "/").replace("_dot_", "."), text)
    return top


@pytest.mark.parametrize(
    "text",
    [
        TF + "a.jpg,200,100,cat,20,10,60,50\n",
        "a.jpg,20,10,60,50,cat\n",  # RetinaNet
        "/home/me/a.jpg,cat,20,10,60,50\n",
        "a.jpg,200,100,cat,20,10,60,50\n",
        "cat,20,10,40,40,a.jpg,200,100\n",  # makesense.ai
        "label_name,bbox_x,bbox_y,bbox_width,bbox_height,image_name,image_width,image_height\n"
        "cat,20,10,40,40,a.jpg,200,100\n",
        "TRAIN,gs://bucket/a.jpg,cat,0.1,0.1,,,0.3,0.5,,\n",  # AutoML Vision
        "image_id,width,height,bbox,class\na,200,100,\"[20, 10, 40.0, 40]\",cat\n",  # Kaggle
        "image_name,BoxesString,label\na.jpg,20 10 60 50,cat\n",  # global wheat 2021
        "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf\n"
        "a,xclick,cat,1,0.1,0.3,0.1,0.5,0,0,0\n",
        "frame;xmin;xmax;ymin;ymax;label\na.jpg;20;60;10;50;cat\n",
        "sep=;\nfilename;class;xmin;ymin;xmax;ymax\na.jpg;cat;20,0;10,0;60,0;50,0\n",  # a German Excel
        "filename\tclass\txmin\tymin\txmax\tymax\na.jpg\tcat\t20\t10\t60\t50\n",
        '"Filename", "Class", "X Min", "Y Min", "X Max", "Y Max"\n"a.jpg", "cat", "20", "10", "60", "50"\n',
        "\ufefffilename,class,x_center,y_center,w,h\na.jpg,cat,40,30,40,40\n",
        ",path,x,y,width,height,category\n0,C:\\data\\A.JPG,20,10,40,40,cat\n",
        "filename,width,height,x,y,bbox_width,bbox_height,class\na.jpg,200,100,20,10,40,40,cat\n",
        "file,x0,y0,x1,y1,class\na.jpg,20,10,60,50,cat\n",
        "Filename;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassName\na.jpg;20;10;60;50;cat\n",
        TF + "a.jpg,200,100,cat,60,50,20,10\n",  # corners in the other order
    ],
)  # fmt: skip
def test_columns(text, tmp_path):
    dataset = registry.read(folder(tmp_path, "a.jpg", labels_dot_csv=text))
    assert dataset.intake.format == "table"
    assert labels_of(dataset) == CAT
    assert dataset.intake.whole


@pytest.mark.parametrize(
    "text",
    [
        "a.jpg 20,10,60,50,cat\n",  # keras-yolo3
        "/home/me/photos/a.jpg 20,10,60,50,cat\n",
        "a.jpg,20,10,60,50,cat\n",  # keras-frcnn
    ],
)
def test_lines(text, tmp_path):
    assert labels_of(registry.read(folder(tmp_path, "a.jpg", train_dot_txt=text))) == CAT


def test_keras_lines_with_classes_blanks_and_negatives(tmp_path):
    lines = "my photos/a b.jpg 20,10,60,50,1 0,0,5,5,0\nmy photos/c.jpg\n"
    dataset = registry.read(
        folder(
            tmp_path,
            "my photos/a b.jpg",
            "my photos/c.jpg",
            train_dot_txt=lines,
            model_data__my_classes_dot_txt="dog\ncat\n",
        )
    )
    assert labels_of(dataset) == {
        "my photos/a b.jpg": [("cat", 20, 10, 60, 50), ("dog", 0, 0, 5, 5)],
        "my photos/c.jpg": [],
    }
    assert dataset.classes == ("dog", "cat")
    assert dataset.splits.tolist() == ["train", "train"]


def test_opencv_annotations(tmp_path):
    dataset = registry.read(folder(tmp_path, "pos/a.jpg", info_dot_txt="pos/a.jpg 2 20 10 40 40 0 0 5 6\n"))
    assert labels_of(dataset) == {"pos/a.jpg": [("object", 20, 10, 60, 50), ("object", 0, 0, 5, 6)]}
    assert any("no class" in note for note in dataset.intake.notes)


def test_classes_of_retinanet_and_pictures_without_boxes(tmp_path):
    dataset = registry.read(
        folder(
            tmp_path,
            *("a.jpg", "b.jpg", "c.jpg"),
            annotations_dot_csv="a.jpg,20,10,60,50,cat\nb.jpg,,,,,\n",
            classes_dot_csv="dog,0\ncat,1\n",
        )
    )
    assert labels_of(dataset) == {**CAT, "b.jpg": []}
    assert dataset.classes == ("dog", "cat")
    assert any("1 pictures are in no label file" in note for note in dataset.intake.notes)


def test_names_of_open_images(tmp_path):
    dataset = registry.read(
        folder(
            tmp_path,
            *("train/a.jpg", "validation/b.jpg"),
            train_annotations_bbox_dot_csv="ImageID,LabelName,XMin,XMax,YMin,YMax,IsGroupOf\n"
            "a,/m/01yrx,0.1,0.3,0.1,0.5,1\n",
            validation_annotations_bbox_dot_csv="ImageID,LabelName,XMin,XMax,YMin,YMax,IsGroupOf\n"
            "b,/m/0bt9lr,0.1,0.3,0.1,0.5,0\n",
            class_descriptions_dot_csv="/m/01yrx,Cat\n/m/0bt9lr,Dog\n/m/09x0r,Speech\n",
        )
    )
    assert labels_of(dataset) == {
        "train/a.jpg": [("Cat", 20, 10, 60, 50)],
        "validation/b.jpg": [("Dog", 20, 10, 60, 50)],
    }
    assert dataset.crowd.tolist() == [True, False]
    assert dataset.splits.tolist() == ["train", "val"]
    assert dataset.classes == ("Cat", "Dog")


def test_numbers_without_names(tmp_path):
    rows = "".join(f"a.jpg,{i},20,10,60,50\n" for i in ("10.0", "9", "9.0"))
    dataset = registry.read(
        folder(tmp_path, "a.jpg", x_dot_csv=f"image,class_id,xmin,ymin,xmax,ymax\n{rows}")
    )
    assert dataset.classes == ("9", "10")
    assert dataset.labels.tolist() == [1, 0, 0]
    assert any("numbers" in note for note in dataset.intake.notes)


def test_splits_and_a_table_that_repeats_others(tmp_path):
    """As datitran's raccoons: all labels once more in a file of no split."""
    rows = {"train": "a.jpg,200,100,cat,20,10,60,50\n", "test": "b.jpg,200,100,cat,0,0,5,5\n"}
    dataset = registry.read(
        folder(
            tmp_path,
            *("images/a.jpg", "images/b.jpg", "images/c.jpg"),
            data__animal_labels_dot_csv=TF + "".join(rows.values()) + "c.jpg,200,100,dog,1,1,9,9\n",
            data__test_labels_dot_csv=TF + rows["test"],
            data__train_labels_dot_csv=TF + rows["train"],
        )
    )
    assert labels_of(dataset) == {
        "images/a.jpg": CAT["a.jpg"],
        "images/b.jpg": [("cat", 0, 0, 5, 5)],
        "images/c.jpg": [("dog", 1, 1, 9, 9)],
    }
    assert dict(zip(dataset.files, dataset.splits.tolist(), strict=True)) == {
        "images/a.jpg": "train",
        "images/b.jpg": "test",
        "images/c.jpg": "",
    }
    assert any("two tables" in note for note in dataset.intake.notes)


def test_a_table_in_each_folder_means_its_own_pictures(tmp_path):
    row = "0.jpg,200,100,cat,{0},10,60,50\n"
    dataset = registry.read(
        folder(
            tmp_path,
            *("train/0.jpg", "valid/0.jpg"),
            train___annotations_dot_csv=TF + row.format(20),
            valid___annotations_dot_csv=TF + row.format(30),
        )
    )
    assert labels_of(dataset) == {
        "train/0.jpg": [("cat", 20, 10, 60, 50)],
        "valid/0.jpg": [("cat", 30, 10, 60, 50)],
    }
    assert dataset.splits.tolist() == ["train", "val"]


def test_a_column_of_splits(tmp_path):
    text = "split,image,class,xmin,ymin,xmax,ymax\nVALIDATION,a.jpg,cat,20,10,60,50\nUNASSIGNED,b.jpg,,,,,\n"
    dataset = registry.read(folder(tmp_path, "a.jpg", "b.jpg", x_dot_csv=text))
    assert dataset.splits.tolist() == ["val", ""]


FAULTS = TF + (
    "a.jpg,200,100,cat,20,10,60,50\n"
    "a.jpg,200,100,cat,20,10,x,50\n"
    "a.jpg,200,100,cat,20,10\n"
    "a.jpg,200,100,,20,10,60,50\n"
    "a.jpg,200,100,cat,20,10,20,50\n"
    "a.jpg,200,100,cat,1e400,10,20,50\n"
    ",200,100,cat,20,10,60,50\n"
    "gone.jpg,200,100,cat,20,10,60,50\n"
    "gone.jpg,200,100,cat,20,10,60,50\n"
)


def test_what_is_left_out_is_counted(tmp_path):
    top = folder(tmp_path, "a.jpg", labels_dot_csv=FAULTS)
    dataset = registry.read(top)
    assert labels_of(dataset) == CAT
    assert {part.kind: part.count for part in dataset.intake.left_out} == {
        "rows without a whole box": 3,
        "boxes without a class": 1,
        "boxes without an area": 1,
        "rows without a picture's name": 1,
        "boxes of pictures that did not come in": 2,
    }
    assert [picture.file for picture in dataset.intake.skipped] == ["gone.jpg"]
    with pytest.raises(
        InputError, match=r"labels\.csv, line 3: expected four numbers, found '20, 10, x, 50'"
    ):
        registry.read(top, faults="refuse")
    kept = registry.read(top, faults="keep")
    assert kept.files == ["a.jpg", "gone.jpg"]
    assert [20, 10, 20, 50] in kept.boxes.tolist()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (TF, "has no pictures"),
        (TF + "b.jpg,200,100,cat,1,2,3,4\n", r"has no pictures.*b\.jpg"),
        (TF + "a.jpg,200,100,cat,1,2,3\n", "none of its labels could be read: 1 rows without a whole box"),
        (TF + 'a.jpg,200,100,"' + "c" * 200_000, r"labels\.csv, line 2: this is not a table"),
        ("name,age\n", "is not a table of boxes: expected a header such as filename, class"),
        ("", "is not a table of boxes"),
    ],
)
def test_bad_tables(text, words, tmp_path):
    top = folder(tmp_path, "a.jpg", labels_dot_csv=text)
    with pytest.raises(InputError, match=words):
        registry.read(top / "labels.csv", "table", images=top)


def test_a_table_of_any_length_is_read(tmp_path, monkeypatch):
    """OpenImages' has 2 GB: it is read line by line."""
    monkeypatch.setattr("toolkit.data.formats.text.TEXT_BYTES", 1000)
    monkeypatch.setattr("toolkit.data.formats.text.LINES", 100)
    write_picture(tmp_path / "a.jpg", 40, 30)
    rows = "".join(f"a.jpg,cat,1,2,{3 + i % 30},5\n" for i in range(300))
    put(tmp_path / "x.csv", f"filename,class,xmin,ymin,xmax,ymax\n{rows}".encode())
    assert len(registry.read(tmp_path).labels) == 300


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "gb2312"])
def test_tables_in_the_encodings_of_other_systems(encoding, tmp_path):
    write_picture(tmp_path / "a.jpg", 40, 30)
    rows = "filename,class,xmin,ymin,xmax,ymax\na.jpg,cat,1,2,3,5\na.jpg,螺母,1,2,3,5"
    put(tmp_path / "x.csv", rows.encode(encoding))
    dataset = registry.read(tmp_path)
    assert set(dataset.classes) == {"cat", "螺母"}
    assert any("GB2312" in note for note in dataset.intake.notes) == (encoding == "gb2312")
