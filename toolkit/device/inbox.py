"""Readings that pages send: checked, compared, kept."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from toolkit.device.agreement import compare_detections, timing_job
from toolkit.device.readings import Model, Reading, check_files, keep, read_reading
from toolkit.device.web import FORMAT
from toolkit.export.folder import Exported
from toolkit.pictures import Image
from toolkit.runtime import InputError
from toolkit.text import one_line, parse_json

SENT = "what the page sent"


class Inbox:
    """Takes readings for some exported networks.

    Attributes:
        readings: (folder, reading) of all that were kept.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        image: Image,
        picture: str,
        about: Mapping[str, Any],
        told: Callable[[Path, Reading], None],
    ):
        """
        Args:
            folders: exported networks with ONNX files; one may place landmarks.
            image: RGB (H, W, 3) that pages time; of another one nothing is compared.
            picture: its name.
            about: what is known of the device, for its readings.
            told: called with every reading that was kept.
        """
        networks = {network.name: network for network in map(Exported.read, folders)}
        placing = [network for network in networks.values() if network.io.task == "landmarks"]
        self.landmarks = placing[0] if placing else None
        self.detectors = {name: network for name, network in networks.items() if network not in placing}
        self.image, self.picture, self.about, self.told = image, picture, dict(about), told
        self.readings: list[tuple[Path, Reading]] = []
        self.turn = threading.Lock()  # a server has a thread for each connection

    def take(self, data: bytes) -> Reading:
        """Keeps a reading, as JSON, in timing.json of its network's folder. Raises InputError where it is
        none, not a browser's, or of files that these networks do not have."""
        reading = read_reading(parse_json(data, SENT), SENT)
        if reading.settings.run_as != "browser":
            raise InputError(f"{SENT} is a reading of {reading.settings.run_as!r}: expected a browser's")
        network = _checked(reading.model, self.detectors.get(reading.model.name))
        if reading.landmarks:
            _checked(reading.landmarks, self.landmarks)
        with self.turn:
            reading = reading.model_copy(
                update={
                    "device": {**reading.device, **self.about, "kind": "browser"},
                    "emulated": bool(self.about.get("emulated")),
                    "parity": self._compared(reading, network),
                }
            )
            fresh = keep(network.folder, [reading]) > 0
            if fresh:
                self.readings.append((network.folder, reading))
        if fresh:
            self.told(network.folder, reading)
        return reading

    def _compared(self, reading: Reading, network: Exported) -> dict[str, Any]:
        """Nothing where it is of a picture that is not here."""
        size = (reading.input.width, reading.input.height)
        if reading.input.picture != self.picture or size != self.image.shape[1::-1]:
            return {}
        landmarks = self.landmarks.folder if self.landmarks and reading.landmarks else None
        settings = reading.settings
        job = timing_job(network.folder, FORMAT, self.image, landmarks, settings.conf, settings.iou)
        return compare_detections(job, reading)


def _checked(model: Model, network: Exported | None) -> Exported:
    if network is None or network.name != model.name or model.format != FORMAT:
        raise InputError(
            f"{SENT} is of {one_line(model.name)} ({model.format}), which this page does not have"
        )
    check_files(model, network)
    return network
