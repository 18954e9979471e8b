"""What each small data set must come in as: a table of makers and of what `data import` ends with."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.data import cases
from tests.data import cases_coco as coco
from tests.data import cases_lists as lists
from tests.data import cases_mixed as mixed
from tests.data import cases_tools as tools
from tests.data import cases_voc as voc
from tests.data import cases_yolo as yolo
from tests.data.labelling import NAMES, Truth

ORDERED = ("yolo", "coco", "fiftyone", "cvat")  # formats whose files list the classes


@dataclass(frozen=True)
class Case:
    """What `toolkit data import` must end with. Pictures and boxes are what the maker says."""

    make: Callable[[Path], Truth]
    format: str
    splits: dict[str, int]
    classes: tuple[str, ...] | None = None  # None: of the format's order, see `names`
    boxes: int | None = None  # a second statement beside the maker's
    left_out: dict[str, int] = field(default_factory=dict)  # a word of the kind or the example -> how many
    skipped: tuple[str, ...] = ()  # ends of names
    notes: tuple[str, ...] = ()  # a word of a note
    source: str = ""  # below the folder that was made
    options: tuple[str, ...] = ()  # {top} is that folder
    empty: bool = False  # the labels are not asked for
    code: int = 0  # 3 where anything is left out, skipped, or has no label at all

    @property
    def names(self) -> list[str]:
        """nut and bolt, in the order of the files where these have one."""
        return (
            list(self.classes) if self.classes is not None else sorted(NAMES, reverse=self.format in ORDERED)
        )

    @property
    def id(self) -> str:
        return " ".join([self.make.__name__.replace("_", "-"), *self.options])


SORTED = tuple(sorted(cases.CHINESE))
README = [
    Case(cases.yolo_names_inside_labels, "yolo", {"": 4}, boxes=8),
    Case(cases.yolo_without_names, "yolo", {"": 4}, boxes=8, options=("--classes", "nut,bolt")),
    Case(cases.voc_beside_pictures, "voc", {"train": 4, "val": 2, "test": 1}, boxes=14),
    Case(cases.yolo_polygons, "yolo", {"train": 2}, boxes=2, notes=("polygon", "val")),
    Case(cases.yolo_boxes_and_polygons, "yolo", {"train": 2}, boxes=3, notes=("polygon", "val")),
    Case(cases.yolo_class_as_float, "yolo", {"train": 1}, boxes=2, notes=("val",)),
    Case(cases.yaml_absent_test, "yolo", {"train": 4, "val": 2}, boxes=12, notes=("test",)),
    Case(cases.yaml_download_key, "yolo", {"train": 4, "val": 2}, boxes=12),
    Case(cases.coco_root_category, "coco", {"train": 4, "val": 2}, boxes=12, notes=("screws",)),
    Case(cases.coco_two_of_a_name, "coco", {"train": 4, "val": 2}, ("nut",), boxes=12),
    Case(cases.coco_masks_only, "coco", {"train": 4, "val": 2}, boxes=12),
    Case(cases.coco_ids_of_text, "coco", {"train": 4, "val": 2}, boxes=12),
    Case(cases.coco_empty_box, "coco", {"train": 4, "val": 2}, boxes=10, left_out={"box": 2}, code=3),
    Case(
        cases.coco_no_annotations, "coco", {"train": 4, "val": 2}, boxes=0, notes=("no label at all",), code=3
    ),
    Case(cases.voc_gb2312, "voc", {"": 3}, SORTED, boxes=6),
    Case(cases.voc_gb2312_undeclared, "voc", {"": 3}, SORTED, boxes=6, notes=("GB2312",)),
    Case(cases.yolo_gbk, "yolo", {"train": 3}, cases.CHINESE, boxes=6, notes=("GB2312",)),
    Case(cases.cvat_for_images, "cvat", {"": 3}, boxes=6),
    Case(cases.label_studio_polygons, "label-studio", {"": 3}, boxes=6),
    Case(cases.label_studio_mixed, "label-studio", {"": 3}, boxes=6),
    Case(cases.labelme_files, "labelme", {"": 3}, boxes=6),
    Case(cases.from_a_mac, "yolo", {"": 2}, boxes=4, source="from-a-mac.zip"),
    Case(cases.one_folder_too_high, "yolo", {"": 2}, boxes=4),
    Case(cases.all_of_one_size, "yolo", {"train": 12, "val": 4}, boxes=64),
    Case(cases.exif_labels_as_shown, "coco", {"": 6}, boxes=12),
    Case(cases.exif_labels_as_stored, "voc", {"": 4}, boxes=8),
    Case(cases.retinaface_labels, "retinaface", {"": 3}, ("face",), boxes=6),
    Case(cases.coco_absolute_names, "coco", {"": 3}, boxes=6),
    Case(cases.voc_one_odd_object, "voc", {"": 4}, boxes=9, notes=("rotated|turned",)),
    Case(cases.voc_lists_with_endings, "voc", {"train": 3, "val": 1}, boxes=8),
    Case(cases.pictures_of_other_types, "yolo", {"train": 6}, boxes=12, notes=("val",)),
    Case(cases.two_pictures, "coco", {"train": 2}, boxes=4),
]
BOLTS = {"train": 4, "val": 2}
FIRST = ("0", "1")
FACE = ("face",)
PHOTOS = ("--images", "{top}/photos")
NEIGHBOURS = [
    # YOLO: names
    Case(yolo.names_as_numbers, "yolo", {"": 2}, FIRST, notes=("name",)),
    Case(yolo.names_in_utf16, "yolo", {"": 2}, cases.CHINESE),
    Case(yolo.names_with_mark, "yolo", {"": 2}),
    Case(yolo.names_in_yaml_with_mark, "yolo", {"train": 2}),
    Case(yolo.names_in_other_yaml, "yolo", {"train": 2}),
    Case(yolo.names_in_yaml_above, "yolo", {"train": 4}, source="train"),
    Case(yolo.names_quoted_numbers, "yolo", {"train": 2}),
    Case(yolo.names_that_yaml_reads_otherwise, "yolo", {"train": 2}, ("on", "off", "1")),
    Case(yolo.names_of_darknet_by_roboflow, "yolo", BOLTS),
    Case(yolo.names_only_counted, "yolo", {"train": 2}, FIRST, notes=("name",)),
    # YOLO: paths
    Case(yolo.path_of_another_machine, "yolo", BOLTS),
    Case(yolo.path_of_windows, "yolo", BOLTS),
    Case(yolo.path_is_absolute_here, "yolo", BOLTS),
    Case(yolo.path_of_colab, "yolo", BOLTS),
    Case(yolo.lists_in_yaml, "yolo", BOLTS, notes=("test",)),
    Case(yolo.lists_of_windows, "yolo", {"train": 2}),
    Case(yolo.list_of_folders, "yolo", {"train": 6}),
    Case(yolo.list_names_an_absent_picture, "yolo", {"train": 2}, skipped=("gone.jpg",), code=3),
    Case(yolo.list_leaves_pictures_out, "yolo", {"train": 2}, left_out={"list": 2}, code=3),
    Case(yolo.same_names_in_both_splits, "yolo", {"train": 2, "val": 1}),
    Case(yolo.splits_without_yaml, "yolo", BOLTS),
    Case(yolo.upper_case_endings, "yolo", {"": 3}),
    # YOLO: lines
    Case(yolo.sixth_field, "yolo", {"": 2}, notes=("score|sixth",)),
    Case(yolo.turned_boxes, "yolo", {"": 2}, notes=("polygon",)),
    Case(yolo.pose_lines, "yolo", {"train": 2}, notes=("point",)),
    Case(yolo.pose_lines_without_visibility, "yolo", {"train": 2}, notes=("point",)),
    Case(yolo.blanks_and_tabs, "yolo", {"": 2}),
    Case(yolo.exponents, "yolo", {"": 2}),
    Case(yolo.with_bad_lines, "yolo", {"": 2}, left_out={"p1.txt": 5}, code=3),
    Case(yolo.background_pictures, "yolo", {"": 4}),
    Case(yolo.label_without_picture, "yolo", {"": 2}, left_out={"gone.txt": 2}, code=3),
    # pictures, archives and folders
    Case(
        yolo.damaged_pictures,
        "yolo",
        {"": 2},
        left_out={"picture": 3},
        skipped=("cut.jpg", "empty.jpg", "text.jpg"),
        code=3,
    ),
    Case(yolo.pictures_not_read, "yolo", {"": 2}, skipped=("drawing.svg", "raw.CR2"), code=3),
    Case(yolo.pictures_of_many_types, "yolo", {"": 5}),
    Case(yolo.two_wrappers, "yolo", {"": 2}),
    Case(yolo.zip_with_backslashes, "yolo", BOLTS, source="made.zip"),
    Case(yolo.zip_in_gbk, "yolo", {"": 2}, source="made.zip"),
    Case(yolo.label_names_apart, "yolo", {"": 2}, source="txt", options=PHOTOS),
    # VOC: folders
    Case(voc.lower_case_folders, "voc", {"train": 1, "val": 1}),
    Case(voc.images_and_annotations, "voc", {"": 2}),
    Case(voc.images_and_labels, "voc", {"": 2}),
    Case(voc.devkit_of_one_year, "voc", {"train": 2, "test": 1}),
    Case(voc.folders_of_splits, "voc", BOLTS),
    Case(voc.folders_of_splits_inside, "voc", BOLTS),
    Case(voc.upper_case_xml, "voc", {"": 2}),
    Case(voc.lists_with_paths, "voc", {"train": 2, "val": 2}),
    Case(voc.lists_name_absent_pictures, "voc", {"train": 2, "val": 1}, left_out={"list": 2}, code=3),
    # VOC: encodings and names
    Case(voc.in_utf16, "voc", {"": 2}, SORTED),
    Case(voc.in_utf16_undeclared, "voc", {"": 2}, SORTED),
    Case(voc.in_utf8_with_mark, "voc", {"": 2}, SORTED),
    Case(voc.in_gbk_that_says_utf8, "voc", {"": 2}, SORTED, notes=("GB",)),
    Case(voc.in_utf8_that_says_gbk, "voc", {"": 2}, SORTED),
    Case(voc.filename_of_another_machine, "voc", {"": 3}),
    Case(voc.filename_with_another_ending, "voc", {"": 2}),
    Case(voc.named_by_filename_alone, "voc", {"": 2}),
    Case(voc.names_with_signs, "voc", {"": 2}, ("a < b", "nut & bolt")),
    # VOC: objects and files
    Case(voc.decimals, "voc", {"": 3}),
    Case(voc.numbers_of_other_tools, "voc", {"": 3}),
    Case(voc.polygons, "voc", {"": 3}, notes=("polygon",)),
    Case(voc.polygon_of_pt, "voc", {"": 3}, notes=("polygon",)),
    Case(voc.object_without_box, "voc", {"": 3}, left_out={"000.xml": 1}, code=3),
    Case(voc.object_of_words, "voc", {"": 3}, left_out={"000.xml": 1}, code=3),
    Case(voc.object_without_area, "voc", {"": 3}, left_out={"area": 1}, code=3),
    Case(voc.object_without_name, "voc", {"": 3}, left_out={"000.xml": 1}, code=3),
    Case(voc.object_with_swapped_corners, "voc", {"": 3}),
    Case(voc.one_empty_file, "voc", {"": 2}, left_out={"file": 1}, skipped=("000.jpg",), code=3),
    Case(voc.one_damaged_file, "voc", {"": 2}, left_out={"file": 1}, skipped=("000.jpg",), code=3),
    Case(voc.picture_is_missing, "voc", {"": 2}, left_out={"picture": 2}, skipped=("001.jpg",), code=3),
    # COCO
    Case(coco.masks_as_lists, "coco", {"": 3}),
    Case(coco.masks_as_text, "coco", {"": 3}),
    Case(coco.masks_of_two_parts, "coco", {"": 3}),
    Case(coco.mask_in_place_of_an_empty_box, "coco", {"": 3}),
    Case(coco.boxes_as_text, "coco", {"": 3}),
    Case(coco.box_is_one_text, "coco", {"": 3}),
    Case(coco.least_keys, "coco", {"": 3}),
    Case(coco.null_keys, "coco", {"": 3}),
    Case(coco.odd_boxes, "coco", {"": 3}, left_out={"box": 5}, code=3),
    Case(coco.ids_of_other_types, "coco", {"": 3}),
    Case(coco.ids_of_uuids, "coco", {"": 3}),
    Case(coco.annotation_of_no_picture, "coco", {"": 3}, left_out={"4711": 1}, code=3),
    Case(coco.annotation_of_no_category, "coco", {"": 3}, left_out={"4711": 1}, code=3),
    Case(coco.class_without_boxes, "coco", {"": 3}, ("nut", "bolt", "washer")),
    Case(coco.two_of_a_name_and_another, "coco", BOLTS),
    Case(coco.names_of_windows, "coco", {"": 3}),
    Case(coco.names_with_dots_outside, "coco", {"": 3}, source="labels", options=PHOTOS),
    Case(coco.names_of_label_studio, "coco", {"": 3}),
    Case(coco.names_without_folder, "coco", {"": 3}),
    Case(coco.file_with_mark, "coco", {"": 3}),
    Case(coco.file_in_utf16, "coco", {"": 3}),
    Case(coco.official_folder, "coco", {"train": 2, "val": 1}, notes=("captions",)),
    Case(coco.one_picture_is_missing, "coco", {"": 2}, left_out={"picture": 2}, skipped=("p1.jpg",), code=3),
    Case(coco.crowds, "coco", {"": 3}),
    Case(coco.points_and_boxes, "coco", {"": 3}),
    # other tools
    Case(tools.cvat_shapes, "cvat", {"train": 2, "val": 1}, notes=("polygon",)),
    Case(tools.cvat_points, "cvat", {"": 3}, left_out={"point": 1}, code=3),
    Case(tools.cvat_tracks, "cvat", {"": 3}, ("nut",)),
    Case(tools.cvat_turned, "cvat", {"": 3}, notes=("rotated|turned",)),
    Case(
        tools.labelme_kinds, "labelme", {"": 3}, left_out={"point": 1, "line": 1}, notes=("polygon",), code=3
    ),
    Case(tools.labelme_apart, "labelme", {"": 4}),
    Case(
        tools.studio_kinds,
        "label-studio",
        {"": 3},
        left_out={"key point": 1, "choices": 1},
        notes=("ellipse",),
        code=3,
    ),
    Case(tools.studio_least, "label-studio", {"": 3}),
    Case(
        tools.studio_of_other_pictures,
        "label-studio",
        {"": 2},
        left_out={"picture": 2},
        skipped=("s2.jpg",),
        code=3,
    ),
    Case(lists.kitti, "kitti", {"train": 3}, ("Car", "Pedestrian")),
    Case(lists.kitti_with_dont_care, "kitti", {"train": 3}, ("Car", "Pedestrian"), notes=("DontCare",)),
    Case(lists.createml, "createml", BOLTS),
    Case(lists.createml_of_other_keys, "createml", BOLTS),
    Case(lists.via_annotations, "via", {"": 3}),
    Case(lists.via_project, "via", {"": 3}, left_out={"point": 1}, notes=("polygon",), code=3),
    Case(lists.via_csv, "via", {"": 3}),
    Case(lists.fiftyone_dataset, "fiftyone", {"train": 3}, ("bolt", "nut")),
    Case(lists.fiftyone_detections, "fiftyone", {"": 3}),
    Case(lists.table_of_tensorflow, "table", {"": 3}),
    Case(lists.table_of_roboflow, "table", BOLTS),
    Case(lists.table_of_retinanet, "table", {"": 4}),
    Case(lists.table_of_kaggle, "table", {"": 3}),
    Case(lists.table_of_vott, "table", {"": 3}),
    Case(lists.table_with_semicolons, "table", {"": 3}, FIRST),
    Case(lists.table_of_open_images, "table", {"": 3}),
    Case(lists.list_of_keras_yolo, "table", {"train": 3}, FIRST),
    Case(lists.retinaface_without_points, "retinaface", {"": 3}, FACE),
    Case(lists.wider_with_counts, "widerface", {"": 3}, FACE),
    Case(lists.wider_without_counts, "widerface", {"": 3}, FACE),
    Case(lists.table_of_corner_and_size, "table", {"": 3}),
    # several formats, places, names
    Case(mixed.yolo_of_label_studio, "yolo", {"": 2}),
    Case(mixed.voc_and_yolo, "voc", {"": 2}, NAMES, notes=("--format yolo",)),
    Case(mixed.roboflow_with_readmes, "yolo", BOLTS),
    Case(mixed.coco_with_other_json, "coco", {"": 3}),
    Case(mixed.coco_of_other_orders, "coco", BOLTS),
    Case(mixed.coco_files_beside_folders, "coco", {"train": 2, "val": 1}),
    Case(mixed.retinaface_splits, "retinaface", {"train": 1, "val": 1}, FACE),
    Case(mixed.yolo_files_all_empty, "yolo", {"": 2}, notes=("no label at all",), code=3),
    Case(mixed.voc_without_objects, "voc", {"": 3}, (), notes=("no label at all",), code=3),
    Case(mixed.labels_below_pictures, "yolo", {"": 2}),
    Case(mixed.yaml_names_split_folders, "yolo", BOLTS),
    Case(mixed.source_is_the_yaml, "yolo", BOLTS, source="data.yaml"),
    Case(mixed.source_is_the_json, "coco", {"": 3}, source="labels.json"),
    Case(mixed.images_are_in_another_folder, "coco", {"": 3}, source="exports", options=PHOTOS),
    Case(mixed.accents_in_two_forms, "coco", {"": 1}),
    Case(mixed.names_with_percent, "coco", {"": 1}),
    Case(mixed.names_in_upper_case, "coco", {"": 3}),
    Case(mixed.names_with_another_ending, "coco", {"": 3}),
    Case(mixed.names_with_folder, "coco", {"": 3}),
    Case(mixed.lines_with_mark, "yolo", {"": 2}),
    Case(mixed.decimal_commas, "yolo", {"": 2}),
    Case(mixed.yolo_two_of_a_name, "yolo", {"train": 2}),
    Case(mixed.yolo_on_turned_pictures, "yolo", {"": 2}),
    Case(mixed.voc_without_filename, "voc", {"": 3}),
    Case(lists.pictures_alone, "folder", {"": 3}, ()),
    Case(lists.unknown_text, "folder", {"": 3}, (), options=("--format", "folder"), empty=True),
]
