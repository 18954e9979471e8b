"""The timing runner for phones and boards, compiled on this machine with what pip installs."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin, urlparse

from toolkit.export.folder import Exported
from toolkit.export.registry import FORMATS
from toolkit.files import locked, temporary_folder, whole_folder
from toolkit.machine import allowed_cores, cache_folder
from toolkit.runtime import InputError, progress, require
from toolkit.text import short

NCNN_VERSION = "1.0.20261020"
NCNN_SHA256 = "ad8cdd63e9755cfa8e23b9b6d9ce46156077d80298a89e7c3ba325ffccfca200"
RUNNER = Path(__file__).parent / "runner"
SHARED = RUNNER.parents[1] / "export" / "cpp"  # the headers of the C++ sample


@dataclass(frozen=True)
class Target:
    """How a compiler calls the machines of an Android ABI."""

    zig: str
    processor: str
    flags: str = ""


ABIS = {
    "arm64-v8a": Target("aarch64-linux-musl", "aarch64"),
    "armeabi-v7a": Target("arm-linux-musleabihf", "armv7-a", "-mcpu=cortex_a7"),
    "x86_64": Target("x86_64-linux-musl", "x86_64"),
}
# What the networks of the zoo and landmark106 consist of, activations that a cfg may have, and what ncnn
# creates by itself. One cached runner serves them all.
LAYERS = frozenset(
    "Input Split Convolution ConvolutionDepthWise InnerProduct Pooling BinaryOp Concat Interp Eltwise Scale "
    "BatchNorm PReLU ReLU Clip Sigmoid TanH ELU SELU Mish Swish HardSigmoid HardSwish UnaryOp "
    "Flatten Reshape Crop Bias Packing Padding Cast Quantize Dequantize Requantize Gemm".split()
)


def layers_of(folders: Iterable[str | Path]) -> frozenset[str]:
    """ncnn's layers that a runner needs for these exported networks: `LAYERS`, and what else their .param
    files name. Raises InputError where a folder holds no export or no ncnn format."""
    layers = set(LAYERS)
    for folder in folders:
        params = [FORMATS[fmt].file for fmt in Exported.read(folder).of_engine("ncnn")]
        if not params:
            raise InputError(f"{folder} has no ncnn format: export the network with --to ncnn")
        for name in params:
            try:
                lines = (Path(folder) / name).read_text().splitlines()[2:]
            except (OSError, UnicodeDecodeError):
                raise InputError(f"{folder} has no readable {name}: export the network again") from None
            kinds = {line.split()[0] for line in lines if line.strip()}
            if odd := [kind for kind in kinds if not re.fullmatch(r"[A-Za-z0-9_]{1,60}", kind)]:
                # they become words of CMake's files
                raise InputError(
                    f"{Path(folder) / name} names a layer {short(odd[0])}: export the network again"
                )
            layers.update(kinds)
    return frozenset(layers)


def cache() -> Path:
    """The folder for sources, compilers' caches and finished runners: device/ in the user's cache."""
    return cache_folder() / "device"


def package_index() -> str:
    """The address of the package index that pip is configured for, PyPI unless it is told otherwise."""
    address = os.environ.get("PIP_INDEX_URL", "")
    if not address:
        ask = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
        run = subprocess.run(ask, capture_output=True, text=True)
        address = run.stdout.strip() if run.returncode == 0 else ""
    return (address or "https://pypi.org/simple").rstrip("/") + "/"


def ncnn_source() -> Path:
    """The folder with ncnn's source, downloaded once from the package index, checked by its sha256 and mended
    (mend_ncnn.cmake); NCNN_SOURCE names an unpacked one to use instead, as it is. Raises InputError where it
    cannot be had."""
    own_source = os.environ.get("NCNN_SOURCE")
    if own_source:
        if not (Path(own_source) / "src" / "net.cpp").is_file():
            raise InputError(f"NCNN_SOURCE={own_source} holds no source of ncnn: expected src/net.cpp in it")
        return Path(own_source).resolve()
    name = f"ncnn-{NCNN_VERSION}"

    def make(folder: Path, work: Path) -> None:
        with tarfile.open(_download(f"{name}.tar.gz", work)) as archive:
            # refuses paths that lead out of the folder, from Python 3.11.4 on; the sha256 was compared before
            archive.extraction_filter = getattr(tarfile, "data_filter", lambda member, path: member)
            archive.extractall(work)
        mend = [_tool("cmake"), f"-DNCNN_SOURCE={work / name}", "-P", str(SHARED / "mend_ncnn.cmake")]
        subprocess.run(mend, check=True, capture_output=True)
        for path in (work / name).iterdir():
            shutil.move(path, folder / path.name)

    return kept(f"{name}-mended", make)


def _download(file: str, folder: Path) -> Path:
    """`file`, which the package index lists on ncnn's page. Raises InputError where it cannot be had."""
    import requests

    page = urljoin(package_index(), "ncnn/")
    remedy = "connect to a network, or let NCNN_SOURCE name a folder that has it"
    try:
        answer = requests.get(page, timeout=30, headers={"Accept": "text/html"})
        answer.raise_for_status()
    except requests.exceptions.RequestException as error:
        raise InputError(f"cannot download {page} ({type(error).__name__}): {remedy}") from None
    link = re.search(rf'href="([^"#]*{re.escape(file)})["#]', answer.text)
    if not link:
        raise InputError(f"{page} has no {file}: name another index by PIP_INDEX_URL, or set NCNN_SOURCE")
    return downloaded(urljoin(answer.url, link[1]), NCNN_SHA256, folder, remedy)


def downloaded(url: str, sha256: str, folder: Path, remedy: str) -> Path:
    """The file at an address, in a folder. InputError, with what to do, where it cannot be had or has another
    sha256."""
    import pooch
    import requests

    pooch.get_logger().setLevel("WARNING")  # what is downloaded is said here
    print(f"downloading {url}", file=sys.stderr)
    name = Path(urlparse(url).path).name
    get = pooch.HTTPDownloader(timeout=30)
    try:
        return Path(pooch.retrieve(url, f"sha256:{sha256}", name, folder, downloader=get))
    except (requests.exceptions.RequestException, OSError) as error:
        raise InputError(f"cannot download {url} ({type(error).__name__}): {remedy}") from None
    except ValueError:
        raise InputError(f"{url} is not the expected file (sha256): try again") from None


@dataclass(frozen=True)
class Compiler:
    """Options of CMake that choose a compiler, what tells its products from others' (version and target), and
    whose thread pool the runner gets."""

    options: tuple[str, ...]
    identity: str
    threads: str  # "own": runner/openmp.cpp


def compiler_for(abi: str, ndk: bool = True) -> Compiler:
    """zig, or the NDK that ANDROID_NDK or ANDROID_NDK_HOME names, unless `ndk` is False: what the NDK makes
    runs on Android alone, has its OpenMP and Vulkan, and has not been tried by this project's tests."""
    if abi not in ABIS:
        raise InputError(f"unknown ABI {abi!r}: known are {', '.join(ABIS)}")
    named = os.environ.get("ANDROID_NDK") or os.environ.get("ANDROID_NDK_HOME")
    if ndk and named and abi != "x86_64":  # that one runs on this machine
        toolchain = Path(named) / "build" / "cmake" / "android.toolchain.cmake"
        if not toolchain.is_file():
            raise InputError(f"{named} is not an Android NDK: expected {toolchain.relative_to(named)} in it")
        chosen = (
            f"-DANDROID_ABI={abi}",
            "-DANDROID_PLATFORM=android-24",
            "-DANDROID_STL=c++_static",
            "-DNCNN_VULKAN=ON",
        )
        identity = f"{(Path(named) / 'source.properties').read_text()} {chosen}"
        return Compiler((f"-DCMAKE_TOOLCHAIN_FILE={toolchain}", *chosen), identity, "libomp")
    require("ziglang", "device")
    target = ABIS[abi]
    options = (f"-DTARGET={target.zig}", f"-DPROCESSOR={target.processor}", f"-DFLAGS={target.flags}")
    files = (f"-DCMAKE_TOOLCHAIN_FILE={RUNNER / 'ncnn' / 'zig.cmake'}", f"-DPYTHON={sys.executable}")
    return Compiler((*files, *options), f"zig {importlib.metadata.version('ziglang')} {options}", "own")


def build_runner(abi: str, layers: Iterable[str] = LAYERS, ndk: bool = True) -> Path:
    """The runner for an Android ABI ("arm64-v8a", "armeabi-v7a" or "x86_64"): a static executable that runs
    on Android, on Linux boards and, for x86_64, here. Built when first asked for, minutes each, and kept in
    the user's cache by version, compiler, layers and sources.

    `layers`: see `layers_of`. `ndk`: see `compiler_for`. Raises InputError where a compiler or ncnn's source
    is missing or the build fails.
    """
    return compiled(compiler_for(abi, ndk), layers, abi)


def finished_runner(abi: str, layers: Iterable[str] = LAYERS, ndk: bool = True) -> Path | None:
    """What `build_runner` gives, if an earlier call has built it; else None."""
    _, name = _names(compiler_for(abi, ndk), layers, abi)
    return cache() / name / "runner" if (cache() / name).is_dir() else None


def compiled(compiler: Compiler, layers: Iterable[str], name: str) -> Path:
    """The runner by `compiler`, from the cache or built now; `name` goes into folders and progress bars."""
    of_ncnn, of_runner = _names(compiler, layers, name)
    common = (*compiler.options, "-DCMAKE_BUILD_TYPE=Release", f"-DTHREADS={compiler.threads}")
    options = (
        f"-DNCNN_SOURCE={ncnn_source()}",
        f"-DNCNN_VERSION={NCNN_VERSION.rpartition('.')[2]}",  # else the day of the build
        f"-DLAYERS={';'.join(sorted(layers))}",
    )
    ncnn = _installed(of_ncnn, f"ncnn-{name}", RUNNER / "ncnn", (*common, *options))
    found = f"-Dncnn_DIR={ncnn / 'lib' / 'cmake' / 'ncnn'}"
    return _installed(of_runner, f"runner-{name}", RUNNER, (*common, found)) / "runner"


def _names(compiler: Compiler, layers: Iterable[str], name: str) -> tuple[str, str]:
    """The cache's folders for ncnn's library and for the runner with it: they tell versions, compilers,
    layers and sources apart."""
    # the downloaded source goes by its version, whichever cache holds it
    own_source = os.environ.get("NCNN_SOURCE")
    origin = Path(own_source).resolve() if own_source else NCNN_VERSION
    identity = f"{origin} {';'.join(sorted(layers))} {compiler.threads} {compiler.identity}"
    sources = [*sorted((RUNNER / "ncnn").iterdir()), SHARED / "mend_ncnn.cmake"]
    ncnn = f"ncnn-{name}-{_key(identity, sources)}"
    return ncnn, f"runner-{name}-{_key(ncnn, sorted([*RUNNER.iterdir(), *SHARED.glob('*.hpp')]))}"


def _key(identity: str, sources: Iterable[Path]) -> str:
    key = hashlib.sha256(identity.encode())
    for path in sources:
        if path.is_file():
            key.update(path.read_bytes())
    return key.hexdigest()[:16]


def _installed(folder: str, name: str, project: Path, options: tuple[str, ...]) -> Path:
    """The folder of the cache that a CMake `project` installs."""

    def make(target: Path, work: Path) -> None:
        _build(name, project, work, (*options, f"-DCMAKE_INSTALL_PREFIX={target}"))

    return kept(folder, make, resumes=True)


def _build(name: str, project: Path, work: Path, options: tuple[str, ...]) -> None:
    """Configure, build and install in the folder `work`, empty or as an interrupted build left it, quietly:
    what is said goes to a log."""
    log = cache() / f"{name}.log"
    environment = {
        **os.environ,
        "ZIG_GLOBAL_CACHE_DIR": str(cache() / "zig"),  # C libraries, which take minutes
        "ZIG_LOCAL_CACHE_DIR": str(work / "zig"),
    }
    cmake, ninja = _tool("cmake"), _tool("ninja")
    with log.open("w") as output:

        def run(*command: str) -> Iterator[str]:
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
            )
            with process:
                for line in process.stdout or ():
                    output.write(line)
                    yield line
            if process.returncode:
                output.flush()
                messages = [line.strip() for line in log.read_text().splitlines() if line.strip()] or [
                    "no output"
                ]
                first = next(
                    (i for i, line in enumerate(messages) if re.search(r"\berror\b[: ]", line, re.I)), -1
                )
                sentence = (
                    " ".join(messages[first:][:2]) if messages[first].endswith(":") else messages[first]
                )
                raise InputError(f"{name} does not build: {sentence} (all in {log})")

        folders = ("-S", str(project), "-B", str(work))
        print(f"compiling {name}, once: some minutes", file=sys.stderr)
        list(run(cmake, "-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}", *options, *folders))
        steps = sum(line.startswith("[") for line in run(ninja, "-C", str(work), "-n", "install"))
        build = run(ninja, "-C", str(work), "-j", str(allowed_cores()), "install")
        list(progress((line for line in build if line.startswith("[")), f"building {name}", steps))


def _tool(name: str) -> str:
    """A program next to Python, where pip puts it, or on the PATH."""
    program = shutil.which(name, path=sysconfig.get_path("scripts")) or shutil.which(name)
    if program is None:
        raise InputError(
            f'the build needs {name}, which is not installed: run pip install -e ".[device]" in the project '
            "folder"
        )
    return program


def kept(name: str, make: Callable[[Path, Path], None], resumes: bool = False) -> Path:
    """The folder `name` of the cache. Where it is missing, `make` fills it, with a second folder to work in;
    of several processes that want it one makes it, and the others wait. With `resumes` the second folder is
    what an interrupted call left."""
    folder = cache() / name
    if not folder.is_dir():
        with locked(folder, wait=True):
            if not folder.is_dir():
                working = _unfinished(folder) if resumes else temporary_folder()
                with whole_folder(folder) as whole, working as work:
                    make(whole, work)
    return folder


@contextmanager
def _unfinished(folder: Path) -> Iterator[Path]:
    """A folder next to `folder` that only signals and kills leave behind; a build that fails starts anew."""
    work = folder.with_name(f"{folder.name}.unfinished")
    work.mkdir(exist_ok=True)
    try:
        yield work
    except Exception:
        shutil.rmtree(work, ignore_errors=True)
        raise
    shutil.rmtree(work, ignore_errors=True)
