"""Label formats: readers and writers between other people's layouts and `Dataset`.

coco          COCO's own, CVAT "COCO 1.0", Label Studio, Roboflow, FiftyOne. Cannot hold: masks are dropped.
voc           VOC devkit, CVAT "PASCAL VOC 1.1", Label Studio, Roboflow, XML beside pictures; rotated
              boxes and polygons become boxes. Cannot hold: identifiers, crowd, keypoints, areas, original
              sizes.
yolo          darknet, CVAT "YOLO 1.1", Label Studio, data.yaml, txt beside pictures. Cannot hold: all that
              voc cannot, and ignore.
widerface     WIDER FACE, also with reduced pictures and without counts. One class. Cannot hold: identifiers,
              crowd, keypoints, areas.
retinaface    label.txt of RetinaFace and SCRFD: faces with five points (read only). One class.
landmarks     WFLW and 106-point lists. One class. Cannot hold: pictures without faces, visibility,
              identifiers, crowd, ignore, areas, original sizes.
face-crops    WFLW faces cut out of their pictures (read only).
label-studio  its JSON, JSON-MIN and CSV; shapes become boxes. Cannot hold: keypoints, areas, original sizes.
createml      CreateML's JSON of Apple, Roboflow, RectLabel (read only). Cannot hold: all that voc cannot.
table         CSV of TensorFlow, Roboflow, RetinaNet, OpenImages, Kaggle, AutoML, makesense.ai; keras-yolo3's
              and OpenCV's lines (read only). Cannot hold: all that voc cannot, and ignore.
fiftyone      FiftyOneImageDetectionDataset and FiftyOneDataset (read only). Masks are dropped.
cvat          CVAT for images 1.1 and for video 1.1, its own XML; written for images. Attributes are dropped.
              Cannot hold: all that voc cannot, and ignore.
labelme       LabelMe's and X-AnyLabeling's JSON (read only). Points, lines and flags are dropped.
kitti         KITTI's label_2/*.txt (read only). What is in space is dropped.
via           VGG Image Annotator 1 to 3, projects and exports (read only). One attribute is the class.
folder        pictures without labels.

Every reader leaves out a missing picture, a class that is not among the names and a malformed label or label
file, and counts them with the first example (file and line) in `Dataset.intake`; with `faults="refuse"` it
raises `InputError` in that sentence instead. A data set of no pictures, or of labels of which not one can be
read, is an `InputError` always. Pictures come in a stable order: as listed, otherwise sorted by name; splits
in the order of `splitting.split_order`. A writer renames a picture only where two names would fall together
(`folders.unique_names`).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
