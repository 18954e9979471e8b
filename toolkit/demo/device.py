"""Stages of the device: the Android project, and timing on this machine."""

from __future__ import annotations

from pathlib import Path

from toolkit import viz
from toolkit.demo.shared import EXPORTED, curated_data, facts_table, picture_paths, scale
from toolkit.device import browser, package, timing, web
from toolkit.device.report import NCNN_COLUMN, draw_stages, parity_text, record, summary, table
from toolkit.device.settings import Load
from toolkit.export.folder import Exported
from toolkit.files import write_json
from toolkit.inference.backend import DetectSettings
from toolkit.inference.run import run as run_detector
from toolkit.networks import open_model
from toolkit.page import Section, Table
from toolkit.pictures import load_image


def build_app(output: Path) -> Section:
    project = output / "app/Detector"
    (network,) = package.package_android([output / EXPORTED], project, "Digits", "org.example.digits")
    archive = package.zip_project(project)
    folder = project / package.MODELS / network.folder
    images = [load_image(path) for path in picture_paths(curated_data(output).split("val"), 5)]
    backend = open_model(f"{folder}:{network.formats[0]}")
    threshold = Exported.read(folder).threshold
    settings = DetectSettings(conf=0.25 if threshold is None else threshold)
    drawings = [
        viz.draw_boxes(image, b.boxes, b.class_ids, b.scores, backend.io.classes, scale=2)
        for image, b in zip(images, run_detector(backend, images, settings), strict=True)
    ]
    viz.image_grid(drawings, columns=5, cell=2).savefig(output / "app/pictures.png")
    facts = {
        "files": str(sum(path.is_file() for path in project.rglob("*"))),
        "zip, kB": f"{archive.stat().st_size / 1000:.0f}",
        "network, kB": f"{network.kilobytes}",
        "formats": ", ".join(network.formats),
        "initial threshold": f"{settings.conf:.3f}",
    }
    return Section(
        "A Gradle project with the network inside: camera with live boxes, gallery, sliders, and a "
        "benchmark. It was generated, not built: that needs an Android SDK, and its README.md has the "
        "commands.",
        {"app/pictures.png": "What the app will show: the network of the project, run by ncnn here"},
        [facts_table("The project", "app/Detector/README.md", facts)],
        {},
        {"app/Detector": "opens in Android Studio", "app/Detector.zip": "the same as one file"},
    )


def build_page(output: Path) -> Section:
    page = output / "page/Digits"
    (network,) = web.package_web([output / EXPORTED], page, "Digits")
    (picture,) = picture_paths(curated_data(output).split("val"), 1)
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
        facts["the same file here"] = parity_text(reading)
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


def _first_load(page: Path) -> str:
    """What a browser reads before the first picture: all but the second engine."""
    files = [path for path in page.rglob("*") if path.is_file() and path.name not in web.WEBGPU_FILES]
    return f"{sum(path.stat().st_size for path in files) / 1000:,.0f}"


def time_here(output: Path) -> Section:
    (picture,) = picture_paths(curated_data(output).split("val"), 1)
    load = Load(loops=scale().loops, cooldown=0)
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
