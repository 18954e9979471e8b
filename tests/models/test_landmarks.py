"""landmark106: the published weights from both files, its cost, other sizes, files of other networks."""

import numpy as np
import pytest

from toolkit import create_model, list_models
from toolkit.models.caffe_file import read_caffemodel
from toolkit.models.cost import measure
from toolkit.models.io import LandmarkIO, ModelIO, read_io
from toolkit.models.landmarks import load_landmark_weights
from toolkit.models.network import fold
from toolkit.runtime import InputError

CAFFE, NCNN = "landmark106/caffe/landmark106.caffemodel", "landmark106/ncnn/landmark106.param"


@pytest.mark.parametrize("weights", ["published", CAFFE, NCNN])
def test_outputs_as_the_published_ncnn_model_has_them(weights, zoo, reference):
    model = create_model("landmark106", weights if weights == "published" else zoo / weights)
    known = np.load(reference / "landmark106.ncnn.npz")
    for network in (model, fold(model)):
        (found,) = network.predict(known["rand_input"][None])
        assert found.shape == (1, 212)
        np.testing.assert_allclose(found[0], known["rand_output"], atol=1e-5, rtol=0)
        faces = network.predict(np.stack([known["face0_input"], known["face1_input"]]))
        points = network.io.points_of(faces)
        wanted = np.stack([known["face0_points_norm"], known["face1_points_norm"]])
        np.testing.assert_allclose(points, wanted, atol=1e-5, rtol=0)


def test_cost():
    model = create_model("landmark106")
    cost = measure(model)
    kinds = [layer.kind for layer in cost.layers]
    assert cost.params == 339_884
    assert round(cost.macs / 1e6, 2) == 6.87
    assert kinds.count("depthwise") == 11
    assert kinds.count("depthwise") + kinds.count("convolutional") == 37
    assert kinds.count("connected") == 1
    assert cost.layers[-1].output_shape == (212,)


def test_the_zoo_tells_tasks_apart():
    assert list_models("landmarks") == ["landmark106"]
    assert list_models() == [*list_models("detection"), "landmark106"]
    with pytest.raises(InputError, match="unknown task 'poses'"):
        list_models("poses")


@pytest.mark.parametrize(
    ("changes", "size", "outputs"),
    [
        ({"points": 98}, (112, 112), 196),
        ({"points": 5, "width": 0.25, "input_size": 64}, (64, 64), 10),
        ({"width": 2.0, "input_size": [96, 96]}, (96, 96), 212),
    ],
)
def test_other_points_widths_and_sizes(changes, size, outputs):
    model = create_model("landmark106", **changes)
    assert model.io.input_size == size
    x = np.random.default_rng(0).normal(size=(2, 3, *size)).astype(np.float32)
    (found,) = model.predict(x)
    assert found.shape == (2, outputs)
    (folded,) = fold(model).predict(x)
    np.testing.assert_allclose(folded, found, atol=1e-5)
    with pytest.raises(InputError, match=f"takes {size[0]}x{size[1]} only, not {size[0] + 16}x{size[1]}"):
        model.io.check_size((size[0] + 16, size[1]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"se": True}, "unknown change 'se'"),
        ({"input_size": 100}, "multiple of 16"),
        ({"input_size": [112, 96]}, "square"),
        ({"points": 0}, "points is 0"),
        ({"width": 0}, "width is 0"),
    ],
)
def test_bad_changes(changes, message):
    with pytest.raises(InputError, match=message):
        create_model("landmark106", **changes)


def test_its_io_goes_through_a_dictionary():
    io = create_model("landmark106", points=98).io
    assert read_io(io.as_dict()) == io == LandmarkIO((112, 112), 98)
    assert (io.channel_order, io.mean, io.scale) == ("BGR", 127.5, 1 / 127.5)
    other = create_model("fastest-v2").io
    assert isinstance(read_io(other.as_dict()), ModelIO)


def test_a_state_dict_comes_back(tmp_path):
    import torch

    model = create_model("landmark106", points=68)
    torch.save(model.state_dict(), tmp_path / "a.pt")
    again = create_model("landmark106", tmp_path / "a.pt", points=68)
    x = np.zeros((1, 3, 112, 112), np.float32)
    np.testing.assert_array_equal(again.predict(x)[0], model.predict(x)[0])
    with pytest.raises(InputError, match="belongs to another network than landmark106"):
        create_model("landmark106", tmp_path / "a.pt")


def test_files_of_other_networks(zoo, tmp_path):
    other = zoo / "yoloface-100k/caffe/yoloface-100k.caffemodel"
    with pytest.raises(InputError, match=r"yoloface-100k.caffemodel belongs to another network than land"):
        create_model("landmark106", other)
    with pytest.raises(InputError, match=r"expected InnerProduct with 50176 \+ 196 numbers"):
        create_model("landmark106", "published", points=98)
    with pytest.raises(InputError, match="belongs to another network"):
        create_model("landmark106", zoo / NCNN, width=0.5)
    with pytest.raises(InputError, match="ends in .cfg: expected a .caffemodel, .param or .pt"):
        create_model("landmark106", zoo / "yoloface-100k/yoloface-100k.cfg")
    with pytest.raises(InputError, match="is missing"):
        create_model("landmark106", tmp_path / "none.caffemodel")


def test_damaged_caffemodels(zoo, tmp_path):
    data = (zoo / CAFFE).read_bytes()
    path = tmp_path / "a.caffemodel"
    path.write_bytes(b"")
    with pytest.raises(InputError, match="no layer with weights: expected a .caffemodel"):
        create_model("landmark106", path)
    rng = np.random.default_rng(0)
    for end in (1, 7, 100, 5000, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:end])
        with pytest.raises(InputError, match="is damaged|no layer with weights"):
            read_caffemodel(path)
    model = create_model("landmark106")
    for _ in range(200):  # a byte that is overwritten in what is cut off besides: a sentence, no other error
        broken = bytearray(data[:20_000])
        broken[rng.integers(len(broken))] = rng.integers(256)
        path.write_bytes(bytes(broken))
        with pytest.raises(InputError):
            load_landmark_weights(model, path)


def test_a_model_that_fails_to_load_stays_as_it_was(zoo):
    model = create_model("landmark106", points=98)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(InputError, match="belongs to another network"):
        load_landmark_weights(model, zoo / CAFFE)
    assert all((value == before[key]).all() for key, value in model.state_dict().items())
