"""Commands that are killed (SIGKILL) at random moments and called again: nothing is lost, nothing is left.

Each job is first run undisturbed, for its result and its length. Then the same job is started, killed at a
random moment, and so on; at last it is called once more and left alone. It must then end with exit code 0
and the result of the undisturbed run. After every kill each result that is there must be a whole one, and
the processes that the command had started must be gone; in the end no file may be left in the job's folder
that the undisturbed run does not have. What is left in the folder of temporary files is listed.

    python -m tests.benchmarks.kills [--job train] [--kills 42] [--seed 0]
"""

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from argparse import ArgumentParser
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from tests.benchmarks.record import RESULTS, write
from toolkit.ablation.plan import read_plan
from toolkit.ablation.report import runs
from toolkit.ablation.store import Store
from toolkit.data.catalog import load
from toolkit.data.toy import make_toy
from toolkit.export.folder import Exported
from toolkit.training.checkpoint import load_checkpoint
from toolkit.training.config import read_config, write_config
from toolkit.training.recipe import recipe

MARK = "TOOLKIT_KILLS"  # variable by which the processes of a job are known
GONE_IN = 60  # seconds that processes have to follow the one that was killed
NETWORK = "yoloface-50k"


@dataclass(frozen=True)
class Job:
    """A command in a folder of its own.

    `prepare` writes its input there, or an earlier result that it will replace; `call` is the command as it
    is then, with `--resume` or not; `whole` raises where a result that is there is not whole, at any moment;
    `result` is what must not depend on kills.
    """

    prepare: Callable[[Path], None]
    call: Callable[[Path], list[str]]
    whole: Callable[[Path], None]
    result: Callable[[Path], Any]
    within: float = 1.0  # part of the length in which it is killed; little where it goes on where it was


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "toolkit.cli", *map(str, arguments)]


def digests(folder: Path, *but: str) -> dict[str, str]:
    """File -> sha256 of everything below a folder."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name not in but)
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def training_input(folder: Path) -> None:
    make_toy(folder / "data", count=40, size=96, splits={"train": 0.8, "val": 0.2})
    fixed = {"threads": 1, "precision": "fp32", "memory_format": "channels_last"}
    levers = recipe("modern", epochs=30, batch=8)
    settings = {"data": str(folder / "data"), "model": NETWORK, "recipe": levers, "validations": 20, **fixed}
    write_config(folder / "config.yaml", read_config(settings))


def training_call(folder: Path) -> list[str]:
    if (folder / "run/config.yaml").exists():
        return command("train", "--resume", "--output", folder / "run")
    return command("train", "--config", folder / "config.yaml", "--output", folder / "run")


def training_whole(folder: Path) -> None:
    for name in ("last.pt", "best.pt"):
        if (folder / "run" / name).exists():
            load_checkpoint(folder / "run" / name)
    for file in (folder / "run").glob("*.json"):
        json.loads(file.read_text())


def training_result(folder: Path) -> Any:
    last = load_checkpoint(folder / "run/last.pt")
    weights = b"".join(value.numpy().tobytes() for value in last["model"].values())
    steps = [json.loads(line)["step"] for line in (folder / "run/metrics.jsonl").read_text().splitlines()]
    return last["step"], steps, hashlib.sha256(weights).hexdigest()


def study_input(folder: Path) -> None:
    make_toy(folder / "data", count=30, size=64)
    plan = {
        "name": "tiny", "data": str(folder / "data"), "model": NETWORK, "recipe": {"batch": 8},
        "factors": {"learning_rate": [0.001, 0.01]}, "seeds": [0, 1],
        "budget": {"steps": 40}, "validations": 4,
    }  # fmt: skip
    (folder / "study.yaml").write_text(yaml.safe_dump(plan))


def study_call(workers: int) -> Callable[[Path], list[str]]:
    return lambda folder: command(
        "ablate", "run", folder / "study.yaml", "--output", folder / "study", "--workers", str(workers)
    )


def study_whole(folder: Path) -> None:
    for file in (folder / "study").glob("cells/*/last.pt"):
        load_checkpoint(file)
    for file in (folder / "study").glob("networks/[!.]*"):
        export_is_whole(file)


def study_result(folder: Path) -> Any:
    plan = read_plan(folder / "study.yaml")
    rows = runs(Store(plan, f"sqlite:///{folder / 'study/study.db'}"))
    return [(row["key"], row["steps"], round(row["score"], 5)) for row in rows]


def export_is_whole(folder: Path) -> None:
    exported = Exported.read(folder)
    for fmt in exported.formats:
        exported.check(fmt)
    assert set(exported.formats) <= set(exported.parity())


def export_input(folder: Path) -> None:
    subprocess.run(export_call(folder, "darknet"), check=True, capture_output=True)


def export_call(folder: Path, formats: str = "darknet,onnx,ncnn,ncnn-fp16") -> list[str]:
    return command("export", "--model", NETWORK, "--to", formats, "--output", folder / "net")


def import_input(folder: Path) -> None:
    make_toy(folder / "first", count=4, size=64)
    make_toy(folder / "source", count=300, size=64)
    with zipfile.ZipFile(folder / "data.zip", "w") as archive:
        for file in sorted((folder / "source").rglob("*")):
            archive.write(file, file.relative_to(folder / "source"))
    first = command("data", "import", folder / "first", folder / "set")
    subprocess.run(first, check=True, capture_output=True)


def import_call(folder: Path) -> list[str]:
    return command("data", "import", folder / "data.zip", folder / "set", "--overwrite")


def import_whole(folder: Path) -> None:
    dataset = load(str(folder / "set"))
    assert len(dataset) in (4, 300)
    assert all(dataset.path(i).is_file() for i in range(len(dataset)))


def demo_result(folder: Path) -> Any:
    stages = json.loads((folder / "demo/demo.json").read_text())["stages"]
    data = digests(folder / "demo/toy/data"), json.loads((folder / "demo/anchors/anchors.json").read_text())
    return [(name, entry.get("skipped")) for name, entry in stages.items()], data


def demo_whole(folder: Path) -> None:
    for name in ("demo.json", "train/result.json"):
        if (folder / "demo" / name).exists():
            json.loads((folder / "demo" / name).read_text())
    if (folder / "demo/export/network").exists():
        export_is_whole(folder / "demo/export/network")


JOBS = {
    "train": Job(training_input, training_call, training_whole, training_result),
    "ablate": Job(study_input, study_call(1), study_whole, study_result),
    "ablate, two workers": Job(study_input, study_call(2), study_whole, study_result),
    "export": Job(
        export_input,
        export_call,
        lambda folder: export_is_whole(folder / "net"),
        lambda folder: digests(folder / "net", "spec.json", "parity.json"),
    ),
    "import": Job(
        import_input, import_call, import_whole, lambda folder: digests(folder / "set", "import.json")
    ),
    "demo": Job(
        lambda folder: None,
        lambda folder: command("demo", "--output", folder / "demo"),
        demo_whole,
        demo_result,
        within=0.4,
    ),
}


def processes(mark: str) -> list[str]:
    """Commands of the processes that carry a mark in their environment."""
    lines = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and f"{MARK}={mark}".encode() in (entry / "environ").read_bytes():
                lines.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return [line for line in lines if line]  # one without a command has ended


def left_alone(job: Job, folder: Path, temporary: Path, mark: str, limit: float = 3600) -> float:
    """Run a job to its end: seconds. Raises AssertionError with its messages where it fails."""
    begin = time.monotonic()
    run = subprocess.run(
        job.call(folder), capture_output=True, text=True, env=variables(temporary, mark), timeout=limit
    )
    assert run.returncode == 0, f"exit code {run.returncode}: {run.stderr[-2000:]}"
    return time.monotonic() - begin


def variables(temporary: Path, mark: str) -> dict[str, str]:
    return {**os.environ, MARK: mark, "TMPDIR": str(temporary), "TOOLKIT_FAST": "1"}


def killed(job: Job, folder: Path, temporary: Path, mark: str, seconds: float) -> bool:
    """Start a job and kill it after `seconds`; False where it had ended before."""
    with (folder / "messages.txt").open("ab") as log:
        process = subprocess.Popen(job.call(folder), stdout=log, stderr=log, env=variables(temporary, mark))
    try:
        process.wait(seconds)
        assert process.returncode == 0, (folder / "messages.txt").read_text()[-2000:]
        return False
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return True


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def try_job(name: str, kills: int, seed: int) -> dict[str, Any]:
    """Facts of a job that was killed `kills` times. Raises AssertionError where something is lost or left."""
    job, rng, work = JOBS[name], random.Random(f"{name} {seed}"), Path(tempfile.mkdtemp(prefix="kills-"))
    mark = work.name
    places = {kind: work / kind / "job" for kind in ("quiet", "killed")}
    temporaries = {kind: work / kind / "tmp" for kind in places}
    for kind, folder in places.items():
        folder.mkdir(parents=True)
        temporaries[kind].mkdir()
        job.prepare(folder)
    length = left_alone(job, places["quiet"], temporaries["quiet"], mark)
    folder, temporary = places["killed"], temporaries["killed"]
    done, moments, slowest = 0, [], 0.0
    while done < kills:
        seconds = rng.uniform(0, job.within * length)
        if not killed(job, folder, temporary, mark, seconds):  # a resumed job is shorter: once more from anew
            shutil.rmtree(folder)
            folder.mkdir()
            job.prepare(folder)
            continue
        done += 1
        moments.append(round(seconds, 2))
        job.whole(folder)
        begin = time.monotonic()
        while rest := processes(mark):
            assert time.monotonic() - begin < GONE_IN, f"{name}, killed after {seconds:.2f} s, left {rest}"
            time.sleep(0.1)
        slowest = max(slowest, time.monotonic() - begin)
    seconds = left_alone(job, folder, temporary, mark)
    (folder / "messages.txt").unlink()
    assert job.result(folder) == job.result(places["quiet"]), f"{name} has another result after the kills"
    left = files_below(folder) - files_below(places["quiet"]) - events(folder)
    assert not left, f"{name} left {sorted(left)}"
    assert not processes(mark)
    litter = sorted(files_below(temporary) - files_below(temporaries["quiet"]))
    shutil.rmtree(work)
    return {
        "kills": done,
        "after_seconds": moments,
        "undisturbed_seconds": round(length, 1),
        "last_call_seconds": round(seconds, 1),
        "children_gone_in_seconds": round(slowest, 1),
        "same_result": True,
        "left_in_the_output": 0,
        "left_in_the_temporary_folder": litter,
    }


def events(folder: Path) -> set[str]:
    """TensorBoard's files, one for each process that trained."""
    return {str(path.relative_to(folder)) for path in folder.rglob("events.out.tfevents.*")}


def main() -> None:
    parser = ArgumentParser(prog="python -m tests.benchmarks.kills", description=__doc__.splitlines()[0])
    parser.add_argument("--job", action="append", choices=JOBS, help="all unless given")
    parser.add_argument("--kills", type=int, default=42, help="in all, shared by the jobs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--result", type=Path, default=RESULTS / "kills.json")
    given = parser.parse_args()
    names = given.job or list(JOBS)
    torch.set_num_threads(1)
    figures = {}
    for name in names:
        figures[name] = try_job(name, given.kills // len(names), given.seed)
        print(name, json.dumps(figures[name]), file=sys.stderr, flush=True)
    write("kills", given, [], {"kills": sum(f["kills"] for f in figures.values()), "jobs": figures})


if __name__ == "__main__":
    main()
