"""`toolkit models`, `toolkit export` and `toolkit package`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from toolkit.cli.answer import print_answer, print_message, table
from toolkit.cli.options import Json, Model, Size, Weights, parse_size
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
    output: Annotated[Path | None, typer.Option(help="Output folder (default: exports/NETWORK).")] = None,
    weights: Weights = None,
    to: Annotated[
        str,
        typer.Option(
            help="Formats, separated by commas: onnx, onnx-end2end, onnx-int8, ncnn, ncnn-fp16, ncnn-int8, "
            "mnn, mnn-fp16, mnn-int8-weights, mnn-int8, caffe, darknet; or all."
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
    as_json: Json = False,
) -> None:
    """Export a network; each file is checked against torch."""
    from toolkit.export.folder import Exported
    from toolkit.export.registry import formats_of
    from toolkit.export.write import export_model
    from toolkit.models.network import TorchNetwork
    from toolkit.networks import open_network

    network = open_network(model, weights)
    if not isinstance(network, TorchNetwork):
        raise InputError(f"{model} is already exported: name the network or cfg it was exported from")
    folder = output or Path("exports") / Path(model).stem
    name = folder.resolve().name  # a run's best.cfg says less
    formats = formats_of(network) if to == "all" else to.split(",") + ["onnx-end2end"] * end2end
    floats = None if float_layers is None else [part for part in float_layers.split(",") if part]
    parity = export_model(
        network, folder, formats, parse_size(size), calibration, detection_output, method, floats, cpp, name
    )
    exported = Exported.read(folder)
    if exported.threshold is not None and exported.threshold != exported.io.threshold:
        print_message(f"{folder} keeps its chosen threshold, {exported.threshold:.4g}")
    sizes = {fmt: exported.bytes(fmt) for fmt in parity}
    rows = [
        [fmt, f"{sizes[fmt] / 1000:.1f}", f"{p['max_difference']:.2g}", f"{p['relative_difference']:.2g}"]
        if "max_difference" in p
        else [fmt, f"{sizes[fmt] / 1000:.1f}", f"{p['matched']} of {p['detections']} detections", ""]
        for fmt, p in parity.items()
    ]
    print_answer(
        {"folder": str(folder), "parity": parity, "bytes": sizes},
        as_json,
        table(str(folder), ["format", "kB", "max difference to torch", "relative to largest output"], rows),
    )


@app.command()
def package(
    model: Annotated[
        list[Path],
        typer.Option(help="Exported folder with ncnn files; may be repeated, with one landmark network."),
    ],
    output: Annotated[Path, typer.Option(help="Project folder.")],
    android: Annotated[
        bool, typer.Option("--android", help="Write a Gradle project for an Android app.")
    ] = False,
    name: Annotated[str, typer.Option(help="App name shown on the screen.")] = "Detector",
    package_id: Annotated[
        str, typer.Option(help="Android application ID; must be unique.")
    ] = "org.example.detector",
    as_zip: Annotated[bool, typer.Option("--zip", help="Also write OUTPUT.zip.")] = False,
    build: Annotated[bool, typer.Option("--build", help="Build the APK (needs an Android SDK).")] = False,
    as_json: Json = False,
) -> None:
    """Write an Android app around exported networks: camera, gallery, sliders, timing on the phone."""
    from toolkit.device.package import build_apk, find_sdk, package_android, zip_project

    if not android:
        raise InputError("the target is missing: add --android, the only target so far")
    if build:
        find_sdk()  # before anything is written
    networks = package_android(model, output, name, package_id)
    answer: dict[str, Any] = {"project": str(output), "models": [vars(network) for network in networks]}
    if as_zip:
        answer["zip"] = str(zip_project(output))
    if build:
        answer["apk"] = str(build_apk(output))
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
        for n in networks
    ]
    title = ", ".join(str(answer[key]) for key in ("project", "zip", "apk") if key in answer)
    print_answer(answer, as_json, table(title, ["network", "classes", "input", "formats", "kB"], rows))
