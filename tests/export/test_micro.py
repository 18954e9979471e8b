"""What TensorFlow Lite Micro needs for a file, and the C++ source that `toolkit package --micro` writes."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from tests.export.layers import Branches
from toolkit import create_model
from toolkit.device.micro import package_micro
from toolkit.export.folder import Exported, FileFacts
from toolkit.export.litert import write
from toolkit.export.litert.file import Graph, Operator, Scale, Tensor, save
from toolkit.export.litert.micro import Buffer, arena_size, requirements
from toolkit.export.write import export_model
from toolkit.models.network import fold
from toolkit.pictures import save_image
from toolkit.runtime import InputError


def test_buffers_that_live_at_different_times_share_memory():
    assert arena_size([]) == 0
    assert arena_size([Buffer(1, 0, 0)]) == 16
    assert arena_size([Buffer(100, 0, 1), Buffer(100, 1, 2), Buffer(100, 2, 3)]) == 2 * 112
    assert arena_size([Buffer(100, 0, 3), Buffer(100, 1, 2), Buffer(100, 2, 3)]) == 3 * 112


def test_the_planner_is_greedy_and_may_take_more_than_what_lives_at_once():
    """By hand: 64 at 0. Of the equal ones the last first: it meets 64 and goes behind it, to 64. The other
    meets that one alone: at 0. 32 meets both; the gap between them, 48 to 64, is too small: at 112. In step 2
    only 128 are alive."""
    buffers = [Buffer(48, 2, 2), Buffer(64, 0, 1), Buffer(48, 1, 2), Buffer(32, 2, 3)]
    assert arena_size(buffers) == 144
    assert arena_size([*buffers, Buffer(16, 2, 2)]) == 144  # that one fits the gap


def chain(shape=(1, 4, 4, 3)):
    """An input, two operators with a branch, and two outputs, in float32."""
    entry, left, right, total = (Tensor(name, shape) for name in ("images", "left", "right", "map0"))
    half = Tensor("half", (), np.float32(0.5))
    operators = [
        Operator("LOGISTIC", [entry], [left]),
        Operator("MUL", [entry, half], [right]),
        Operator("ADD", [left, right], [total]),
    ]
    return Graph(operators, [entry], [total, left])


def test_a_network_by_hand(tmp_path):
    """Four tensors of 4 x 4 x 3 x 4 = 192 bytes. The input lives in the steps 0 to 2, left 1 to 3, right 2 to
    3, the sum in 3: three at once. The constant lies in the file."""
    path = tmp_path / "a.tflite"
    save(chain(), path, {}, "by hand")
    needs = requirements(path)
    assert (needs.activations, needs.flash) == (3 * 192, path.stat().st_size)
    assert needs.arena >= needs.activations + 2048
    assert needs.calls == ("AddAdd", "AddLogistic", "AddMul")
    assert needs.missing == ()
    assert [(each.kind, each.version, each.count) for each in needs.operators] == [
        ("ADD", 1, 1),
        ("LOGISTIC", 1, 1),
        ("MUL", 1, 1),
    ]
    assert [tensor.name for tensor in needs.outputs] == ["map0", "left"]
    (entry,) = needs.inputs
    assert (entry.shape, entry.dtype, entry.scale) == ((1, 4, 4, 3), "FLOAT32", 0)


def test_an_operator_that_tflm_lacks(tmp_path):
    graph = chain()
    graph.operators[0].kind = "GELU"
    save(graph, tmp_path / "a.tflite", {}, "")
    assert requirements(tmp_path / "a.tflite").missing == ("GELU",)


def test_scales(tmp_path):
    scale = Scale(np.array([0.5], np.float32), -3)
    entry, output = (Tensor(name, (1, 2, 2, 1), None, "int8", scale) for name in ("images", "map0"))
    save(Graph([Operator("LOGISTIC", [entry], [output])], [entry], [output]), tmp_path / "a.tflite", {}, "")
    needs = requirements(tmp_path / "a.tflite")
    (found,) = needs.outputs
    assert (found.dtype, found.scale, found.zero_point) == ("INT8", 0.5, -3)
    assert (needs.operators[0].version, needs.activations) == (2, 32)


def test_damaged_files(tmp_path):
    """Whatever is cut or changed: figures or one sentence, and never a traceback."""
    whole, path = tmp_path / "whole.tflite", tmp_path / "a.tflite"
    save(chain(), whole, {"toolkit.io": b"{}"}, "")
    data = whole.read_bytes()
    for end in range(len(data)):
        path.write_bytes(data[:end])
        with pytest.raises(InputError, match=r"a\.tflite is (damaged|not a \.tflite file)"):
            requirements(path)
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(3000):
        changed = np.frombuffer(data, np.uint8).copy()
        changed[random.integers(8, len(data), random.integers(1, 9))] = random.choice([0, 1, 127, 128, 255])
        path.write_bytes(changed.tobytes())
        try:
            requirements(path)
        except InputError:
            refused += 1
    assert refused > 300
    with pytest.raises(InputError, match="there is no"):
        requirements(tmp_path / "other.tflite")


@pytest.fixture(scope="module")
def face(pictures, tmp_path_factory):
    """An exported folder of a detector: float32 and int8."""
    folder = tmp_path_factory.mktemp("micro")
    (folder / "pictures").mkdir()
    for i in range(8):
        save_image(folder / "pictures" / f"{i}.png", np.roll(pictures["astronaut"], 7 * i, 1))
    model = create_model("yoloface-50k", "published").eval()
    formats = ["litert", "litert-int8"]
    export_model(
        model, folder / "net", formats, calibration=folder / "pictures", accept_loss=True, name='a "fä?ce"\\'
    )
    return folder / "net"


PROGRAM = """
#include <cstdio>
#include "model.h"
int main() {
    if (reinterpret_cast<std::uintptr_t>(model::kData) % 16 != 0) return 1;
    std::fwrite(model::kData, 1, sizeof model::kData, stdout);
    const model::Output& o = model::kOutputs[0];
    std::fprintf(stderr, "[%zu, %d, %d, %.9g, %d, \\"%s\\", [%d, %d, %d, %.9g, %d], ", model::kArenaBytes,
                 model::kInputWidth, model::kInputHeight, model::kInputScale, model::kInputZeroPoint, o.name,
                 o.height, o.width, o.channels, o.scale, o.zero_point);
    for (int i = 0; i < model::kHeadCount; i++)
        for (int j = 0; j < model::kHeads[i].anchors; j++)
            std::fprintf(stderr, "%.9g, ", model::kHeads[i].anchor[j][0]);
    std::fprintf(stderr, "%d]\\n%s\\n%s", model::kClassCount, model::kName,
                 model::kClassCount ? model::kClasses[0] : "");
    return 0;
}
"""


def compiled(folder, program, work):
    """What a program with the package says: (bytes on stdout, text on stderr)."""
    compiler = [shutil.which("c++")] if shutil.which("c++") else [sys.executable, "-m", "ziglang", "c++"]
    strict = ["-std=c++11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-I", folder]
    (work / "program.cc").write_text(program)
    files = [work / "program.cc", folder / "model.cc", "-o", work / "program"]
    subprocess.run([*map(str, [*compiler, *strict, *files])], check=True)
    run = subprocess.run([str(work / "program")], check=True, capture_output=True)
    return run.stdout, run.stderr.decode("utf-8")


def test_the_source_has_the_file_and_its_constants(face, tmp_path):
    row = package_micro([face], tmp_path / "micro")
    data, text = compiled(tmp_path / "micro", PROGRAM, tmp_path)
    assert data == (face / "model-int8.tflite").read_bytes()
    numbers, name, first_class = text.split("\n")
    needs = requirements(face / "model-int8.tflite")
    (entry,), (output,) = needs.inputs, needs.outputs
    io = Exported.read(face).io
    arena, *found, classes = json.loads(numbers)
    assert arena == row.arena == needs.arena
    assert found[:4] == [*io.input_size, pytest.approx(entry.scale, rel=1e-8), entry.zero_point]
    assert found[4:6] == ["map0", [7, 7, 18, pytest.approx(output.scale, rel=1e-8), output.zero_point]]
    assert found[6:] == [anchor[0] for anchor in io.heads[0].anchors]
    assert (classes, name, first_class) == (1, 'a "fä?ce"\\', "face")
    for file in ("model.h", "model.cc", "resolver.h"):
        assert (tmp_path / "micro" / file).read_text(encoding="utf-8").isascii()
    told = json.loads((tmp_path / "micro" / "micro.json").read_text())
    assert (told["arena"], told["operators"]) == (row.arena, list(needs.calls))


TFLM = """
#ifndef STANDS_FOR_TFLM
#define STANDS_FOR_TFLM
enum TfLiteStatus { kTfLiteOk = 0, kTfLiteError = 1 };
namespace tflite {
extern int added;
template <unsigned int most>
struct MicroMutableOpResolver {
"""


def test_the_resolver_lists_the_operators(face, tmp_path):
    """With a header that stands for TFLM's and has no operators but these."""
    row = package_micro([face], tmp_path / "micro")
    place = tmp_path / "micro" / "tensorflow" / "lite" / "micro"
    place.mkdir(parents=True)
    calls = "".join(f"TfLiteStatus {call}() {{ return ++added > (int)most ? kTfLiteError : kTfLiteOk; }}\n"
                    for call in row.operators)  # fmt: skip
    (place / "micro_mutable_op_resolver.h").write_text(f"{TFLM}{calls}}};\n}}\n#endif\n")
    program = (
        '#include <cstdio>\n#include "resolver.h"\nint tflite::added = 0;\nint main() { model::Resolver r; '
        'const int status = model::AddOperators(&r); std::printf("%d %d", status, tflite::added); }\n'
    )
    assert compiled(tmp_path / "micro", program, tmp_path)[0] == f"0 {len(row.operators)}".encode()


def test_a_landmark_network(tmp_path, pictures):
    save_image(tmp_path / "a.png", pictures["astronaut"])
    model = create_model("landmark106").eval()
    calibration = tmp_path / "list.txt"
    calibration.write_text(f"{tmp_path / 'a.png'}\n" * 8)
    export_model(model, tmp_path / "net", ["litert-int8"], calibration=calibration, accept_loss=True)
    package_micro([tmp_path / "net"], tmp_path / "micro")
    data, text = compiled(tmp_path / "micro", PROGRAM, tmp_path)
    assert data == (tmp_path / "net" / "model-int8.tflite").read_bytes()
    numbers = json.loads(text.split("\n")[0])
    assert (numbers[6][:3], numbers[-1]) == ([1, 1, 212], 0)
    assert "0 to 1 inside the crop" in (tmp_path / "micro" / "README.txt").read_text()


def test_bad_input(face, tmp_path):
    with pytest.raises(InputError, match="one network, not 2"):
        package_micro([face, tmp_path], tmp_path / "micro")
    with pytest.raises(InputError, match="has no spec.json"):
        package_micro([tmp_path], tmp_path / "micro")
    shutil.copytree(face, tmp_path / "float")
    Exported.read(face).only(["litert"]).save(tmp_path / "float")
    with pytest.raises(InputError, match="has no litert-int8 file, only litert: .*--to litert-int8"):
        package_micro([tmp_path / "float"], tmp_path / "micro")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="is not a packaged network for microcontrollers"):
        package_micro([face], tmp_path / "other")
    assert not (tmp_path / "micro").exists()
    package_micro([face], tmp_path / "micro")
    package_micro([face], tmp_path / "micro")  # an older one is replaced
    shutil.copytree(face, tmp_path / "cut")
    (tmp_path / "cut" / "model-int8.tflite").write_bytes(b"TFL3")
    with pytest.raises(InputError, match=r"differs from spec\.json"):
        package_micro([tmp_path / "cut"], tmp_path / "micro2")


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nn.GELU(), "has GELU, which TensorFlow Lite Micro lacks"),
        (nn.ReLU(), "has images as FLOAT32, not as whole numbers"),
    ],
)
def test_a_file_that_does_not_fit(layer, message, tmp_path):
    """A float file in the place of the int8 one."""
    model = Branches(nn.Sequential(nn.Conv2d(3, 4, 1), layer)).eval()
    (path,) = write.export(fold(model), tmp_path, model.io, "fp32", np.zeros((0, 3, 8, 8), np.float32))
    path = path.rename(tmp_path / "model-int8.tflite")
    files = {"litert-int8": {path.name: FileFacts.of(path)}}
    Exported(tmp_path, "net", model.io, files).save()
    with pytest.raises(InputError, match=message):
        package_micro([tmp_path], tmp_path / "micro")


def test_outputs_are_those_of_tflm(face, tmp_path):
    """TFLM itself, where tflite-micro is installed: an arena of the size that is said, its head to the byte,
    and the numbers of LiteRT's reference kernels."""
    pytest.importorskip("tflite_micro")
    from tests.benchmarks.micro import in_litert, in_tflm

    path = face / "model-int8.tflite"
    needs = requirements(path)
    x = np.random.default_rng(0).integers(0, 256, (4, 1, 56, 56, 3), np.uint8)
    outputs, messages = in_tflm(Path(sys.executable), path, x, needs.arena, 1)
    assert f"Arena allocation head {needs.activations} bytes" in messages
    np.testing.assert_array_equal(outputs[0], in_litert(path, x, "BUILTIN_REF")[0])
