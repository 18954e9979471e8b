"""Networks of other people in every format: how far each file is from torch, what it keeps, what is left out.

python -m tests.benchmarks.strangers FOLDER --pictures FOLDER      (2 to 10 minutes a network)

Every .cfg of the folder is exported to all formats. Weights next to it (same stem) are used; without them
random ones with batch norms calibrated on sample photographs, whose outputs are of the usual size.
"""

import sys
import tempfile
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.record import RESULTS, write
from toolkit.export.folder import Exported
from toolkit.export.write import ALL, export_model
from toolkit.models.cost import measure
from toolkit.models.darknet.network import load_darknet
from toolkit.models.detector import Detector, calibrate
from toolkit.pictures import find_images
from toolkit.runtime import seed_everything
from toolkit.samples import photographs

KEPT = ("max_difference", "relative_difference", "float32_noise", "detections", "matched", "extra", "fault")


def network(cfg: Path, seed: int) -> tuple[Detector, str]:
    weights = cfg.with_suffix(".weights")
    if weights.is_file():
        return load_darknet(cfg, weights).eval(), "real"
    seed_everything(seed)
    return calibrate(load_darknet(cfg), list(photographs().values())), "random, calibrated"


def figures(cfg: Path, pictures: list[Path], seed: int) -> dict[str, Any]:
    model, weights = network(cfg, seed)
    with tempfile.TemporaryDirectory() as work:
        parity = export_model(model, Path(work) / cfg.stem, ALL, calibration=pictures, name=cfg.stem)
        exported = Exported.read(Path(work) / cfg.stem)
        sizes = {fmt: exported.bytes(fmt) for fmt in exported.formats}
    formats = {
        fmt: {
            **({"bytes": sizes[fmt]} if fmt in sizes else {}),
            **{name: facts[name] for name in KEPT if name in facts},
            **facts.get("fidelity", {}),
        }
        for fmt, facts in parity.items()
    }
    cost = measure(model)
    return {
        "weights": weights,
        "input_size": list(model.io.input_size),
        "mmac": round(cost.macs / 1e6, 1),
        "formats": formats,
    }


def main() -> None:
    parser = ArgumentParser(prog="python -m tests.benchmarks.strangers", description=__doc__)
    parser.add_argument(
        "folder", type=Path, help="with .cfg files, and .weights next to them where there are"
    )
    parser.add_argument("--pictures", type=Path, required=True, help="for calibration")
    parser.add_argument("--count", type=int, default=16, help="of pictures, evenly spread")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--result", type=Path, default=RESULTS / "strangers.json")
    given = parser.parse_args()
    paths = find_images(given.pictures)
    pictures = [paths[i] for i in np.linspace(0, len(paths) - 1, given.count).round().astype(int)]
    networks = {}
    for cfg in sorted(given.folder.glob("*.cfg")):
        networks[cfg.stem] = figures(cfg, pictures, given.seed)
        print(cfg.stem, networks[cfg.stem], file=sys.stderr, flush=True)
    places = {str(given.folder): "FOLDER", str(given.pictures): "PICTURES"}  # of this machine
    sys.argv[1:] = [places.get(word, word) for word in sys.argv[1:]]
    write("strangers", given, ["ncnn", "pnnx", "MNN", "onnxruntime"], {"networks": networks})


if __name__ == "__main__":
    main()
