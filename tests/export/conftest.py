"""Every network exported once for all tests of exports."""

import pytest

from toolkit.export.write import export_model

FORMATS = ("onnx", "ncnn", "ncnn-fp16", "mnn", "mnn-fp16", "caffe", "darknet")


@pytest.fixture(scope="session")
def exported(trained, tmp_path_factory):
    """name -> (torch model, folder with `FORMATS`), each made once. Tests write elsewhere."""
    root, made = tmp_path_factory.mktemp("exports"), {}

    def get(name):
        if name not in made:
            model = trained(name).eval()
            export_model(model, root / name, FORMATS, accept_loss=True)  # random weights, in part
            made[name] = model, root / name
        return made[name]

    return get
