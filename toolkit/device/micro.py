"""An exported network as C++ source for TensorFlow Lite Micro: the file as an array, and what it needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from toolkit.export.folder import Exported
from toolkit.export.litert.micro import Micro, MicroTensor, requirements
from toolkit.export.registry import FORMATS
from toolkit.files import check_place, whole_folder, write_json
from toolkit.models.io import HeadIO
from toolkit.runtime import InputError
from toolkit.text import one_line

FORMAT = "litert-int8"
MARK = "micro.json"  # a package is known by the one file that nothing else has
ROW = 16  # bytes of the array in a line
WHOLE = {"UINT8": "std::uint8_t", "INT8": "std::int8_t"}
# Bytes that stand for themselves in a C++ string: no escapes, and no "?", of which two begin a trigraph.
PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 -_.,")


@dataclass(frozen=True)
class PackagedMicro:
    """A network in a folder for microcontrollers. Sizes are in bytes.

    Attributes:
        name: of the network.
        summary: what it finds.
        input_size: width and height.
        flash: the array; the code of the kernels comes on top.
        activations: inputs, outputs and what is between them.
        arena: those, and room for TFLM's own structures.
        operators: calls of MicroMutableOpResolver.
    """

    name: str
    summary: str
    input_size: tuple[int, int]
    flash: int
    activations: int
    arena: int
    operators: tuple[str, ...]


def package_micro(folders: Sequence[str | Path], output: str | Path) -> PackagedMicro:
    """Writes C++11 source for TensorFlow Lite Micro: `model.h`, `model.cc`, `resolver.h`, `README.txt`.

    `model.h` and `model.cc` have the file and the constants, and compile alone; `resolver.h` lists the
    operators and needs TFLM. The folder appears whole or not at all; it replaces an older such folder, never
    anything else.

    Args:
        folders: one exported network, a detector or a landmark network, with the format litert-int8.
        output: the folder.

    Returns:
        What the network needs.

    Raises:
        InputError: there is not one folder, it is not an export or has no litert-int8 file, the file differs
            from its sha256 or does not open, is not in whole numbers, or has an operator that TFLM does not
            have, or `output` is something else.
    """
    output = Path(output)
    check_place(output, MARK, "a packaged network for microcontrollers")
    network = _opened(folders)
    path = network.folder / FORMATS[FORMAT].file
    needs = requirements(path)
    _check(path, needs)
    row = PackagedMicro(
        network.name,
        network.io.summary,
        network.io.input_size,
        needs.flash,
        needs.activations,
        needs.arena,
        needs.calls,
    )
    texts = {
        "model.h": _header(network, needs),
        "model.cc": _source(network, needs, path.read_bytes()),
        "resolver.h": _resolver(needs),
        "README.txt": _readme(network, needs),
    }
    with whole_folder(output) as folder:
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
        write_json(folder / MARK, {**asdict(row), "files": network.sha256(FORMAT)})
    return row


def _opened(folders: Sequence[str | Path]) -> Exported:
    unique = dict.fromkeys(Path(folder) for folder in folders)
    if len(unique) != 1:
        raise InputError(f"a microcontroller gets one network, not {len(unique)}: name one folder (--model)")
    exported = Exported.read(*unique)
    if FORMAT not in exported.formats:
        raise InputError(
            f"{exported.folder} has no {FORMAT} file, only {', '.join(exported.formats)}: export the network "
            f"with --to {FORMAT} and --calibration"
        )
    exported.open(FORMAT, threads=1)
    return exported


def _check(path: Path, needs: Micro) -> None:
    if needs.missing:
        raise InputError(
            f"{path} has {', '.join(needs.missing)}, which TensorFlow Lite Micro lacks: use a network "
            "without it"
        )
    for tensor in (*needs.inputs, *needs.outputs):
        if tensor.dtype not in WHOLE or not tensor.scale:
            raise InputError(
                f"{path} has {one_line(tensor.name)} as {tensor.dtype}, not as whole numbers with a scale: "
                f"export the network with --to {FORMAT}"
            )


def _text(text: str) -> str:
    """As a C++ string in UTF-8; what is not plain in octal, which ends after three digits."""
    return '"' + "".join(chr(b) if b in PLAIN else f"\\{b:03o}" for b in text.encode()) + '"'


def _float(value: float) -> str:
    """As a C++ float with all its digits."""
    text = f"{value:.9g}"
    return f"{text}f" if "." in text or "e" in text else f"{text}.0f"


def _header(network: Exported, needs: Micro) -> str:
    io = network.io
    width, height = io.input_size
    (entry,) = needs.inputs
    classes = io.as_dict().get("classes", ())
    return f"""// A network for TensorFlow Lite Micro, written by toolkit package --micro. See README.txt.
#ifndef TOOLKIT_MODEL_H_
#define TOOLKIT_MODEL_H_

#include <cstddef>
#include <cstdint>

namespace model {{

// Numbers of an output in memory: rows, columns, channels. value = scale * (number - zero_point).
struct Output {{
  const char* name;
  int height, width, channels;
  float scale;
  int zero_point;
}};

// How an output of a detector is decoded; README.txt has the formulas.
struct Head {{
  int stride;
  int anchors;
  float anchor[{_most_anchors(network)}][2];  // width and height in pixels of the input
  float scale_x_y;
  bool new_coords, softmax, gaussian;
}};

// The .tflite file, at an address that is a multiple of 16.
constexpr std::size_t kBytes = {needs.flash};
extern const unsigned char kData[kBytes];

// RAM: inputs, outputs and what is between them, as TFLM places them; and an arena with room for TFLM's own
// structures, enough for its reference kernels. Optimised kernels may ask for more:
// MicroInterpreter::arena_used_bytes() says what was taken.
constexpr std::size_t kActivationBytes = {needs.activations};
constexpr std::size_t kArenaBytes = {needs.arena};

constexpr int kInputWidth = {width};
constexpr int kInputHeight = {height};
constexpr int kInputChannels = {io.channels};  // {io.channel_order}
typedef {WHOLE[entry.dtype]} InputNumber;
constexpr float kInputScale = {_float(entry.scale)};
constexpr int kInputZeroPoint = {entry.zero_point};

typedef {WHOLE[needs.outputs[0].dtype]} OutputNumber;
constexpr int kOutputCount = {len(needs.outputs)};
extern const Output kOutputs[kOutputCount];  // in the order of MicroInterpreter::output

constexpr int kHeadCount = {len(io.heads)};
extern const Head kHeads[{max(1, len(io.heads))}];  // of map0, map1, ...; none in a landmark network
constexpr int kClassCount = {len(classes)};
extern const char* const kClasses[{max(1, len(classes))}];  // in UTF-8
extern const char* const kName;

}}  // namespace model

#endif  // TOOLKIT_MODEL_H_
"""


def _most_anchors(network: Exported) -> int:
    return max((len(head.anchors) for head in network.io.heads), default=1)


def _source(network: Exported, needs: Micro, data: bytes) -> str:
    io = network.io
    rows = (data[i : i + ROW] for i in range(0, len(data), ROW))
    array = ",\n".join(f"    {', '.join(f'0x{byte:02x}' for byte in row)}" for row in rows)
    outputs = ",\n".join(f"    {_output(tensor)}" for tensor in needs.outputs)
    heads = ",\n".join(f"    {_head(head)}" for head in io.heads) or "    {}"
    names = ",\n".join(f"    {_text(name)}" for name in io.as_dict().get("classes", ())) or "    nullptr"
    return f"""#include "model.h"

namespace model {{

alignas(16) const unsigned char kData[kBytes] = {{
{array}}};

const Output kOutputs[kOutputCount] = {{
{outputs}}};

const Head kHeads[] = {{
{heads}}};

const char* const kClasses[] = {{
{names}}};

const char* const kName = {_text(network.name)};

}}  // namespace model
"""


def _output(tensor: MicroTensor) -> str:
    _, *sides = tensor.shape
    height, width, channels = [*[1] * (3 - len(sides)), *sides]
    numbers = f"{height}, {width}, {channels}, {_float(tensor.scale)}, {tensor.zero_point}"
    return f"{{{_text(tensor.name)}, {numbers}}}"


def _head(head: HeadIO) -> str:
    anchors = ", ".join(f"{{{_float(w)}, {_float(h)}}}" for w, h in head.anchors)
    options = (head.new_coords, head.softmax, head.gaussian)
    words = ", ".join(str(option).lower() for option in options)
    return f"{{{head.stride}, {len(head.anchors)}, {{{anchors}}}, {_float(head.scale_x_y)}, {words}}}"


def _resolver(needs: Micro) -> str:
    calls = " ||\n      ".join(f"resolver->{call}() != kTfLiteOk" for call in needs.calls)
    return f"""// The operators of the network, and no others: kernels that are not listed are not linked.
#ifndef TOOLKIT_RESOLVER_H_
#define TOOLKIT_RESOLVER_H_

#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"

namespace model {{

typedef tflite::MicroMutableOpResolver<{len(needs.calls)}> Resolver;

inline TfLiteStatus AddOperators(Resolver* resolver) {{
  if ({calls}) {{
    return kTfLiteError;
  }}
  return kTfLiteOk;
}}

}}  // namespace model

#endif  // TOOLKIT_RESOLVER_H_
"""


DETECTOR = """\
Decoding. Output name "map0" belongs to kHeads[0], "map1" to kHeads[1]. The channels of a cell are those of
its anchors, one after the other: tx ty tw th, objectness, a number for each class (gaussian: each of the
first four is followed by its uncertainty). With s(t) = 1 / (1 + exp(-t)), in parts of the input:
  x = (column + s(tx) * scale_x_y - (scale_x_y - 1) / 2) / columns    y likewise with row and rows
  w = exp(tw) * anchor[0] / kInputWidth                               h likewise with anchor[1]
  score = s(objectness) * s(class)        (softmax: the classes by softmax)
new_coords: t instead of s(t) for centre and scores, and (2 * tw)^2 and (2 * th)^2 instead of exp.
Boxes of one class that overlap are then suppressed. An objectness whose score is below the threshold can be
compared as a whole number, before anything is computed. toolkit/models/decode.py has the same in Python,
toolkit/export/cpp/detector.hpp in C++.
"""
LANDMARKS = """\
The output is x0 y0 x1 y1 ..., 0 to 1 inside the crop of a face.
"""


def _readme(network: Exported, needs: Micro) -> str:
    io = network.io
    return f"""\
{one_line(network.name)} ({io.summary}) for TensorFlow Lite Micro

Flash   {needs.flash} bytes for the network; TFLM and its kernels come on top.
RAM     {needs.activations} bytes for inputs, outputs and what is between them;
        {needs.arena} bytes for the arena, with room for TFLM's own structures.
Not counted: scratch buffers of optimised kernels (CMSIS-NN, ESP-NN), your picture, stack. After
AllocateTensors, arena_used_bytes() says what was taken.

  #include "model.h"
  #include "resolver.h"
  alignas(16) static unsigned char arena[model::kArenaBytes];
  static model::Resolver resolver;
  model::AddOperators(&resolver);
  static tflite::MicroInterpreter interpreter(tflite::GetModel(model::kData), resolver, arena, sizeof arena);
  interpreter.AllocateTensors();
  // fill interpreter.input(0)->data with kInputHeight x kInputWidth x kInputChannels numbers
  interpreter.Invoke();
  // read interpreter.output(i)->data, described by model::kOutputs[i]

Input. {io.channel_order}, rows from top to bottom. A pixel p of 0..255 has the value
(p - {io.mean:g}) * {io.scale:.9g}, and a value is the number value / kInputScale + kInputZeroPoint, \
rounded{_as_it_is(network, needs)}.
Pictures of other proportions: {io.fit}.

{LANDMARKS if io.task == "landmarks" else DETECTOR}"""


def _as_it_is(network: Exported, needs: Micro) -> str:
    (entry,) = needs.inputs
    io = network.io
    same = entry.dtype == "UINT8" and entry.zero_point == io.mean and abs(entry.scale / io.scale - 1) < 1e-6
    return ": the pixel as it is" if same else ""
