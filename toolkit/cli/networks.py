"""`toolkit models`, `toolkit export` and `toolkit package`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from toolkit.cli.answer import print_answer, print_message, table
from toolkit.cli.options import Exports, Json, Model, Names, Size, Strict, Weights, output_option, parse_size
from toolkit.runtime import InputError

app = typer.Typer()


@app.command()
def models(as_json: Json = False) -> None:
    """The networks of the zoo: size, parameters, cost, published weights."""
    from toolkit.models import create_model, list_models
    from toolkit.models.cost import measure
    from toolkit.models.zoo import has_published_weights

    entries: list[dict[str, Any]] = []
    for name in list_models():
        model = create_model(name)
        cost = measure(model)
        io = model.io
        fields = io.as_dict()
        entries.append(
            {
                "name": name,
                "input_size": list(cost.input_size),
                "finds": io.summary,
                "classes": len(fields.get("classes", ())),
                "points": fields.get("points", 0),
                "strides": [head.stride for head in io.heads],
                "params": cost.params,
                "macs": cost.macs,
                "bflops": cost.bflops,
                "peak_memory": cost.peak_memory,
                "published_weights": has_published_weights(name),
            }
        )
    columns = ["network", "input", "finds", "strides", "parameters", "MMAC", "BFLOPs", "peak MB", "weights"]
    rows = [
        [
            e["name"],
            "x".join(str(v) for v in e["input_size"]),
            e["finds"],
            "/".join(str(v) for v in e["strides"]) or "-",
            f"{e['params']:,}",
            f"{e['macs'] / 1e6:.1f}",
            f"{e['bflops']:.3f}",
            f"{e['peak_memory'] / 1e6:.1f}",
            "published" if e["published_weights"] else "-",
        ]
        for e in entries
    ]
    print_answer({"models": entries}, as_json, table("", columns, rows))


@app.command()
def export(
    model: Model,
    output: Annotated[Path | None, output_option("exports/NETWORK")] = None,
    weights: Weights = None,
    names: Names = None,
    to: Annotated[
        str,
        typer.Option(
            help="Formats, separated by commas: onnx, onnx-end2end, onnx-int8, ncnn, ncnn-fp16, ncnn-int8, "
            "mnn, mnn-fp16, mnn-int8-weights, mnn-int8, litert, litert-fp16, litert-int8, caffe, darknet; "
            "or all."
        ),
    ] = "onnx,ncnn,ncnn-fp16",
    end2end: Annotated[
        bool, typer.Option("--end2end", help="Add an ONNX file that includes decoding and NMS.")
    ] = False,
    size: Size = "",
    calibration: Annotated[
        Path | None,
        typer.Option(help="Calibration pictures for int8: a folder, or a text file with one path per line."),
    ] = None,
    method: Annotated[
        str, typer.Option(help="Calibration method of ncnn int8: best, minmax, percentile, mse or kl.")
    ] = "best",
    float_layers: Annotated[
        str | None,
        typer.Option(help="Layers that ncnn int8 keeps in float, separated by commas (default: measured)."),
    ] = None,
    detection_output: Annotated[
        bool,
        typer.Option(
            "--detection-output",
            help="Add an ncnn .param that ends in Yolov3DetectionOutput, for older apps. That layer cannot "
            "express scale_x_y: centres are off by up to (scale_x_y - 1) / 2 of a cell (1.6 px in nano). Its "
            "scores are too high, its labels start at 1, its NMS ignores classes.",
        ),
    ] = False,
    cpp: Annotated[
        bool, typer.Option("--cpp", help="Add a C++ sample that runs the ncnn files, with its CMakeLists.")
    ] = False,
    strict: Strict = False,
    accept_loss: Annotated[
        bool,
        typer.Option(
            "--accept-loss",
            help="Keep files of lower precision that lose over 10 % of float32's detections, or add as many.",
        ),
    ] = False,
    opset: Annotated[
        int | None,
        typer.Option(
            min=1, max=100, help="Opset of the ONNX files, 13 to 26 (default: 17).", show_default=False
        ),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=4096,
            help="Pictures per call, fixed in the ONNX files (default: free).",
            show_default=False,
        ),
    ] = None,
    simplify: Annotated[
        bool, typer.Option("--simplify", help="Simplify the ONNX files with onnxslim.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Export a network; each file is checked against torch.

    A format that fails is left out and listed with the reason (exit code 3); the others are written.
    """
    from toolkit.export.folder import Exported
    from toolkit.export.onnx import OnnxSettings
    from toolkit.export.write import ALL, export_model, faults_of
    from toolkit.models.network import TorchNetwork
    from toolkit.networks import open_network

    settings = OnnxSettings(OnnxSettings.opset if opset is None else opset, batch, simplify)
    network = open_network(model, weights, names=names)
    if not isinstance(network, TorchNetwork):
        raise InputError(f"{model} is already exported: name the network or cfg it was exported from")
    folder = output or Path("exports") / Path(model).stem
    name = folder.resolve().name  # a run's best.cfg says less
    asked = to.replace(",", " ").split()
    formats = ALL if asked == [ALL] else asked + ["onnx-end2end"] * end2end
    floats = None if float_layers is None else [part for part in float_layers.split(",") if part]
    parity = export_model(
        network,
        folder,
        formats,
        parse_size(size),
        calibration,
        detection_output,
        method,
        floats,
        cpp,
        name,
        strict=strict,
        accept_loss=accept_loss,
        onnx_settings=settings,
    )
    exported = Exported.read(folder)
    if exported.threshold is not None and exported.threshold != exported.io.threshold:
        print_message(f"{folder} keeps its chosen threshold, {exported.threshold:.4g}")
    faults = faults_of(parity)
    sizes = {fmt: exported.bytes(fmt) for fmt in exported.formats}
    rows = [
        [fmt, f"{sizes[fmt] / 1000:.1f}" if fmt in sizes else "-", *_figures(facts)]
        for fmt, facts in parity.items()
    ]
    columns = ["format", "kB", "max difference to torch", "relative to largest output", "kept, lost, new"]
    columns += ["score change", "left out, because it"]
    filled = [i for i in range(len(columns)) if any(row[i] for row in rows)]
    print_answer(
        {"folder": str(folder), "parity": parity, "bytes": sizes, "left_out": faults},
        as_json,
        table(str(folder), [columns[i] for i in filled], [[row[i] for i in filled] for row in rows]),
    )
    compared = (facts.get("fidelity", {}) for facts in parity.values())
    if found := next((fidelity for fidelity in compared if "kept" in fidelity), None):
        print_message(
            f"kept, lost and new: detections above {found['threshold']:.2f} in {found['pictures']} of the "
            "calibration pictures, compared with float32; score change: their mean. What a file scores, "
            "toolkit parity ladder --data DATA tells"
        )
    for fmt, fault in faults.items() if as_json else ():
        print_message(f"left out: {fmt} {fault}")
    if faults:
        raise typer.Exit(3)


def _figures(facts: dict[str, Any]) -> list[str]:
    """Cells of a format: how far it is from torch, what it keeps, and whether it was left out."""
    fidelity = facts.get("fidelity", {})
    kept = [str(fidelity[key]) for key in ("kept", "lost", "new") if key in fidelity]
    if "matched" in facts:
        kept = [str(facts["matched"]), str(facts["detections"] - facts["matched"]), str(facts["extra"])]
    if "point_error" in fidelity:
        kept = [f"points moved by {fidelity['point_error']:.2g}"]
    return [
        f"{facts['max_difference']:.2g}" if "max_difference" in facts else "",
        f"{facts['relative_difference']:.2g}" if "relative_difference" in facts else "",
        ", ".join(kept),
        f"{fidelity['score_change']:+.2g}" if "score_change" in fidelity else "",
        facts.get("fault", "") or (f"(accepted: {facts['accepted']})" if "accepted" in facts else ""),
    ]


@app.command()
def package(
    model: Exports,
    output: Annotated[Path, output_option()],
    android: Annotated[
        bool, typer.Option("--android", help="Write a Gradle project for an Android app.")
    ] = False,
    web: Annotated[bool, typer.Option("--web", help="Write a page for browsers.")] = False,
    micro: Annotated[
        bool, typer.Option("--micro", help="Write C++ source for TensorFlow Lite Micro.")
    ] = False,
    name: Annotated[str, typer.Option(help="App name shown on the screen.")] = "Detector",
    package_id: Annotated[
        str, typer.Option(help="Android application ID; must be unique.")
    ] = "org.example.detector",
    as_zip: Annotated[bool, typer.Option("--zip", help="Also write OUTPUT.zip.")] = False,
    build: Annotated[bool, typer.Option("--build", help="Build the APK (needs an Android SDK).")] = False,
    as_json: Json = False,
) -> None:
    """Write an app around exported networks: camera, pictures, sliders, timing. For Android or a browser.

    Each --model is an exported folder, with ncnn files for --android and with an ONNX file for --web; one of
    them may be a landmark network. The page is static files, which any host serves: browsers give a camera
    to pages from localhost or by https. --micro writes no app: source for microcontrollers, of one folder
    with a litert-int8 file.
    """
    from toolkit.device.package import build_apk, find_sdk, package_android, zip_project
    from toolkit.device.web import package_web

    if android + web + micro != 1:
        raise InputError("name one target: --android, --web or --micro")
    if build and not android:
        raise InputError("--build makes an APK, which needs --android")
    if build:
        find_sdk()  # before anything is written
    if micro:
        _package_micro(model, output, as_zip, as_json)
        return
    packaged = package_web(model, output, name) if web else package_android(model, output, name, package_id)
    answer: dict[str, Any] = {"project": str(output), "models": [vars(network) for network in packaged]}
    if as_zip:
        answer["zip"] = str(zip_project(output))
    if build:
        answer["apk"] = str(build_apk(output))
    elif web:
        print_message(f"to look at it here: python -m http.server --directory {output}")
    else:
        print_message(f"to build: open {output} in Android Studio, or see its README.md for the commands")
    rows = [
        [
            n.name,
            n.summary,
            f"{n.input_size[0]}x{n.input_size[1]}",
            ", ".join(n.formats),
            str(n.kilobytes),
        ]
        for n in packaged
    ]
    title = ", ".join(str(answer[key]) for key in ("project", "zip", "apk") if key in answer)
    print_answer(answer, as_json, table(title, ["network", "classes", "input", "formats", "kB"], rows))


def _package_micro(folders: list[Path], output: Path, as_zip: bool, as_json: bool) -> None:
    from dataclasses import asdict

    from toolkit.device.micro import package_micro
    from toolkit.device.package import zip_project

    row = package_micro(folders, output)
    answer: dict[str, Any] = {"project": str(output), "models": [asdict(row)]}
    if as_zip:
        answer["zip"] = str(zip_project(output))
    columns = ["network", "classes", "input", "flash, kB", "activations, kB", "arena, kB", "operators"]
    sizes = (f"{size / 1000:.1f}" for size in (row.flash, row.activations, row.arena))
    operators = ", ".join(call.removeprefix("Add") for call in row.operators)
    cells = [row.name, row.summary, "x".join(map(str, row.input_size)), *sizes, operators]
    title = ", ".join(str(answer[key]) for key in ("project", "zip") if key in answer)
    print_answer(answer, as_json, table(title, columns, [cells]))
