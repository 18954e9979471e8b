"""Label formats: readers and writers between other people's layouts and `Dataset`.

coco          COCO's own, CVAT "COCO 1.0", Label Studio, Roboflow, FiftyOne. Cannot hold: masks are dropped.
voc           VOC devkit, CVAT "PASCAL VOC 1.1", Label Studio, XML beside pictures. Cannot hold: identifiers,
              crowd, keypoints, areas, original sizes.
yolo          darknet, CVAT "YOLO 1.1", Label Studio, data.yaml, txt beside pictures. Cannot hold: all that
              voc cannot, and ignore.
widerface     WIDER FACE, also with reduced pictures. One class. Cannot hold: identifiers, crowd, keypoints,
              areas.
landmarks     WFLW and 106-point lists. One class. Cannot hold: pictures without faces, visibility,
              identifiers, crowd, ignore, areas, original sizes.
face-crops    WFLW faces cut out of their pictures (read only).
label-studio  its JSON and JSON-MIN with percent boxes. Cannot hold: keypoints, areas, original sizes.
folder        pictures without labels.

Every reader raises `InputError` in one sentence for a missing picture, a class that is not among the names, a
malformed or empty label file (with file and line) and a dataset of no pictures. Pictures come in a stable
order: as listed, otherwise sorted by name; splits in the order of `splitting.split_order`. A writer renames a
picture only where two names would fall together (`dataset.unique_names`).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
