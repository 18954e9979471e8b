"""Where sources and compilers come from, what is built, and what is said where something is missing."""

import http.server
import importlib.util
import io
import json
import os
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import pytest

from toolkit.device import build
from toolkit.device.build import ABIS, LAYERS, build_runner, cache, compiler_for, layers_of, ncnn_source
from toolkit.export.ncnn import _read as layers_in
from toolkit.runtime import InputError


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    zig = cache() / "zig"  # what zig compiles for itself takes minutes
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("NCNN_SOURCE", raising=False)
    cache().mkdir(parents=True)
    zig.mkdir(parents=True, exist_ok=True)
    (cache() / "zig").symlink_to(zig)
    return cache()


def left_over(folder: Path) -> list[str]:
    """What stands in the cache but for locks, logs and zig's own things."""
    return [p.name for p in folder.iterdir() if p.suffix not in (".lock", ".log") and p.name != "zig"]


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A package index on loopback that serves what is put into the folder."""
    folder = tmp_path / "index"
    (folder / "ncnn").mkdir(parents=True)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(folder))

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield folder
        server.shutdown()


ARCHIVE = f"ncnn-{build.NCNN_VERSION}.tar.gz"


def serve(index: Path, members: dict[str, bytes]) -> bytes:
    """An archive with these members on the index' page of ncnn; -> its bytes."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    (index / "ncnn" / ARCHIVE).write_bytes(packed.getvalue())
    (index / "ncnn" / "index.html").write_text(f'<a href="./{ARCHIVE}#sha256=0">{ARCHIVE}</a>')
    return packed.getvalue()


def test_the_zoo_needs_the_base_layers_alone(exported_once, zoo):
    assert layers_of([exported_once]) == LAYERS
    landmarks = zoo / "landmark106" / "ncnn" / "landmark106.param"
    assert {kind for kind, *_ in layers_in(landmarks)} <= LAYERS


def test_layers_of_another_network(network):
    param = network / "model-fp16.param"
    param.write_text(param.read_text() + "LSTM more 1 1 out0 out1 0=8\n")
    assert layers_of([network]) == LAYERS | {"LSTM"}


def test_folders_without_layers(network, tmp_path):
    with pytest.raises(InputError, match="no spec.json"):
        layers_of([tmp_path])
    spec = json.loads((network / "spec.json").read_text())
    (network / "model-fp32.param").unlink()
    with pytest.raises(InputError, match="no readable model-fp32.param"):
        layers_of([network])
    spec["formats"] = {"onnx": {"file": "model.onnx", "files": {"model.onnx": {}}}}
    (network / "spec.json").write_text(json.dumps(spec))
    with pytest.raises(InputError, match="no ncnn format: export the network"):
        layers_of([network])


def test_the_source_from_an_index(index, empty_cache, monkeypatch):
    packed = serve(index, {f"ncnn-{build.NCNN_VERSION}/src/net.cpp": b"net"})
    monkeypatch.setattr(build, "NCNN_SHA256", build.hashlib.sha256(packed).hexdigest())
    source = ncnn_source()
    assert (source / "src" / "net.cpp").read_bytes() == b"net"
    (index / "ncnn" / ARCHIVE).unlink()
    assert ncnn_source() == source  # without the index


def test_an_archive_that_differs(index, empty_cache):
    serve(index, {f"ncnn-{build.NCNN_VERSION}/src/net.cpp": b"other"})
    with pytest.raises(InputError, match="is not the expected file"):
        ncnn_source()
    assert left_over(empty_cache) == []


def test_an_archive_that_leads_out_of_its_folder(index, empty_cache, monkeypatch):
    packed = serve(index, {"../../outside": b"x"})
    monkeypatch.setattr(build, "NCNN_SHA256", build.hashlib.sha256(packed).hexdigest())
    with pytest.raises(tarfile.OutsideDestinationError):
        ncnn_source()
    assert left_over(empty_cache) == []


def test_an_index_without_ncnn(index, empty_cache):
    (index / "ncnn" / "index.html").write_text("<a href='x'>another</a>")
    with pytest.raises(InputError, match=f"has no {ARCHIVE}: name another index"):
        ncnn_source()


def test_no_network(empty_cache, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    with pytest.raises(InputError, match="connect to a network, or let NCNN_SOURCE"):
        ncnn_source()
    assert left_over(empty_cache) == []


def test_a_source_that_is_none(tmp_path, monkeypatch):
    monkeypatch.setenv("NCNN_SOURCE", str(tmp_path))
    with pytest.raises(InputError, match="holds no source of ncnn"):
        ncnn_source()


def test_unknown_abi():
    with pytest.raises(InputError, match="unknown ABI 'mips': known are arm64-v8a"):
        build_runner("mips")


def test_no_compiler(monkeypatch):
    monkeypatch.setitem(sys.modules, "ziglang", None)
    with pytest.raises(InputError, match=r"'ziglang', which is not installed: run pip install -e"):
        build_runner("arm64-v8a", ndk=False)


@pytest.mark.parametrize("tool", ["cmake", "ninja"])
def test_no_build_tool(tool, empty_cache, tmp_path, monkeypatch):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "net.cpp").touch()
    monkeypatch.setenv("NCNN_SOURCE", str(tmp_path))
    found = build.shutil.which
    monkeypatch.setattr(
        build.shutil, "which", lambda name, path=None: None if name == tool else found(name, path=path)
    )
    with pytest.raises(InputError, match=f"the build needs {tool}"):
        build_runner("x86_64")
    assert left_over(empty_cache) == []


def test_a_folder_that_is_no_ndk(tmp_path, monkeypatch):
    monkeypatch.setenv("ANDROID_NDK", str(tmp_path))
    with pytest.raises(InputError, match="is not an Android NDK: expected build/cmake"):
        compiler_for("arm64-v8a")
    assert compiler_for("arm64-v8a", ndk=False).threads == "own"
    assert compiler_for("x86_64").threads == "own"


def test_a_build_that_fails(empty_cache, tmp_path, monkeypatch):
    """A layer that ncnn has not: CMake says so, the log is named, nothing is left."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "net.cpp").touch()
    (tmp_path / "src" / "CMakeLists.txt").write_text("ncnn_add_layer(Input)\n")
    monkeypatch.setenv("NCNN_SOURCE", str(tmp_path))
    with pytest.raises(
        InputError, match=r"ncnn-x86_64 does not build: .*no layer Fancy \(all in .*ncnn-x86_64.log"
    ):
        build_runner("x86_64", {"Input", "Fancy"})
    assert "ncnn has no layer Fancy" in (empty_cache / "ncnn-x86_64.log").read_text()
    assert left_over(empty_cache) == []


def test_several_processes_make_it_once(tmp_path, empty_cache):
    program = (
        "import sys, time\n"
        "from toolkit.device.build import kept\n"
        "def make(folder, work):\n"
        "    with open(sys.argv[1], 'a') as log: log.write('made ')\n"
        "    time.sleep(0.5)\n"
        "    (folder / 'runner').write_text('whole')\n"
        "print((kept('thing', make) / 'runner').read_text())\n"
    )
    command = [sys.executable, "-c", program, tmp_path / "log"]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [process.communicate(timeout=120)[0] for process in started] == ["whole\n"] * 3
    assert (tmp_path / "log").read_text() == "made "
    assert left_over(empty_cache) == ["thing"]


def test_a_killed_build_goes_on_where_it_was(tmp_path, empty_cache):
    program = (
        "import sys, time\n"
        "from toolkit.device.build import kept\n"
        "def make(folder, work):\n"
        "    done = (work / 'half').exists()\n"
        "    (work / 'half').touch()\n"
        "    print('half', flush=True)\n"
        "    time.sleep(0 if done else 100)\n"
        "    (folder / 'runner').write_text('whole')\n"
        "print((kept('thing', make, resumes=True) / 'runner').read_text())\n"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout.readline() == "half\n"
        first.kill()
    assert left_over(empty_cache) != []
    second = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=60)
    assert second.stdout == "half\nwhole\n"
    assert left_over(empty_cache) == ["thing"]


@pytest.fixture(scope="module")
def zig():
    path = build.RUNNER / "ncnn" / "zig.py"
    spec = importlib.util.spec_from_file_location("zig", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("word", "translated"),
    [
        ("-O3", ["-O3"]),
        ("-march=armv8-a", ["-mcpu=generic+v8a"]),
        ("-march=armv8.2-a+fp16", ["-mcpu=generic+v8_2a+fullfp16"]),
        ("-march=armv8.4-a+fp16+dotprod+i8mm", ["-mcpu=generic+v8_4a+fullfp16+dotprod+i8mm"]),
        ("-mfpu=neon-vfpv4", []),
        ("-mno-outline-atomics", []),
        ("-mavx512f", ["-mavx512f"]),
    ],
)
def test_words_for_zig(word, translated, zig):
    assert zig.translate(word) == translated


def test_the_runners_are_static(runners):
    """An ELF file without an interpreter needs no library of the system."""
    for abi in ABIS:
        content = runners[abi].read_bytes()
        assert content[:4] == b"\x7fELF"
        assert os.access(runners[abi], os.X_OK)
        listed = subprocess.run(
            ["readelf", "--program-headers", runners[abi]], capture_output=True, text=True, check=True
        )
        assert "INTERP" not in listed.stdout
        assert len(content) < 12e6
