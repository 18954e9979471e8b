"""A training by ultralytics that ends after some minutes: its curve, the detections of its best weights in
the pictures of the split "test", and its ncnn files.

Runs in an environment of its own, without this project: python peer_training.py DATA.yaml MODEL SIDE MINUTES
FOLDER. MODEL is a .yaml of ultralytics (random weights) or a .pt. FOLDER/answer.json has what came out.
`make bench-peers` makes that environment, `equal_minutes` calls it.
"""

import json
import sys
import time
from pathlib import Path

import ultralytics
import yaml
from ultralytics import YOLO

BATCH = 16


def main(data: str, model: str, side: int, minutes: float, folder: Path) -> None:
    network, curve = YOLO(model), []
    begin = time.perf_counter()

    def after_validation(trainer) -> None:
        seconds = time.perf_counter() - begin
        curve.append({"seconds": seconds, "map50": trainer.metrics["metrics/mAP50(B)"]})

    network.add_callback("on_fit_epoch_end", after_validation)
    network.train(
        data=data, imgsz=side, batch=BATCH, time=minutes / 60, epochs=10_000, patience=10_000, device="cpu",
        cache="ram", workers=2, plots=False, seed=0, project=str(folder), name="run", exist_ok=True,
        verbose=False,
    )  # fmt: skip
    best = YOLO(folder / "run" / "weights" / "best.pt")
    settings = yaml.safe_load(Path(data).read_text())
    files = (Path(settings["path"]) / settings["test"]).read_text().split()
    detections = {}
    for file in files:
        found = best.predict(
            Path(settings["path"]) / file, imgsz=side, conf=0.005, device="cpu", verbose=False
        )[0]
        boxes = found.boxes
        detections[Path(file).name] = [boxes.xyxy.tolist(), boxes.conf.tolist(), boxes.cls.int().tolist()]
    answer = {
        "version": ultralytics.__version__,
        "parameters": sum(p.numel() for p in best.model.parameters()),
        "curve": curve,
        "detections": detections,
        "ncnn": str(best.export(format="ncnn", imgsz=side, device="cpu")),
    }
    (folder / "answer.json").write_text(json.dumps(answer))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), Path(sys.argv[5]))
