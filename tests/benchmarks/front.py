"""The picture of README: three networks on photographs of scikit-image, with the size and time of each.

python -m tests.benchmarks.front        -> docs/detections.png (needs TOOLKIT_ZOO)
"""

import cv2
import numpy as np

from tests.benchmarks.tables import README, result
from toolkit import viz
from toolkit.faces import place_points, windows_of_boxes
from toolkit.inference.run import detect
from toolkit.models import create_model
from toolkit.pictures import Image
from toolkit.samples import photographs

PICTURE = README.parent / "docs" / "detections.png"
# network -> photograph, and how far the panel is enlarged around what was detected
PANELS = {"nano-voc": ("motorcycle", 1.0), "fastest-v2": ("cat", 1.0), "yoloface-500k-v2": ("astronaut", 2.0)}
SIZE = 960, 640  # of a panel's picture


def panel(name: str, photograph: str, zoom: float) -> Image:
    """The photograph with the detections above .5 of a network, and the points of a face."""
    image, network = photographs()[photograph], create_model(name, "published")
    scale = zoom * max(SIZE[0] / image.shape[1], SIZE[1] / image.shape[0])
    found = detect(network, image, conf=0.5)
    boxes = found.xyxy * scale
    image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    if name.startswith("yoloface"):
        landmarks = create_model("landmark106", "published")
        points, _ = place_points(image, windows_of_boxes(boxes, landmarks.io), landmarks)
        image = viz.draw_points(image, points)
    drawing = viz.draw_boxes(
        image, boxes, found.class_id, found.confidence, network.io.classes, scale=1.6 / zoom
    )
    middle = boxes.reshape(-1, 2, 2).mean(axis=(0, 1))
    x, y = np.clip(middle - np.array(SIZE) / 2, 0, np.array(drawing.shape[1::-1]) - SIZE).astype(int)
    return drawing[y : y + SIZE[1], x : x + SIZE[0]]


def title(name: str) -> str:
    size = result("exports-files")[name]["bytes"]["ncnn-fp16"]
    time = result("exports-engines")[f"{name}, 1 threads"]["ncnn-fp16"]["median_ms"]
    return f"{name}: {size / 1000:.0f} kB, {time:.1f} ms"


if __name__ == "__main__":
    drawings = [panel(name, *where) for name, where in PANELS.items()]
    viz.image_grid(drawings, [title(name) for name in PANELS], columns=3, cell=3.2).savefig(PICTURE)
