"""Stages of the device: the Android project, and timing on this machine."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from toolkit.demo.shared import (
    EXPORTED,
    curated_data,
    draw_detections,
    facts_table,
    picture_paths,
    right_and_wrong,
    sample,
    scale,
)
from toolkit.device import browser, package, timing, web
from toolkit.device.build import build_runner, layers_of
from toolkit.device.connect import open_device
from toolkit.device.facts import device_facts
from toolkit.device.report import NCNN_COLUMN, draw_stages, parity_text, record, summary, table
from toolkit.device.settings import Load
from toolkit.export.folder import Exported
from toolkit.files import write_json
from toolkit.inference.backend import DetectSettings
from toolkit.inference.run import run
from toolkit.networks import open_model
from toolkit.page import Section, Table


def build_app(output: Path) -> Section:
    project = output / "app/Detector"
    (network,) = package.package_android([output / EXPORTED], project, "Digits", "org.example.digits")
    archive = package.zip_project(project)
    folder = project / package.MODELS / network.folder
    backend, threshold = open_model(f"{folder}:{network.formats[0]}"), _settings(folder).conf
    pictures = sample(curated_data(output).split("val"), 5)
    draw_detections(backend, pictures, threshold, output / "app/pictures.png", columns=5)
    facts = {
        "files": str(sum(path.is_file() for path in project.rglob("*"))),
        "zip, kB": f"{archive.stat().st_size / 1000:.0f}",
        "network, kB": f"{network.kilobytes}",
        "formats": ", ".join(network.formats),
        "initial threshold": f"{threshold:.3f}",
    }
    return Section(
        "A Gradle project with the network inside: camera with live boxes, gallery, sliders, and a "
        "benchmark. It was generated, not built: that needs an Android SDK, and its README.md has the "
        "commands.",
        {"app/pictures.png": f"What the app will show, run by ncnn here: {right_and_wrong(output)}"},
        [facts_table("The project", "app/Detector/README.md", facts)],
        {},
        {"app/Detector": "opens in Android Studio", "app/Detector.zip": "the same as one file"},
    )


def build_page(output: Path) -> Section:
    page = output / "page/Digits"
    (network,) = web.package_web([output / EXPORTED], page, "Digits")
    picture = _fullest_picture(output)
    facts = {
        "files": str(sum(path.is_file() for path in page.rglob("*"))),
        "files of a first visit, kB": _first_load(page),
    }
    facts["network, kB"] = f"{network.kilobytes}"
    figures = {}
    if browser.find_browser():
        load = Load(loops=scale().loops, cooldown=0)
        ((_, reading),) = timing.measure([output / EXPORTED], ["browser"], picture=picture, load=load)
        facts["ms per picture"] = f"{summary(reading)['total'].p50:.2f}, {reading.machine}"
        facts["detections as here"] = parity_text(reading)
        figures["ms per picture, browser"] = f"{summary(reading)['total'].p50:.2f}"
    else:
        facts["ms per picture"] = "not measured: no browser is installed here"
    return Section(
        "The same network as static files for any host: camera, pictures, videos and a benchmark in the "
        "browser of a phone, without an app. `toolkit serve` shows it to a phone by a code to scan, and "
        "takes its milliseconds back.",
        {},
        [facts_table("The page", "page/Digits/models/page.json", facts)],
        figures,
        {"page/Digits": "for any static host"},
    )


def _settings(folder: Path) -> DetectSettings:
    """With the threshold of an exported network."""
    kept = Exported.read(folder).threshold
    return DetectSettings() if kept is None else DetectSettings(conf=kept)


def _fullest_picture(output: Path) -> Path:
    """The validation picture in which the network finds most: where it finds nothing, as it may after a short
    training, nothing can agree."""
    folder = output / EXPORTED
    pictures = picture_paths(curated_data(output).split("val"), 24)
    found = run(open_model(f"{folder}:ncnn"), pictures, _settings(folder))
    counts = [len(boxes.scores) for boxes in found]
    return pictures[counts.index(max(counts))]


def _first_load(page: Path) -> str:
    """What a browser reads before the first picture: all but the second engine."""
    files = [path for path in page.rglob("*") if path.is_file() and path.name not in web.WEBGPU_FILES]
    return f"{sum(path.stat().st_size for path in files) / 1000:,.0f}"


def time_here(output: Path) -> Section:
    picture = _fullest_picture(output)
    load = Load(loops=scale().loops, cooldown=0)
    with closing(open_device("local")) as here:
        build_runner(device_facts(here)["abi"], layers_of([output / EXPORTED]))
    entries = timing.measure([output / EXPORTED], ["local"], sweep=True, picture=picture, load=load)
    readings = [reading for _, reading in entries]
    draw_stages(readings).savefig(output / "runner/stages.png")
    write_json(output / "runner/readings.json", [record(*entry) for entry in entries])
    hidden = ("network", "score", "device", "cores", "date")
    columns = {title: cells for title, cells in table(entries).items() if title not in hidden}
    fastest = min(summary(reading)[NCNN_COLUMN].p50 for reading in readings)
    return Section(
        "The program that `toolkit time` pushes to phones and boards, here on this computer, which is not a "
        "phone. Its detections are compared with those of ncnn's Python package.",
        {"runner/stages.png": "Median milliseconds of each stage, by format and threads"},
        [Table(readings[0].machine, "runner/readings.json", columns)],
        {"ms per picture, runner": f"{fastest:.2f}"},
        {f"{EXPORTED}/timing.json": "every sample"},
    )
