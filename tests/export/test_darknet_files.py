"""The cfg and weights that we write, in OpenCV's darknet reader: another program sees the same networks."""

import copy

import cv2
import pytest
from torch import nn

from toolkit import list_models
from toolkit.export.parity import output_difference, probe_input
from toolkit.models.darknet.network import load_darknet
from toolkit.models.darknet.weights import save_weights
from toolkit.models.darknet.write import to_cfg


@pytest.mark.parametrize("name", list_models("detection"))
def test_every_network_in_opencv(name, trained, tmp_path):
    model = trained(name)
    cfg, weights = tmp_path / "a.cfg", tmp_path / "a.weights"
    cfg.write_text(to_cfg(model.spec))
    written = copy.deepcopy(model)
    for module in written.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_var += 1e-5 - 1e-6  # OpenCV adds 1e-6 to variances, darknet 1e-5
    save_weights(written, weights)
    net = cv2.dnn.readNetFromDarknet(str(cfg), str(weights))
    x = probe_input(model.io)
    net.setInput(x)
    # the convolutions in front of [yolo]; OpenCV's names carry darknet's layer numbers
    found = net.forward([f"conv_{head - 1}" for head in load_darknet(cfg).heads])
    difference, largest = output_difference(model.predict(x), found)
    assert difference < 1e-4 * max(1, largest / 10)
