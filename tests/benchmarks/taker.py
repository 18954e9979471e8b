"""One ONNX file handed to one program that takes it.

Runs in that program's own environment, without this project: python taker.py PROGRAM OPTIONS MODEL.onnx
CASE.npz ANSWER.json. OPTIONS is JSON for the function below; CASE.npz has `x`, the input, and torch's outputs
under the names of the file's. ANSWER.json gets {"difference": the largest, by torch's largest output}
or {"refused": reason}. `python -m tests.benchmarks.takers` makes the environments and calls it.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

HERE = Path()  # a folder of its own, where it is started


def onnxruntime(model, x):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"images": x})


def opencv(model, x):
    import cv2

    network = cv2.dnn.readNetFromONNX(str(model))
    network.setInput(x, "images")
    return network.forward(network.getUnconnectedOutLayersNames())


def openvino(model, x):
    sys.modules["openvino_telemetry"] = None  # importing the package reports to a server unless it is missing
    import openvino

    compiled = openvino.Core().compile_model(str(model), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    answer = compiled(x)
    return [np.array(answer[output]) for output in compiled.outputs]


def rknn(model, x, target, quantized=False):
    """Builds a .rknn file; the toolkit's simulator then runs it, in float16 or int8. One picture."""
    from rknn.api import RKNN

    toolkit = RKNN(verbose=False)
    toolkit.config(target_platform=target)  # no normalisation: inputs are as the network takes them
    one = x[:1]
    fixed = {"inputs": ["images"], "input_size_list": [list(one.shape)]}  # needed where the batch is free
    _succeed(toolkit.load_onnx(model=str(model), **fixed), "load_onnx")
    np.save(HERE / "picture.npy", one)
    (HERE / "pictures.txt").write_text("picture.npy\n")
    dataset = "pictures.txt" if quantized else None
    _succeed(toolkit.build(do_quantization=quantized, dataset=dataset), "build")
    _succeed(toolkit.export_rknn("model.rknn"), "export_rknn")
    if not Path("model.rknn").stat().st_size:
        raise RuntimeError("the .rknn file is empty")
    _succeed(toolkit.init_runtime(), "init_runtime")
    return toolkit.inference(inputs=[one], data_format=["nchw"])


def _succeed(code, step):
    if code:
        raise RuntimeError(f"{step} ended with {code}")


def pnnx(model, x):
    """Converts the file to ncnn's, which ncnn then runs. One picture."""
    import ncnn

    (HERE / "model.onnx").write_bytes(model.read_bytes())
    shape = ",".join(map(str, (1, *x.shape[1:])))
    command = [Path(sys.executable).with_name("pnnx"), "model.onnx", f"inputshape=[{shape}]", "fp16=0"]
    run = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if run.returncode or not Path("model.ncnn.param").exists():
        raise RuntimeError(f"pnnx ended with {run.returncode}: {(run.stderr or run.stdout).strip()[-200:]}")
    network = ncnn.Net()
    network.opt.use_fp16_packed = network.opt.use_fp16_storage = network.opt.use_fp16_arithmetic = False
    if network.load_param("model.ncnn.param") or network.load_model("model.ncnn.bin"):
        raise RuntimeError("ncnn cannot open what pnnx made")
    extractor = network.create_extractor()
    extractor.input("in0", ncnn.Mat(np.ascontiguousarray(x[0])))
    outputs = []
    for name in sorted(
        name for name in network.output_names() if name.startswith("out")
    ):  # others end nowhere
        code, output = extractor.extract(name)
        _succeed(code, f"extracting {name}")
        outputs.append(np.array(output)[None])
    return outputs


def tvm(model, x):
    import onnx
    from tvm import compile, cpu, relax, runtime
    from tvm.relax.frontend.onnx import from_onnx

    module = from_onnx(onnx.load(str(model)), shape_dict={"images": list(x.shape)})
    module = relax.transform.DecomposeOpsForInference()(module)
    machine = relax.VirtualMachine(compile(module, target="llvm"), cpu())
    answer = machine["main"](runtime.tensor(x))
    return [part.numpy() for part in (answer if hasattr(answer, "__len__") else [answer])]


def compare(wanted, outputs):
    """How far the outputs are from the wanted ones, or what else they are. Some programs run one picture."""
    if len(outputs) != len(wanted):
        return {"refused": f"gives {len(outputs)} outputs instead of {len(wanted)}"}
    differences = []
    for name, array, output in zip(wanted, wanted.values(), outputs, strict=True):
        output = np.asarray(output)
        reference = array[:1] if name.startswith("map") and len(output) == 1 else array
        if not output.size or output.shape != reference.shape:
            return {"refused": f"{name} has the shape {output.shape} instead of {array.shape}"}
        distance = np.abs(output.astype(np.float64) - reference).max()
        differences.append(distance / max(1.0, np.abs(reference).max()))
    return {"difference": float(np.max(differences))}


def reason(error, model):
    """The line of a message that says most, without folders."""
    text = str(error).replace(model, Path(model).name)
    lines = [line.strip(" >") for line in text.splitlines() if any(map(str.isalpha, line))]
    best = ([line for line in lines if "error:" in line] or lines or [type(error).__name__])[-1]
    return best if len(best) <= 300 else f"{best[:150]} ... {best[-150:]}"


if __name__ == "__main__":
    program, options, model, case, answer = sys.argv[1:]
    with np.load(case) as arrays:
        wanted = dict(arrays)
    x = wanted.pop("x")
    try:
        result = compare(wanted, globals()[program](Path(model), x, **json.loads(options)))
    except Exception as error:
        result = {"refused": reason(error, model)}
    Path(answer).write_text(json.dumps(result))
