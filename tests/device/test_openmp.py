"""The runner's own thread pool, under ThreadSanitizer, behind the loops that clang makes of OpenMP."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from toolkit.device.build import ABIS, RUNNER, cache

HERE = Path(__file__).parent
# zig compiles ThreadSanitizer's own runtime once, and keeps it where the runners' C libraries are
ENVIRONMENT = {**os.environ, "ZIG_GLOBAL_CACHE_DIR": str(cache() / "zig")}


def compile_with_zig(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ziglang", "c++", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT)


@pytest.fixture(scope="module")
def stress(tmp_path_factory):
    """The stress program and a copy of it whose pool has been robbed of its memory order."""
    work = tmp_path_factory.mktemp("openmp")
    pool = (RUNNER / "openmp.cpp").read_text()
    racing = pool.replace("count_.fetch_add(1)", "count_.fetch_add(1, std::memory_order_relaxed)")
    assert racing != pool
    (work / "good.cpp").write_text(pool)
    (work / "racing.cpp").write_text(racing)
    flags = ["-std=c++17", "-O1", "-g", "-fsanitize=thread", "-Wall", "-Wextra", "-I", RUNNER / "ncnn"]
    programs = {}
    for name in ("good", "racing"):
        objects = [work / f"{name}.o", work / "stress.o"]
        sources = [work / f"{name}.cpp", HERE / "openmp_stress.cpp"]
        for source, target in zip(sources, objects, strict=True):
            openmp = ["-fopenmp"] if target.name == "stress.o" else []
            made = compile_with_zig(*flags, *openmp, "-c", source, "-o", target)
            assert made.returncode == 0, made.stderr
            assert "warning" not in made.stderr
        programs[name] = work / name
        made = compile_with_zig("-fsanitize=thread", *objects, "-o", programs[name])
        assert made.returncode == 0, made.stderr
    return programs


@pytest.mark.parametrize(
    ("mode", "code"),
    [("loops", 0), ("networks", 0), ("callers", 0), ("exit", 7), ("exit-inside", 7)],
    ids=[
        "odd numbers of threads",
        "two networks in turn",
        "three callers",
        "exit while another thread works",
        "exit inside a loop",
    ],
)
def test_no_race(mode, code, stress):
    run = subprocess.run([stress["good"], mode], capture_output=True, text=True, timeout=300)
    assert (run.returncode, run.stderr) == (code, "")


@pytest.mark.parametrize("mode", ["loops", "networks"])
def test_a_race_would_be_seen(mode, stress):
    run = subprocess.run([stress["racing"], mode], capture_output=True, text=True, timeout=300)
    assert run.returncode != 0
    assert "data race" in run.stderr


def test_another_entry_point_does_not_link(tmp_path):
    source = tmp_path / "sum.cpp"
    source.write_text(
        "int main() { int sum = 0;\n#pragma omp parallel for reduction(+ : sum)\n"
        "for (int i = 0; i < 9; ++i) sum += i;\nreturn sum; }\n"
    )
    runners = ("-target", ABIS["x86_64"].zig)  # whose C++ library zig has compiled already
    made = compile_with_zig(*runners, "-fopenmp", "-O1", "-c", source, "-o", tmp_path / "sum.o")
    assert made.returncode == 0, made.stderr
    sources = (tmp_path / "sum.o", RUNNER / "openmp.cpp")
    linked = compile_with_zig(*runners, "-std=c++17", "-I", RUNNER / "ncnn", *sources, "-o", tmp_path / "sum")
    assert linked.returncode != 0
    assert "undefined symbol: __kmpc_reduce" in linked.stderr
