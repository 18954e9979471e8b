"""A page that runs exported networks in a browser: static files for any host, which work offline."""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from toolkit.device.build import downloaded, kept
from toolkit.device.package import Packaged, add_networks, check_name, index_of, open_networks
from toolkit.export.folder import Exported
from toolkit.files import check_place, whole_folder, write_json

TEMPLATE = Path(__file__).parent / "web"
FORMAT = "onnx"
MODELS = Path("models")
MARK = MODELS / "page.json"  # a page is known by the one file that nothing else has
ENGINE_VERSION = "1.30.0"
ENGINE_URL = f"https://registry.npmjs.org/onnxruntime-web/-/onnxruntime-web-{ENGINE_VERSION}.tgz"
ENGINE_SHA256 = "d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71"
# WebAssembly, which every browser runs, and WebGPU, which is read where it is chosen.
WASM_FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
WEBGPU_FILES = (
    "ort.webgpu.min.mjs",
    "ort-wasm-simd-threaded.asyncify.mjs",
    "ort-wasm-simd-threaded.asyncify.wasm",
)
LICENCE = "onnxruntime-web is of Microsoft Corporation, under the MIT licence: https://onnxruntime.ai\n"


def package_web(
    folders: Sequence[str | Path], output: str | Path, name: str = "Detector"
) -> tuple[Packaged, ...]:
    """Writes a page with a camera, pictures, videos and a benchmark.

    The folder appears whole or not at all; it replaces an older such page, never anything else. The engine,
    onnxruntime-web, is downloaded once and is among the files.

    Args:
        folders: exported networks with ONNX files. One may be a landmark network, which places points in the
            detections of the others.
        output: the page's folder.
        name: its title.

    Returns:
        What the page holds, a row for each network.

    Raises:
        InputError: a folder is not an export or has no ONNX file, a file differs from its sha256, two
            networks have one name, there is no detector or more than one landmark network, the engine cannot
            be downloaded, or `output` is something else.
    """
    output = Path(output)
    check_place(output, MARK, "a packaged page")
    check_name(name)
    networks = page_networks(folders)
    engine = engine_files()
    with whole_folder(output) as page:
        shutil.copytree(TEMPLATE, page, dirs_exist_ok=True)
        shutil.copytree(engine, page / "ort")
        packaged = add_networks(networks, page / MODELS)
        rows = [_row(network, entry) for network, entry in zip(networks, packaged, strict=True)]
        write_json(page / MARK, index_of(packaged, rows))
        _render(page, name)
    return packaged


def page_networks(folders: Sequence[str | Path]) -> list[Exported]:
    """The networks for a page, all of which open. Raises InputError as `package_web` does for folders."""
    return open_networks(folders, [FORMAT])


def _row(network: Exported, entry: Packaged) -> dict[str, Any]:
    """What the page has to know of a network before it reads spec.json."""
    ((file, facts),) = network.facts(FORMAT).items()
    row = {"folder": entry.folder, "name": entry.name, "format": FORMAT, "file": file}
    return {**row, "bytes": facts.bytes, "sha256": {file: facts.sha256}}


def _render(page: Path, name: str) -> None:
    """The title, the manifest, and the list of files that the service worker keeps, which is known last."""
    html = page / "index.html"
    html.write_text(html.read_text(encoding="utf-8").replace("@TITLE@", escape(name)), encoding="utf-8")
    icon = {"src": "icon.svg", "sizes": "any", "type": "image/svg+xml"}
    manifest = {"name": name, "short_name": name, "start_url": "./", "display": "standalone", "icons": [icon]}
    write_json(page / "manifest.webmanifest", manifest)
    worker = page / "sw.js"
    kept = sorted(
        path for path in page.rglob("*") if path.is_file() and path.name not in (worker.name, *WEBGPU_FILES)
    )
    state = hashlib.sha256(b"".join(path.read_bytes() for path in kept)).hexdigest()[:16]
    files = ["./", *(path.relative_to(page).as_posix() for path in kept)]
    text = worker.read_text(encoding="utf-8")
    text = text.replace("@STATE@", state).replace('"@FILES@"', json.dumps(files, indent=1))
    worker.write_text(text, encoding="utf-8")


def engine_files() -> Path:
    """The folder with onnxruntime-web's files, downloaded once. Raises InputError where it cannot be had."""

    def make(folder: Path, work: Path) -> None:
        archive = downloaded(ENGINE_URL, ENGINE_SHA256, work, "connect to a network; it is kept for later")
        with tarfile.open(archive) as packed:
            for file in (*WASM_FILES, *WEBGPU_FILES):
                source = packed.extractfile(f"package/dist/{file}")
                assert source is not None
                (folder / file).write_bytes(source.read())
        (folder / "LICENCE.txt").write_text(LICENCE)

    return kept(f"onnxruntime-web-{ENGINE_VERSION}", make)
