"""The Android project: rendered for any network, its core against Python in a desktop's JVM, its Java and
resources through javac and aapt2."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
import zipfile
from html import escape
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from markdown_it import MarkdownIt

from tests.device.conftest import wheel_points
from tests.device.wheel import Found, Wheel, assert_equal
from tests.small import KINDS, small, wide_and_tall
from toolkit.device import build, package
from toolkit.device.agreement import ncnn_input
from toolkit.device.package import build_apk, find_sdk, package_android, zip_project
from toolkit.device.readings import import_readings, read_reading, read_timings
from toolkit.export.folder import open_export
from toolkit.export.write import export_model
from toolkit.inference.backend import DetectSettings
from toolkit.models import create_model
from toolkit.models.decode import decode, suppress
from toolkit.pictures import save_image
from toolkit.runtime import InputError
from toolkit.samples import photographs

NETWORKS = {
    "yoloface-500k-v2": ("ncnn", "ncnn-fp16", "ncnn-int8"),
    "nano-voc": ("ncnn", "ncnn-fp16"),
    "nano-coco": ("ncnn",),
}
LANDMARKS = "landmark106"
RUNS = [(name, fmt) for name, formats in NETWORKS.items() for fmt in formats]
HERE = Path(__file__).parent / "android_stubs"
JSON = Path("/usr/share/java/com.android.json.jar")
FRAMEWORK = Path("/usr/share/android-framework-res/framework-res.apk")
SOURCES = "app/src/main"


def needs(*programs):
    """Skip where a program or file of a Debian package is missing."""
    packages = {
        "javac": "openjdk-17-jdk-headless",
        "aapt2": "aapt",
        "cmake": "cmake",
        "ninja": "ninja-build",
        "c++": "g++",
        str(JSON): "libandroid-json-java",
        str(FRAMEWORK): "android-framework-res",
    }
    missing = [packages[p] for p in map(str, programs) if not shutil.which(p) and not Path(p).exists()]
    if missing:
        pytest.skip(f"needs the Debian packages {' '.join(missing)}")


def run(*words, **options):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, **options)
    assert done.returncode == 0, f"{words[0]}: {done.stdout[-2000:]}{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def exports(trained, tmp_path_factory):
    root = tmp_path_factory.mktemp("exports")
    for name, picture in photographs().items():
        save_image(root / "pictures" / f"{name}.png", picture)
        save_image(root / "pictures" / f"{name}-mirrored.png", np.ascontiguousarray(picture[:, ::-1]))
    for name, formats in NETWORKS.items():
        pictures = {
            "calibration": root / "pictures",
            "method": "minmax",
            "float_layers": [],
            "accept_loss": True,
        }  # not the best, soon
        export_model(trained(name).eval(), root / name, formats, name=name, **pictures)
    export_model(create_model(LANDMARKS, "published"), root / LANDMARKS, ["ncnn"], name=LANDMARKS)
    return root


@pytest.fixture(scope="module")
def project(exports, tmp_path_factory):
    folder = tmp_path_factory.mktemp("project") / "app"
    package_android([exports / name for name in (*NETWORKS, LANDMARKS)], folder)
    return folder


def contents(folder, but=()):
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in files if p.relative_to(folder).parts[:5] != but
    }


# --- rendering --------------------------------------------------------------------------------------------


def test_the_models_go_in_with_what_the_app_runs(project, exports):
    index = json.loads((project / package.MARK).read_text())
    assert [(row["name"], tuple(row["formats"])) for row in index["models"]] == list(NETWORKS.items())
    assert index["landmarks"] == {"folder": LANDMARKS, "name": LANDMARKS, "formats": ["ncnn"]}
    for row in (*index["models"], index["landmarks"]):
        folder = project / package.MODELS / row["folder"]
        assert {path.suffix for path in folder.iterdir()} == {".json", ".param", ".bin"}
        assert json.loads((folder / "spec.json").read_text())["formats"].keys() == set(row["formats"])
        for fmt in row["formats"]:
            assert open_export(folder, fmt, threads=1).io == open_export(exports / row["name"], fmt).io


def test_one_twenty_and_eighty_classes_change_no_source(exports, tmp_path):
    models = package.MODELS.parts
    rendered = []
    for name in NETWORKS:
        packaged = package_android([exports / name], tmp_path / name)
        (network,) = packaged
        assert packaged.columns()["network"] == [network.name]
        assert f"{network.kilobytes:,}" in str(packaged)
        rendered.append(contents(tmp_path / name, but=models))
        assert network.classes == len(open_export(exports / name).io.classes)
    assert rendered[0] == rendered[1] == rendered[2]
    assert len(rendered[0]) > 20


def test_a_layer_that_no_network_of_the_zoo_has_is_built_too(exports, tmp_path):
    def lengthen(spec):
        """The input goes through one more layer, which does nothing."""
        param = tmp_path / "export" / "model-fp32.param"
        magic, counts, first, *rest = param.read_text().splitlines()
        layers, blobs = (int(count) + 1 for count in counts.split())
        rest = ["Permute same 1 1 in0 same 0=0", *(re.sub(r"\bin0\b", "same", line) for line in rest)]
        param.write_text("\n".join([magic, f"{layers} {blobs}", first, *rest]) + "\n")
        content = param.read_bytes()
        facts = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        spec["formats"]["ncnn"]["files"][param.name] = facts

    package_android([edited(exports, tmp_path / "export", lengthen)], tmp_path / "app")
    layers = (tmp_path / "app" / package.CPP / "layers.cmake").read_text()
    assert set(re.findall(r"^  (\w+)", layers, re.M)) == {*build.LAYERS, "Permute"}


def test_no_placeholder_is_left(project):
    texts = contents(project, but=package.MODELS.parts)
    assert not [name for name, text in texts.items() if re.search(rb"@[A-Z][A-Z_0-9]*@", text)]


def test_versions_agree_wherever_they_stand(project):
    gradle = (project / "app/build.gradle").read_text()
    workflow = (project / ".github/workflows/apk.yml").read_text()
    readme = (project / "README.md").read_text()
    for part in package.SDK_PARTS:
        name, _, version = part.partition(";")
        assert version.removeprefix("android-") in gradle, name
        assert part in workflow
        assert part in readme
    steps = yaml.safe_load(workflow)["jobs"]["apk"]["steps"]
    (setup,) = [step for step in steps if "setup-gradle" in step.get("uses", "")]
    wrapper = (project / "gradle/wrapper/gradle-wrapper.properties").read_text()
    assert f"gradle-{setup['with']['gradle-version']}-bin.zip" in wrapper
    assert re.search(r"distributionSha256Sum=[0-9a-f]{64}\n", wrapper)
    assert build.NCNN_SHA256 in (project / package.CPP / "CMakeLists.txt").read_text()


@pytest.mark.parametrize(
    "name",
    [
        *(
            "Faces",
            'Kim\'s "détecteur" & <more>',
            "@home",
            "@string/app_name",
            "?attr/x",
            "a\\b",
            "a\\n",
            "猫",
        ),
        *("@TITLE@", "@APP_NAME@ @NCNN_URL@", "@NO_PLACE@", "%s %d %1$s 100 %", "\\u0041", "  two  spaces  "),
        *(
            "\U0001f469\u200d\U0001f469\u200d\U0001f467",
            "\u2764\ufe0f",
            "]]>",
            "&amp;",
            "<b>x</b>",
            "x" * 100,
        ),
    ],
)
def test_any_name_on_the_screen(name, exports, tmp_path):
    needs("aapt2", FRAMEWORK)
    package_android([exports / "nano-coco"], tmp_path / "app", name, "com.example.my_app2")
    apk = compile_resources(tmp_path / "app", tmp_path)[0]
    label = re.search(r"string/app_name\n\s+\(\) \"(.*)\"", run("aapt2", "dump", "resources", apk))[1]
    assert label == name
    properties = (tmp_path / "app/gradle.properties").read_text()
    assert "\ndetector.applicationId=com.example.my_app2\n" in properties


@pytest.mark.parametrize("name", ["[x](javascript:alert)", "<script>", "a|b", "# `@TITLE@` *b*", "![](x)"])
def test_a_name_is_text_in_the_readme(name, exports, tmp_path):
    package_android([exports / "nano-coco"], tmp_path / "app", name)
    title = (tmp_path / "app" / "README.md").read_text().splitlines()[0]
    html = MarkdownIt().render(title).strip()
    assert html == f"<h1>{escape(name)}</h1>"


def test_an_older_project_is_replaced(exports, tmp_path):
    package_android([exports / "nano-voc"], tmp_path / "app")
    (tmp_path / "app" / "left.txt").write_text("over")
    package_android([exports / "nano-coco"], tmp_path / "app")
    assert not (tmp_path / "app" / "left.txt").exists()
    assert [path.name for path in (tmp_path / "app" / package.MODELS).iterdir() if path.is_dir()] == [
        "nano-coco"
    ]


def test_names_that_a_folder_of_assets_cannot_have(exports, tmp_path):
    folder = tmp_path / "export"
    shutil.copytree(exports / "yoloface-500k-v2", folder)
    spec = json.loads((folder / "spec.json").read_text())
    for name, directory in (("_my net/2", "my-net-2"), ("猫", "model"), ("..", "model")):
        (folder / "spec.json").write_text(json.dumps({**spec, "name": name}))
        (network,) = package_android([folder], tmp_path / "app")
        assert (network.folder, network.name) == (directory, name)
        assert (tmp_path / "app" / package.MODELS / directory / "spec.json").exists()


def test_the_zip_holds_the_project_and_nothing_built(project, tmp_path):
    shutil.copytree(project, tmp_path / "app")
    for built in ("app/build/x.apk", ".gradle/y", "local.properties"):
        (tmp_path / "app" / built).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "app" / built).write_text("built")
    with zipfile.ZipFile(zip_project(tmp_path / "app")) as archive:
        held = {name.removeprefix("app/"): archive.read(name) for name in archive.namelist()}
    assert held == contents(project)


# --- bad input --------------------------------------------------------------------------------------------


def edited(exports, folder, change):
    """A copy of an export with its spec.json changed."""
    shutil.copytree(exports / "nano-coco", folder)
    spec = json.loads((folder / "spec.json").read_text())
    change(spec)
    (folder / "spec.json").write_text(json.dumps(spec))
    return folder


def only_onnx(spec):
    spec["formats"] = {"onnx": {"file": "model.onnx", "files": {"model.onnx": {}}}}


def lead_outside(spec):
    files = spec["formats"]["ncnn"]["files"]
    files["../../outside.bin"] = files["model-fp32.bin"]


def damage(folder):
    path = folder / "model-fp32.bin"
    path.write_bytes(path.read_bytes()[:-4] + b"oops")


def test_bad_folders_are_one_sentence_and_nothing_is_written(exports, tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    damaged = edited(exports, tmp_path / "damaged", lambda spec: None)
    damage(damaged)
    cases = [
        ([], "at least one exported network"),
        ([tmp_path / "nowhere"], "has no spec.json"),
        ([edited(exports, tmp_path / "a", only_onnx)], "has no ncnn files.*--to ncnn"),
        ([edited(exports, tmp_path / "b", lead_outside)], "is damaged: .*export the network again"),
        (
            [edited(exports, tmp_path / "c", lambda spec: spec.pop("io"))],
            "is damaged: .*export the network again",
        ),
        ([damaged], r"model-fp32\.bin is missing or differs from spec\.json \(sha256\)"),
        (
            [exports / "nano-coco", edited(exports, tmp_path / "d", lambda spec: None)],
            "two networks are called nano-coco",
        ),
        ([exports / LANDMARKS], "places landmarks and finds no objects: name a detector too"),
        (
            [
                exports / "nano-coco",
                exports / LANDMARKS,
                shutil.copytree(exports / LANDMARKS, tmp_path / "e"),
            ],
            "an app takes one landmark network, not both",
        ),
    ]
    for folders, said in cases:
        with pytest.raises(InputError, match=said):
            package_android(folders, work / "app")
        assert list(work.iterdir()) == []


@pytest.mark.parametrize(
    "package_id",
    [
        *(
            "detector",
            "Org.example.app",
            "org..app",
            "org.2app",
            "org.ex-ample.app",
            "org.app\n",
            "org.app;x",
        ),
        *("", "org.app.", "org.@TITLE@", "org." + "a" * 300, "org.\u0430pp", "org.app\ndetector.x=y"),
    ],
)
def test_a_package_id_that_android_does_not_take(package_id, exports, tmp_path):
    with pytest.raises(InputError, match=r"such as org\.example\.detector, not"):
        package_android([exports / "nano-coco"], tmp_path / "app", package_id=package_id)


@pytest.mark.parametrize(
    "name", ["", "  ", "two\nlines", "\x1b[31m", "a\0b", "\u202eb", "\udc80", "\u200d", "x" * 101]
)
def test_a_name_that_is_none(name, exports, tmp_path):
    with pytest.raises(InputError, match="one line of text"):
        package_android([exports / "nano-coco"], tmp_path / "app", name)


def test_another_folder_is_never_replaced(exports, tmp_path):
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="exists and is not a packaged app: name another folder"):
        package_android([exports / "nano-coco"], tmp_path / "app")
    assert (tmp_path / "app" / "mine.txt").read_text() == "mine"


def test_the_command(exports, tmp_path):
    words = [sys.executable, "-m", "toolkit.cli", "package", "--android", "--json", "--zip"]
    words += [f"--model={exports / name}" for name in ("nano-coco", "nano-voc", LANDMARKS)]
    answer = json.loads(run(*words, f"--output={tmp_path / 'app'}"))
    assert [(m["name"], m["classes"], m["points"]) for m in answer["models"]] == [
        ("nano-coco", 80, 0),
        ("nano-voc", 20, 0),
        (LANDMARKS, 0, 106),
    ]
    assert Path(answer["zip"]).exists()
    environment = {k: v for k, v in os.environ.items() if k not in ("ANDROID_HOME", "ANDROID_SDK_ROOT")}
    failed = subprocess.run(
        [*words, f"--output={tmp_path / 'other'}", "--build"], capture_output=True, text=True, env=environment
    )
    assert failed.returncode == 2
    assert "ANDROID_HOME names none" in failed.stderr
    assert len(failed.stderr.splitlines()) == 1
    assert not (tmp_path / "other").exists()


def test_an_sdk_and_what_it_lacks(tmp_path, monkeypatch):
    monkeypatch.delenv("ANDROID_HOME", raising=False)
    monkeypatch.setenv("ANDROID_SDK_ROOT", str(tmp_path))
    for part in package.SDK_PARTS[:-1]:
        (tmp_path / part.replace(";", "/")).mkdir(parents=True)
    with pytest.raises(InputError, match=r"lacks cmake;3\.31\.6: run sdkmanager"):
        find_sdk()
    (tmp_path / package.SDK_PARTS[-1].replace(";", "/")).mkdir(parents=True)
    assert find_sdk() == tmp_path


def test_gradle_is_run_in_the_project_and_its_last_word_is_told(tmp_path, monkeypatch):
    """Gradle itself cannot run here: a script with its name shows what it would be asked."""
    for part in package.SDK_PARTS:
        (tmp_path / "sdk" / part.replace(";", "/")).mkdir(parents=True)
    monkeypatch.setenv("ANDROID_HOME", str(tmp_path / "sdk"))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    project = tmp_path / "app"
    project.mkdir()
    with pytest.raises(InputError, match="needs Gradle 8.12 on the PATH"):
        build_apk(project)
    gradle = project / "gradlew"
    gradle.write_text('#!/bin/sh\necho "$PWD $ANDROID_HOME $*"\nexit 1\n')
    gradle.chmod(0o755)
    said = f"{project} {tmp_path / 'sdk'} --no-daemon --console=plain assembleDebug"
    with pytest.raises(InputError, match=re.escape(said)):
        build_apk(project)
    made = "app/build/outputs/apk/debug"
    gradle.write_text(f"#!/bin/sh\nmkdir -p {made}\necho > {made}/app-debug.apk\n")
    assert build_apk(project).name == "app-debug.apk"


# --- resources and Java -----------------------------------------------------------------------------------


def compile_resources(project, folder):
    """Through aapt2, with the package that the Android Gradle plugin would add -> (APK, folder of R.java)."""
    manifest = (project / SOURCES / "AndroidManifest.xml").read_text()
    namespace = re.search(r"namespace '(.*)'", (project / "app/build.gradle").read_text())[1]
    (folder / "manifest.xml").write_text(manifest.replace("<manifest", f'<manifest package="{namespace}"', 1))
    run("aapt2", "compile", "--dir", project / SOURCES / "res", "-o", folder / "res.zip")
    link = ["aapt2", "link", "-I", FRAMEWORK, "--manifest", folder / "manifest.xml", "-o", folder / "res.apk"]
    link += ["--java", folder / "r", "-A", project / SOURCES / "assets"]
    run(*link, "--min-sdk-version", "24", "--target-sdk-version", "35", folder / "res.zip")
    return folder / "res.apk", folder / "r"


@pytest.fixture(scope="module")
def resources(project, tmp_path_factory):
    needs("aapt2", FRAMEWORK)
    return compile_resources(project, tmp_path_factory.mktemp("resources"))


def test_manifest_and_resources_pass_aapt2(resources, project):
    badging = run("aapt2", "dump", "badging", resources[0])
    for line in (
        "uses-permission: name='android.permission.CAMERA'",
        "launchable-activity: name='toolkit.app.MainActivity'",
        "uses-feature-not-required: name='android.hardware.camera.any'",
        "application-label:'Detector'",
    ):
        assert line in badging
    with zipfile.ZipFile(resources[0]) as archive:
        names = set(archive.namelist())
    held = {
        str(p.relative_to(project / SOURCES)) for p in (project / package.MODELS).rglob("*") if p.is_file()
    }
    assert held <= names  # aapt leaves some names out


def test_every_xml_file_is_well_formed(project):
    files = list(project.rglob("*.xml"))
    assert len(files) >= 5
    for file in files:
        ElementTree.parse(file)


@pytest.fixture(scope="module")
def classes(project, resources, tmp_path_factory):
    """The whole app compiled, with the headers of its native methods in `headers`."""
    needs("javac", JSON)
    folder = tmp_path_factory.mktemp("java")
    _, *sections = (HERE / "api.txt").read_text().split("\n=== ")
    for section in sections:
        name, body = section.split("\n", 1)
        path = folder / "stubs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"package {str(Path(name).parent).replace('/', '.')};\n{body}")
    run("javac", "--release", "8", "-d", folder / "android", *(folder / "stubs").rglob("*.java"))
    # Java 8 is what Android 7 knows of java.*; headers for the classes with native methods alone
    strict = ["javac", "--release", "8", "-Xlint:all,-options", "-Werror", "-h", folder / "headers"]
    strict += ["-cp", f"{folder / 'android'}:{JSON}", "-d", folder / "app"]
    run(*strict, *(project / SOURCES / "java").rglob("*.java"), *resources[1].rglob("*.java"))
    run("javac", "-cp", f"{folder / 'app'}:{JSON}", "-d", folder / "app", HERE / "Harness.java")
    return folder


def test_all_of_the_app_compiles(classes):
    made = {path.name for path in (classes / "app/toolkit/app").glob("*.class")}
    assert {"MainActivity.class", "Camera.class", "PictureView.class", "Core.class"} <= made


# --- the core ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def library(project):
    """libdetector.so by the app's own CMakeLists.txt for this computer, kept between runs.

    Narrow vectors and little optimisation make ncnn build in a minute and change no result.
    """
    needs("javac", "cmake", "ninja", "c++")
    java = Path(shutil.which("javac")).resolve().parents[1] / "include"
    folder = build.cache() / "android-on-host"
    for source in (project / package.CPP).iterdir():
        target = folder / "cpp" / source.name
        if not target.exists() or target.read_bytes() != source.read_bytes():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    words = ["cmake", "-S", folder / "cpp", "-B", folder / "build", "-G", "Ninja"]
    words += [f"-DFETCHCONTENT_SOURCE_DIR_NCNN={build.ncnn_source()}", "-DNCNN_RUNTIME_CPU=OFF"]
    words += [f"-DNCNN_{part}=OFF" for part in ("AVX", "AVX2", "AVX512", "BF16")]
    words += [f"-DCMAKE_CXX_FLAGS=-I{java} -I{java / 'linux'}", "-DCMAKE_CXX_FLAGS_RELEASE=-O1 -DNDEBUG"]
    run(*words)
    run("cmake", "--build", folder / "build", "-j2")
    return folder / "build" / "libdetector.so"


@pytest.fixture(scope="module")
def java(classes, library, tmp_path_factory):
    """jobs -> answers of the Android-free part of the app in a JVM that checks every native call."""

    def ask(*jobs):
        file = tmp_path_factory.mktemp("jobs") / "jobs.json"
        file.write_text(json.dumps(jobs))
        words = ["java", "-Xcheck:jni", f"-Djava.library.path={library.parent}"]
        out = run(*words, "-cp", f"{classes / 'app'}:{JSON}", "toolkit.app.Harness", file)
        assert out.startswith("[{"), out  # warnings of -Xcheck would stand before
        return json.loads(out)

    return ask


def test_every_native_method_is_in_the_library_with_its_signature(classes, library, project):
    (header,) = (classes / "headers").glob("*Core.h")
    declared = set(re.findall(r"Java_\w+", header.read_text()))
    names = run("nm", "-D", "--defined-only", library).split()
    assert declared == {name for name in names if name.startswith("Java_")}
    assert len(declared) == 9
    java = Path(shutil.which("javac")).resolve().parents[1] / "include"
    ncnn = build.ncnn_source()
    made = library.parent / "_deps/ncnn-build/src"
    words = [
        "c++",
        "-std=c++17",
        "-fsyntax-only",
        "-Wall",
        "-Wextra",
        "-Werror",
        '-DTOOLKIT_THREADS="libgomp"',
    ]
    words += [f"-I{path}" for path in (java, java / "linux", ncnn / "src", made)]
    # extern "C" functions of one name and two signatures do not compile
    run(*words, "-include", header, project / package.CPP / "jni.cpp")


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    """(RGB, job): two photographs beside each other, with their RGBA bytes in a file."""
    pictures = photographs()
    parts = [cv2.resize(pictures[name], (400, 480)) for name in ("astronaut", "motorcycle")]
    rgb = np.ascontiguousarray(np.hstack(parts))
    file = tmp_path_factory.mktemp("picture") / "picture.rgba"
    np.dstack([rgb, np.full(rgb.shape[:2], 255, np.uint8)]).tofile(file)
    return rgb, {"rgba": str(file), "width": rgb.shape[1], "height": rgb.shape[0], "iou": 0.45, "threads": 1}


def in_python(folder, fmt, rgb, conf):
    """(K, 6) of the ncnn wheel on the same bytes resized by ncnn: xyxy px, score, class."""
    opened = open_export(folder, fmt, threads=1)
    x, placement = ncnn_input(rgb, opened.io)
    (found,) = decode(opened.predict(x[None]), opened.io, conf)
    kept = suppress(found, DetectSettings(conf=conf))
    return np.column_stack([placement.to_image(kept.boxes), kept.scores, kept.class_ids])


@pytest.mark.parametrize(("name", "fmt"), RUNS)
def test_the_detections_of_python(name, fmt, java, project, exports, picture):
    rgb, job = picture
    wanted = in_python(exports / name, fmt, rgb, 0.2)
    assert len(wanted)
    job = {**job, "kind": "detect", "assets": str(project / SOURCES / "assets"), "model": name}
    (answer,) = java({**job, "format": fmt, "conf": 0.2})
    found = table(answer)[:, :6]
    size = [rgb.shape[1], rgb.shape[0]] * 2
    tolerance = 1e-4 if fmt == "ncnn" else 0.04
    assert all(step > 0 for step in answer["milliseconds"][:3])
    assert matched(found, wanted, size, tolerance) == len(wanted) == len(found)


@pytest.fixture(scope="module")
def of_every_kind(tmp_path_factory):
    """The exported small networks, and the assets of an app that has them all."""
    root = tmp_path_factory.mktemp("kinds")
    for kind in KINDS:
        export_model(small(kind), root / kind, ["ncnn"], name=kind.replace(" ", "-"))
    package_android([root / kind for kind in KINDS], root / "app")
    return root, root / "app" / SOURCES / "assets"


@pytest.mark.parametrize("kind", KINDS)
def test_the_networks_own_fit_colours_and_heads(kind, java, of_every_kind, tmp_path):
    """A camera's picture lies on its side and is turned first; boxes are in pixels of what is shown."""
    root, assets = of_every_kind
    model = {"assets": str(assets), "model": kind.replace(" ", "-"), "format": "ncnn", "threads": 1}
    for name, image in wide_and_tall().items():
        lying = np.rot90(image, 1)  # which EXIF's 6 turns back
        height, width = lying.shape[:2]
        np.dstack([lying, np.full(lying.shape[:2], 255, np.uint8)]).tofile(tmp_path / name)
        sides = {"width": width, "height": height, "step": 4 * width, "orientation": 6}
        turned = str(tmp_path / f"{name}.upright")
        wheel = Wheel(root / kind, "ncnn", image)
        conf = wheel.conf()
        upright = {**model, "rgba": turned, "width": height, "height": width, "conf": conf, "iou": 0.45}
        _, seen, timed = java(
            {"kind": "turn", "rgba": str(tmp_path / name), "output": turned, **sides},
            {**upright, "kind": "detect"},
            {**upright, "kind": "bench"},
        )
        found, size = table(seen), [image.shape[1], image.shape[0]] * 2
        names = np.array(wheel.io.classes)[found[:, 5].astype(int)]
        assert_equal(Found(found[:, :4] / size, found[:, 4], names), wheel.found(conf))
        boxes = [row["box"] for row in read_reading(timed, "the app").as_dict()["detections"]]
        np.testing.assert_allclose(boxes, found[:, :4], atol=1e-2)


def table(answer):
    """The rows of a detection, (K, 6 + 2 points)."""
    return np.array(answer["rows"], float).reshape(-1, 6 + 2 * answer["points"])


@pytest.mark.parametrize("fmt", NETWORKS["yoloface-500k-v2"])
def test_the_landmarks_of_python(fmt, java, project, exports, picture):
    """The landmark network has float32 alone and takes part at every precision."""
    rgb, job = picture
    job = {**job, "assets": str(project / SOURCES / "assets"), "model": "yoloface-500k-v2", "format": fmt}
    seen, timed = java({**job, "kind": "detect", "conf": 0.2}, {**job, "kind": "bench", "conf": 0.2})
    rows = table(seen)
    assert seen["points"] == 106
    assert seen["milliseconds"][3] > 0
    points, sizes = wheel_points(rgb, rows[:, :4], open_export(exports / LANDMARKS, "ncnn", threads=1))
    found = rows[:, 6:].reshape(-1, 106, 2)
    assert len(found)
    assert (np.abs(found - points) / sizes).max() < 1e-4
    assert timed["landmarks"]["name"] == LANDMARKS
    assert timed["landmarks"]["format"] == "ncnn"
    assert len(timed["samples"]["landmarks_ms"]) == 50
    assert "landmarks" in timed["first_ms"]
    np.testing.assert_allclose([row["landmarks"] for row in timed["detections"]], found, atol=1e-3)
    read_reading(timed, "the app")


def test_of_several_classes_faces_alone_get_landmarks(java, exports, picture, tmp_path):
    def rename(spec):
        classes = spec["io"]["classes"]
        classes[classes.index("person")] = "face"

    folders = [edited(exports, tmp_path / "faces", rename), exports / LANDMARKS]
    package_android(folders, tmp_path / "app")
    _, job = picture
    job = {**job, "kind": "detect", "model": "nano-coco", "format": "ncnn", "conf": 0.2}
    (answer,) = java({**job, "assets": str(tmp_path / "app" / SOURCES / "assets")})
    rows = table(answer)
    faces = rows[:, 5] == open_export(exports / "nano-coco").io.classes.index("person")
    assert faces.any()
    assert not faces.all()
    assert np.isfinite(rows[faces]).all()
    assert np.isnan(rows[~faces][:, 6:]).all()


def matched(found, wanted, size, tolerance):
    """How many of `wanted` have a counterpart of their class: score and relative box within the tolerance."""
    left = list(found)
    count = 0
    for row in wanted:
        near = [
            i
            for i, other in enumerate(left)
            if other[5] == row[5] and np.abs((other[:5] - row[:5]) / [*size, 1]).max() <= tolerance
        ]
        if near:
            left.pop(near[0])
            count += 1
    return count


def test_sliders_reach_the_core(java, project, picture):
    """A higher threshold leaves out what is below it; suppression at 1 keeps what 0.45 takes."""
    _, job = picture
    assets = str(project / SOURCES / "assets")
    job = {**job, "kind": "detect", "assets": assets, "model": "nano-coco", "format": "ncnn"}
    low, high, loose = java({**job, "conf": 0.05}, {**job, "conf": 0.5}, {**job, "conf": 0.05, "iou": 1.0})
    low, high, loose = (table(answer) for answer in (low, high, loose))
    np.testing.assert_allclose(high, low[low[:, 4] > 0.5], atol=1e-3)
    assert len(high) < len(low) < len(loose)


def test_everything_about_a_network_comes_from_its_spec(java, project, exports):
    (answer,) = java({"kind": "list", "assets": str(project / SOURCES / "assets")})
    for row in answer["models"]:
        spec = json.loads((exports / row["name"] / "spec.json").read_text())
        assert row["classes"] == spec["io"]["classes"]
        assert row["threshold"] == pytest.approx(spec["threshold"])


def upright(image, orientation):
    """EXIF's orientations in numpy."""
    turned = {
        1: image,
        2: image[:, ::-1],
        3: image[::-1, ::-1],
        4: image[::-1],
        5: image.transpose(1, 0, 2),
        6: np.rot90(image, -1),
        7: image[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(image, 1),
    }
    return turned[orientation]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_stand_upright(orientation, java, tmp_path):
    """Rows with a gap behind them, as bitmaps may have."""
    rgba = np.random.default_rng(orientation).integers(0, 256, (5, 8, 4), np.uint8)
    rgba[:, 7] = 77
    rgba.tofile(tmp_path / "in")
    job = {"kind": "turn", "rgba": str(tmp_path / "in"), "output": str(tmp_path / "out")}
    (answer,) = java({**job, "width": 7, "height": 5, "step": 32, "orientation": orientation})
    out = np.fromfile(tmp_path / "out", np.uint8).reshape(answer["height"], answer["width"], 4)
    np.testing.assert_array_equal(out, upright(rgba[:, :7], orientation))


@pytest.mark.parametrize(("orientation", "step"), [(1, 1), (6, 2), (5, 2), (3, 1)])
def test_camera_frames_become_upright_rgb(orientation, step, java, tmp_path):
    """Planes and interleaved colours, rows with a gap; OpenCV's full-range YCrCb is the same arithmetic."""
    rng = np.random.default_rng(step)
    width, height = 14, 10
    y = rng.integers(0, 256, (height, width + 3), np.uint8)
    uv = rng.integers(0, 256, (2, height // 2, width // 2), np.uint8)
    chroma = np.zeros((2, height // 2, step * (width // 2) + 2), np.uint8)
    chroma[:, :, : step * (width // 2) : step] = uv
    for name, plane in (("y", y), ("u", chroma[0]), ("v", chroma[1])):
        plane.tofile(tmp_path / name)
    files = {name: str(tmp_path / name) for name in "yuv"}
    job = {"kind": "frame", **files, "output": str(tmp_path / "out"), "width": width, "height": height}
    job |= {"rowStep": y.shape[1], "chromaRowStep": chroma.shape[2], "chromaPixelStep": step}
    (answer,) = java({**job, "orientation": orientation})
    out = np.fromfile(tmp_path / "out", np.uint8).reshape(answer["height"], answer["width"], 4)
    full = uv.repeat(2, axis=1).repeat(2, axis=2)
    wanted = cv2.cvtColor(np.dstack([y[:, :width], full[1], full[0]]), cv2.COLOR_YCrCb2RGB)
    np.testing.assert_allclose(out[..., :3].astype(int), upright(wanted, orientation).astype(int), atol=1)
    assert (out[..., 3] == 255).all()


def test_how_a_frame_has_to_be_turned(java):
    """A phone's sensors lie on their side, 90 degrees at the back and 270 at the front."""
    cases = {
        (90, 0, False): 6,  # upright
        (90, 90, False): 1,  # on its left side, as the sensor
        (90, 270, False): 3,
        (90, 180, False): 8,
        (270, 0, True): 7,
        (270, 90, True): 2,  # 360: only mirrored
        (270, 270, True): 4,
        (0, 0, False): 1,  # a tablet
    }
    jobs = [{"kind": "orientation", "sensor": s, "display": d, "front": f} for s, d, f in cases]
    assert [answer["exif"] for answer in java(*jobs)] == list(cases.values())


def test_a_reading_of_the_app_is_imported_as_one_of_the_runner(java, project, exports, picture, tmp_path):
    rgb, job = picture
    job = {**job, "kind": "bench", "assets": str(project / SOURCES / "assets"), "conf": 0.2}
    (reading,) = java({**job, "model": "nano-voc", "format": "ncnn-fp16", "threads": 2})
    assert (reading["schema"], reading["kind"]) == (1, "bench")
    spec = json.loads((exports / "nano-voc" / "spec.json").read_text())
    hashes = {file: facts["sha256"] for file, facts in spec["formats"]["ncnn-fp16"]["files"].items()}
    assert reading["model"] == {"name": "nano-voc", "format": "ncnn-fp16", "sha256": hashes}
    settings = reading["settings"]
    assert settings["run_as"] == "app"
    assert (settings["threads"], settings["precision"], settings["vulkan"]) == (2, "fp16", False)
    assert reading["runtime"]["ncnn"] == build.NCNN_VERSION
    samples = reading["samples"]
    assert {len(values) for values in samples.values()} == {50}
    assert samples["start_ms"][0] == 0
    assert samples["start_ms"] == sorted(samples["start_ms"])
    assert min(samples["inference_ms"]) > 0
    assert set(reading["first_ms"]) == {"preprocess", "inference", "postprocess"}
    assert "landmarks" not in reading  # none of its classes is a face
    assert 0 < reading["rss_kb"]["start"] <= reading["rss_kb"]["peak"]
    wanted = in_python(exports / "nano-voc", "ncnn-fp16", rgb, 0.2)
    assert len(reading["detections"]) == len(wanted)
    file = tmp_path / "reading.json"
    file.write_text(json.dumps({**reading, "device": {"model": "A phone"}, "date": "2026-11-23T12:00:00Z"}))
    assert import_readings([file], exports) == {exports / "nano-voc": 1}
    (kept,) = read_timings(exports / "nano-voc")
    assert (kept.machine, kept.samples.inference_ms) == ("A phone", samples["inference_ms"])


def test_bad_buffers_and_networks_are_exceptions_with_a_sentence(java, project, exports, picture, tmp_path):
    _, job = picture
    assets = project / SOURCES / "assets"
    job = {
        **job,
        "kind": "detect",
        "assets": str(assets),
        "model": "nano-coco",
        "format": "ncnn",
        "conf": 0.2,
    }
    models = package.MODELS.relative_to(Path(SOURCES) / "assets")
    broken = {"cut": lambda b: b[:-1000], "long": lambda b: b + b"1234"}
    jobs = [{**job, "width": job["width"] + 1}, {**job, "width": 0}]
    for name, change in broken.items():
        shutil.copytree(assets, tmp_path / name)
        file = tmp_path / name / models / "nano-coco" / "model-fp32.bin"
        file.write_bytes(change(file.read_bytes()))
        jobs.append({**job, "assets": str(tmp_path / name)})
    newer = shutil.copytree(assets, tmp_path / "newer") / models / "nano-coco" / "spec.json"
    spec = json.loads(newer.read_text())
    newer.write_text(json.dumps({**spec, "io": {**spec["io"], "fit": "crop"}}))
    jobs.append({**job, "assets": str(tmp_path / "newer")})
    said = [answer.get("error", "") for answer in java(*jobs)]
    assert "expected a direct buffer of at least" in said[0]
    assert "a width and a height above 0" in said[1]
    assert all("it is damaged or does not belong to its .bin" in sentence for sentence in said[2:4])
    assert "fit is crop, and this program knows stretch, letterbox" in said[4]
