"""An Android project around exported networks: rendered whole, complete but for the reader's Android SDK."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

from toolkit.device.answers import last_line
from toolkit.device.build import NCNN_SHA256, NCNN_VERSION, RUNNER, SHARED, layers_of
from toolkit.export.folder import Exported
from toolkit.export.registry import FORMATS
from toolkit.files import check_place, whole_file, whole_folder, write_json
from toolkit.runtime import InputError
from toolkit.tables import Shown
from toolkit.text import JOINERS, in_markdown, short

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# ncnn's source in the Python Package Index, which names a file's address by its BLAKE2 hash.
NCNN_URL = (
    "https://files.pythonhosted.org/packages/b7/50/"
    f"32b5172afe7d3e0dce410b7d8f4a5b7b84b942a0d69affbaedf669de52bc/ncnn-{NCNN_VERSION}.tar.gz"
)
SDK_PARTS = ("platforms;android-35", "build-tools;35.0.0", "ndk;29.0.14206865", "cmake;3.31.6")
MODELS = Path("app/src/main/assets/models")
CPP = Path("app/src/main/cpp")
# A rendered project is known by the one file that nothing else has.
MARK = MODELS / "index.json"
RENDERED = (
    "README.md",
    "gradle.properties",
    "app/src/main/res/values/app_name.xml",
    "app/src/main/cpp/CMakeLists.txt",
)
LONGEST_NAME, LONGEST_ID = 100, 200


@dataclass(frozen=True)
class Packaged:
    """One network inside a project."""

    folder: str  # below assets/models
    name: str
    formats: tuple[str, ...]
    task: str
    summary: str  # "20 classes" or "106 points"
    classes: int  # 0 for a landmark network
    points: int  # 0 for a detector
    input_size: tuple[int, int]
    files: dict[str, int]  # name -> bytes

    @property
    def kilobytes(self) -> int:
        return round(sum(self.files.values()) / 1000)


class Contents(tuple[Packaged, ...], Shown):
    """The networks inside a project."""

    def columns(self) -> dict[str, list[str]]:
        """A row for each network."""
        return {
            "network": [each.name for each in self],
            "finds": [each.summary for each in self],
            "input": ["x".join(map(str, each.input_size)) for each in self],
            "formats": [", ".join(each.formats) for each in self],
            "kB": [f"{each.kilobytes:,}" for each in self],
        }

    def figure(self) -> Figure:
        """Kilobytes of every file of weights."""
        from toolkit import viz

        sizes = {
            f"{each.name} {file.removeprefix('model-').removesuffix('.bin')}": size / 1000
            for each in self
            for file, size in each.files.items()
            if file.endswith(".bin")
        }
        title = f"Weights in the app: {sum(sizes.values()):,.0f} kB"
        return viz.bars(list(sizes), list(sizes.values()), xlabel="kB", title=title, form="{:,.0f}")


def package_android(
    folders: Sequence[str | Path],
    output: str | Path,
    name: str = "Detector",
    package_id: str = "org.example.detector",
) -> Contents:
    """Writes a Gradle project for an app that runs exported networks.

    The folder appears whole or not at all; it replaces an older such project, never anything else.

    Args:
        folders: exported networks with ncnn files. One may be a landmark network, which places points in the
            detections of the others: in all of a detector with one class, else in its class "face".
        output: the project's folder.
        name: shown below the app's icon.
        package_id: Android application ID; must be unique, such as org.example.detector.

    Returns:
        What the project holds, a row for each network; spec.json there lists the ncnn files alone.

    Raises:
        InputError: a folder is not an export or has no ncnn files, a file differs from its sha256, two
            networks have one name, there is no detector or more than one landmark network, Android does
            not take the name, or `output` is something else.
    """
    output = Path(output)
    check_place(output, MARK, "a packaged app")
    if not re.fullmatch(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+", package_id) or len(package_id) > LONGEST_ID:
        raise InputError(
            f"a package id is two or more words of a-z, 0-9 and _ with dots between, each beginning with a "
            f"letter, and up to {LONGEST_ID} characters, such as org.example.detector, not "
            f"{short(package_id)}"
        )
    check_name(name)
    networks = open_networks(folders, [fmt for fmt, row in FORMATS.items() if row.engine == "ncnn"])
    layers = "\n  ".join(sorted(layers_of(network.folder for network in networks)))
    values = {
        "APP_NAME": _resource_text(name),
        "TITLE": in_markdown(name),
        "APPLICATION_ID": package_id,
        "NCNN_URL": NCNN_URL,
        "NCNN_SHA256": NCNN_SHA256,
        "NCNN_VERSION": NCNN_VERSION,
        "NCNN_DAY": NCNN_VERSION.rpartition(".")[2],
        "SDK_PARTS": " ".join(f'"{part}"' for part in SDK_PARTS),
    }
    with whole_folder(output) as project:
        _copy_template(project, values)
        packaged = add_networks(networks, project / MODELS)
        rows = [{"folder": p.folder, "name": p.name, "formats": p.formats} for p in packaged]
        write_json(project / MARK, index_of(packaged, rows))
        (project / CPP / "layers.cmake").write_text(f"set(LAYERS\n  {layers})\n")
    return Contents(packaged)


def check_name(name: str) -> None:
    """InputError for what is no name of an app: one line of text, not too long."""
    letters = JOINERS.sub("", name)
    if not letters.strip() or not letters.isprintable() or len(name) > LONGEST_NAME:
        raise InputError(
            f"an app's name is one line of text with up to {LONGEST_NAME} characters, not {short(name)}"
        )


def open_networks(folders: Sequence[str | Path], formats: Sequence[str]) -> list[Exported]:
    """Exported networks with these formats alone, all of which open; one of the networks may place landmarks.

    Raises:
        InputError: a folder is not an export or has no such format, a file differs from its sha256, or there
            is no detector, or more than one landmark network.
    """
    if not folders:
        raise InputError("an app needs at least one exported network: name its folder (--model)")
    unique = dict.fromkeys(Path(folder) for folder in folders)
    networks = [_checked(folder, formats) for folder in unique]
    placing = [network.folder for network in networks if network.io.task == "landmarks"]
    if len(placing) == len(networks):
        raise InputError(f"{placing[0]} places landmarks and finds no objects: name a detector too (--model)")
    if len(placing) > 1:
        raise InputError(
            f"an app takes one landmark network, not both {placing[0]} and {placing[1]}: leave one out"
        )
    return networks


def _checked(folder: Path, formats: Sequence[str]) -> Exported:
    exported = Exported.read(folder)
    there = [fmt for fmt in formats if fmt in exported.formats]
    if not there:
        raise InputError(
            f"{folder} has no {formats[0]} files, which the app runs: export the network with --to "
            f"{formats[0]}"
        )
    for fmt in there:
        exported.open(fmt, threads=1)
    return exported.only(there)


def add_networks(networks: Sequence[Exported], folder: Path) -> tuple[Packaged, ...]:
    """Copy networks into folders of their own. InputError where two have one name."""
    packaged = tuple(_add_model(folder, network) for network in networks)
    directories = [entry.folder for entry in packaged]
    for directory in directories:
        if directories.count(directory) > 1:
            raise InputError(f"two networks are called {directory}: export one of them under another name")
    return packaged


def index_of(packaged: Sequence[Packaged], rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What an app reads first: a row for each detector, and that of the landmark network."""
    kinds = [entry.task for entry in packaged]
    detectors = [row for row, kind in zip(rows, kinds, strict=True) if kind != "landmarks"]
    placing = [row for row, kind in zip(rows, kinds, strict=True) if kind == "landmarks"]
    return {"models": detectors, **({"landmarks": placing[0]} if placing else {})}


def _copy_template(project: Path, values: dict[str, str]) -> None:
    shutil.copytree(Path(__file__).parent / "android", project, dirs_exist_ok=True)
    for hidden in sorted(project.rglob("dot_*")):
        hidden.rename(hidden.with_name(hidden.name.replace("dot_", ".", 1)))
    for file in RENDERED:
        text = (project / file).read_text(encoding="utf-8")
        # in one pass: a value may look like a place for another
        text = re.sub("@([A-Z][A-Z0-9_]*)@", lambda place: values[place[1]], text)
        (project / file).write_text(text, encoding="utf-8")
    for path in (*SHARED.glob("*.hpp"), SHARED / "mend_ncnn.cmake"):
        shutil.copyfile(path, project / CPP / path.name)
    shutil.copyfile(RUNNER / "machine.hpp", project / CPP / "machine.hpp")


def _add_model(folder: Path, network: Exported) -> Packaged:
    # aapt leaves out what begins with a dot or an underscore, and not every tool takes other letters
    directory = re.sub(r"[^\w.-]+", "-", network.name, flags=re.ASCII).strip("-._")[:60] or "model"
    target = folder / directory
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted({path for fmt in network.formats for path in network.paths(fmt)}):
        shutil.copyfile(path, target / path.name)
    network.save(target)
    fields = network.io.as_dict()
    return Packaged(
        directory,
        network.name,
        network.formats,
        network.io.task,
        network.io.summary,
        len(fields.get("classes", ())),
        fields.get("points", 0),
        network.io.input_size,
        {file.name: file.stat().st_size for file in sorted(target.iterdir())},
    )


def _resource_text(text: str) -> str:
    """As an Android string resource: quotes keep blanks and a leading @ or ?, backslashes keep quotes."""
    quoted = text.replace("\\", "\\\\").replace('"', '\\"').replace("'", "\\'")
    return escape(f'"{quoted}"')


def zip_project(project: str | Path) -> Path:
    """The project as PROJECT.zip beside it, for hand-over; the file appears whole or not at all."""
    project = Path(project)
    target = project.with_name(project.name + ".zip")
    built = {"build", ".gradle", ".cxx", ".idea"}
    with whole_file(target) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(project.rglob("*")):
            inner = path.relative_to(project)
            if path.is_file() and not built.intersection(inner.parts) and inner.name != "local.properties":
                archive.write(path, Path(project.name) / inner)
    return target


def find_sdk() -> Path:
    """The Android SDK that ANDROID_HOME or ANDROID_SDK_ROOT names, with all that the project needs.

    Raises InputError, with the command that installs them, where it or a part is missing.
    """
    named = os.environ.get("ANDROID_HOME") or os.environ.get("ANDROID_SDK_ROOT")
    parts = " ".join(f'"{part}"' for part in SDK_PARTS)
    if not named:
        raise InputError(
            "building needs an Android SDK, and ANDROID_HOME names none: install Android Studio or its "
            f"command line tools, run sdkmanager {parts}, and set ANDROID_HOME"
        )
    missing = [part for part in SDK_PARTS if not Path(named, *part.split(";")).is_dir()]
    if missing:
        raise InputError(f"the Android SDK in {named} lacks {', '.join(missing)}: run sdkmanager {parts}")
    return Path(named)


def build_apk(project: str | Path) -> Path:
    """Run Gradle on a project; -> the APK, signed with the debug key.

    Gradle is the project's own wrapper where one was made, else the one on the PATH. Raises InputError where
    the SDK or Gradle is missing, or with the last line of Gradle's output where it fails.
    """
    project = Path(project).resolve()
    sdk = find_sdk()
    wrapper = project / "gradlew"
    gradle = str(wrapper) if wrapper.exists() else shutil.which("gradle")
    if gradle is None:
        raise InputError(
            f"building needs Gradle 8.12 on the PATH: install it, or open {project} in Android Studio"
        )
    log = project / "build.log"
    with log.open("w") as lines:
        run = subprocess.run(
            [gradle, "--no-daemon", "--console=plain", "assembleDebug"],  # nothing stays running
            cwd=project,
            env={**os.environ, "ANDROID_HOME": str(sdk)},
            stdout=lines,
            stderr=subprocess.STDOUT,
        )
    apk = project / "app/build/outputs/apk/debug/app-debug.apk"
    if run.returncode or not apk.is_file():
        message = last_line(log.read_text(encoding="utf-8", errors="replace"), "no output")
        raise InputError(f"Gradle cannot build {project}: {message} (all in {log})")
    return apk
