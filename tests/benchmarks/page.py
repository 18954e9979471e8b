"""Writes docs/pages/ratios.md: what `make bench` measured, on one page, from tests/benchmarks/results.

python -m tests.benchmarks.page
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.benchmarks.data_scale import STEPS
from tests.benchmarks.tables import NOBODY, interval, one_thread, result, table
from toolkit.files import whole_file

PAGE = Path(__file__).parents[2] / "docs" / "pages" / "ratios.md"
HEAD = """# Ratios

What costs how many times as much as what. Both sides of a ratio are measured in one run by `make bench`,
another trainer's by `make bench-peers`, other writers of LiteRT files by the script
`tests/benchmarks/litert_writers.py`. A ratio with brackets is the median of the paired ratios of all
rounds and its 95 % interval; one without is a ratio of medians. A limit is what the project asks of itself;
"touches" means that the interval has to reach down to it. Below each table stand the command, the day and
the machine; milliseconds are in [Results](results.md) and in `tests/benchmarks/results`.
"""
Kept = Mapping[str, Any]


def measured(kept: Kept) -> dict[str, Any]:
    """The comparisons of a result, without what says how it was made."""
    return {key: row for key, row in kept.items() if isinstance(row, dict) and key != "environment"}


def imports(kept: Kept) -> str:
    rows = [
        (name, interval(row["by torch"]), f"at most {row['limit']:g}") for name, row in kept["starts"].items()
    ]
    return table(("start, by `import torch`", "times as long", "limit"), rows)


def engines(kept: Kept) -> str:
    columns = measured(kept)
    rows = [
        (engine, *(interval(column[engine]["by ncnn"]) for column in columns.values()))
        for engine in next(iter(columns.values()))
        if engine != "ncnn"
    ]
    return table(("by ncnn", *map(one_thread, columns)), rows)


def stages(kept: Kept) -> str:
    threads = ("1 threads", "2 threads")
    rows = [
        (key, *(f"{kept[f'ncnn, {t}'][key] / kept[f'openvino, {t}'][key]:.2f}" for t in threads))
        for key in kept["ncnn, 1 threads"]
    ]
    return table(("layers of nano-voc by the height of their maps", *map(one_thread, threads)), rows)


def layers(kept: Kept) -> str:
    depthwise, others = [], []
    for name, row in kept["milliseconds"].items():
        (depthwise if name.startswith("convdw") else others).append(row)
    kinds = {"depthwise": depthwise, "all others": others, "all": depthwise + others}
    rows = [
        (kind, f"{sum(row['int8'] for row in part) / sum(row['fp32'] for row in part):.2f}")
        for kind, part in kinds.items()
    ]
    return table(("layers of yoloface-500k-v2, int8 by float32", "times as long"), rows)


def seed(kept: Kept) -> str:
    rows = [
        (
            f"{name}, {row['part']}, {one_thread(str(row['threads']) + ' threads')}",
            interval(row["ours_to_seed"], 3),
            f"touches {kept['limit']:g}",
        )
        for name, comparisons in kept["speed"].items()
        for row in comparisons
    ]
    return table(("our NCNN file by the seed's", "times as long", "limit"), rows)


def runner(kept: Kept) -> str:
    others = ("gcc, libgomp", "wheel")
    rows = [
        (one_thread(name), *(interval(row[f"own by {other}"]) for other in others), "touches 1.05")
        for name, row in measured(kept).items()
    ]
    return table(("the runner as it is shipped", *(f"by {other}" for other in others), "limit"), rows)


def loader(kept: Kept) -> str:
    rows = [
        (f"{name}, {batch}", f"{row['ratio']:.3f}", "at least 0.9")
        for name, batches in measured(kept).items()
        for batch, row in batches.items()
    ]
    return table(("files to detections by the bare network", "pictures a second", "limit"), rows)


def trainer(kept: Kept) -> str:
    rows = [
        (f"{name}, recipe {recipe}", f"{value:.3f}", "at most 1.15")
        for name, row in measured(kept).items()
        for recipe, value in row["loop_by_fastest_bare"].items()
    ]
    return table(("a step of the loop by a bare step", "times as long", "limit"), rows)


def load(kept: Kept) -> str:
    step = next(row for name, row in measured(kept).items() if "by_the_same_alone" in row)
    limits = ("at most 1.6", "at most 2.5")
    rows = [
        (name, f"{step['alone_by_libgomp_alone'][name]:.2f}", *(f"{times:.2f}" for times in (one, two)))
        for name, (_, one, two) in ((n, list(row.values())) for n, row in step["by_the_same_alone"].items())
    ]
    rows.append(("limit of the toolkit's", "at most 1.03", *limits))
    head = ("a step of the loop", "alone, by libgomp's alone", "beside one busy process", "beside two")
    silence = kept["before the first step"]
    said = f"Five pictures and two epochs: the first step begins after {silence['median_s']:.1f} s."
    return f"{table(head, rows)}\n\n{said}"


def peers(kept: Kept) -> str:
    rows = [(name, f"{row['loop_by_bare']:.3f}") for name, row in measured(kept).items()]
    return table(("a step of its loop by its bare step", "times as long"), rows)


def writers(kept: Kept) -> str:
    """What the packages add, and two tables: float files, and int8 files with their scores."""
    added = ", ".join(f"{way} {row['version']} {row['mb']:.0f} MB" for way, row in kept["added"].items())
    floats, wholes = [], []
    for name, row in ((name, row) for name, row in measured(kept).items() if "scores" in row):
        for way, file in row["files"].items():
            cells = (
                f"{name}, {way}",
                f"{file['seconds']:.0f}",
                f"{file['kb']:.0f}",
                "1" if way.startswith("ours") else interval(file["by ours"]),
            )
            if "int8" in way:
                wholes.append((*cells, *scored(row["scores"][way])))
            else:
                floats.append((*cells, str(file["transposes"]), f"{file['relative difference']:.1e}"))
        wholes.append((f"{name}, torch", "", "", "", *scored(row["scores"]["torch"])))
    head = ("seconds to write", "kB", "by ours")
    return "\n\n".join(
        (
            f"Installed size, beyond the toolkit without extras, each with all that it needs: {added}.",
            table(("float32 files, one thread", *head, "TRANSPOSE operators", "difference to torch"), floats),
            table(
                ("int8 files, one thread", *head, "score, test split", "other pictures", "error of outputs"),
                wholes,
            ),
        )
    )


def scored(row: Mapping[str, Any]) -> tuple[str, str, str]:
    def text(found: Mapping[str, float]) -> str:
        if "mAP50" in found:
            return f"{found['mAP50']:.2f}"
        return " / ".join(f"{value:.4f}"[1:] for value in found.values())

    return text(row["test"]), text(row["others"]), f"{row['error of outputs']:.3f}"


def evaluators(kept: Kept) -> str:
    head = (
        *("ours by the reference", "pictures", "detections", "times as long", "limit"),
        *("largest difference of scores", "memory added by ours, MB", "by the reference, MB"),
    )
    rows = [
        (
            f"{protocol} by {row['reference']}",
            f"{row['pictures']:,}",
            f"{row['detections']:,}",
            interval(row["ours by theirs"], 4),
            f"at most {row['limit']:.2g}" if row["limit"] else "",
            f"{row['largest difference']:.1g}",
            *(f"{row['added_mb'][whose]:.0f}" for whose in ("ours", "theirs")),
        )
        for protocol, row in measured(kept).items()
    ]
    return table(head, rows)


def scale(kept: Kept) -> str:
    loading = kept["steps"]["load canonical"]["seconds"]
    rows = []
    for step, said in STEPS.items():
        limit = "at most 1000" if step.startswith(("load", "doctor", "import")) else ""
        row = kept["steps"].get(step)
        figures = (f"{row['seconds'] / loading:.1f}", f"{row['peak_mb']:.0f}") if row else (NOBODY, NOBODY)
        rows.append((said, *figures, limit))
    name = f"{kept['pictures']:,} pictures, {kept['boxes']:,} boxes, by loading them"
    return table((name, "times as long", "peak memory, MB", "limit, MB"), rows)


def commands(kept: Kept) -> str:
    imports, ladder = kept["data import"], kept["parity ladder"]
    size = f"{imports['pictures']:,} pictures, {imports['boxes']:,} boxes"
    rows = [
        (f"data import of {size}, {fmt.upper()}", interval(imports[fmt]["by bare"]))
        for fmt in ("coco", "yolo", "voc")
    ]
    rows.append((f"parity ladder of {len(ladder['rungs'])} formats", interval(ladder["by bare"])))
    return table(("a command by the bare work in it", "times as long"), rows)


def faces(kept: Kept) -> str:
    picture, frame, film = measured(kept).values()
    rows = [
        (f"{title}, {engine} by ncnn", f"{row[engine]['median_ms'] / row['ncnn']['median_ms']:.2f}", "")
        for title, row in {"two faces in a picture": picture, "a frame of a film": frame}.items()
        for engine in ("torch", "onnx")
    ]
    slower = interval(film["times as fast"])
    rows.append(("the detector in every frame by following faces, ncnn", slower, "at least 1.5"))
    return table(("yoloface-100k and landmark106, one thread", "times as long", "limit"), rows)


def desk(kept: Kept) -> str:
    rows = [
        (name, f"{row['median_ms']:.0f}", f"{row['worst_ms']:.0f}", "at most 200")
        for name, row in measured(kept).items()
    ]
    return table(("network and data set", "median, ms", "worst, ms", "limit, ms"), rows)


def browser(kept: Kept) -> str:
    rows = [
        (
            name,
            one_thread(engine.partition(", ")[2]),
            *(interval(row[f"by {other}"]) for other in ("onnx", "ncnn")),
        )
        for name, engines in measured(kept).items()
        for engine, row in engines.items()
        if engine.startswith("browser")
    ]
    visit = kept["first visit"]
    said = (
        f"A first visit reads {visit['kB']:,} kB (yoloface-500k-v2, engine, picture) and has its first boxes "
        f"after {visit['median_ms'] / 1000:.1f} s, from a server on the same machine."
    )
    head = ("forward pass in Chromium (WASM)", "threads", "by onnxruntime", "by ncnn")
    return f"{table(head, rows)}\n\n{said}"


# title, result, what its table does not say, the table
THEMES: tuple[tuple[str, str, str, Callable[[Kept], str]], ...] = (
    ("Import", "import_time", "Each in a fresh interpreter.", imports),
    (
        "Commands",
        "commands",
        "Each in a process of its own. Bare import: Python reads COCO's JSON, links the pictures and writes "
        "the JSON again, and checks nothing. Bare ladder: the engines are opened, look at the same pictures, "
        "and run as often as the command times them.",
        commands,
    ),
    ("Engines", "exports-engines", "One picture up to the raw maps, times as long as ncnn.", engines),
    ("Engines by layers", "exports-stages", "ncnn by OpenVINO, times as long.", stages),
    (
        "Browsers",
        "browser",
        "The page of `toolkit package --web` on this machine, not on a phone; it finds what Python finds.",
        browser,
    ),
    ("int8", "exports-layers", "Each convolution alone in ncnn, one thread; sums of medians.", layers),
    (
        "LiteRT writers",
        "litert_writers",
        "The toolkit writes LiteRT files itself. litert-torch converts the same networks as exactly, and its "
        "files run about as fast: a few percent slower with its transposes, as fast as ours without them "
        "(channels last). The toolkit does not use it because it installs jax, transformers and a converter, "
        "15 times the size of what running the files takes. Its seconds include its import, ours the "
        "comparison with torch. ai-edge-quantizer (static int8, its default recipe) had our float32 file and "
        "the same calibration pictures. On WIDER FACE our int8 files score slightly higher. On VOC neither "
        "is shown to be better: the order on the test split is reversed on the training pictures that no "
        "calibration used, for both networks. The error of outputs, by which the toolkit chooses ranges "
        "(difference of scores and boxes to torch on 50 test pictures, by the sum of scores), is smaller "
        "with ours for all three, so ours stay. They equalise channels and correct biases; the recipe takes "
        "moving averages of the smallest and largest values. Our int8 files are slower because they take "
        "pixels as uint8 and begin with a QUANTIZE, 0.2 ms here; the others leave that to the caller.",
        writers,
    ),
    ("The seed's files", "ncnn_seed", "Up to the raw maps, and up to the boxes.", seed),
    ("Timing runner", "runner-speed", "The program that goes to phones, built for x86_64.", runner),
    (
        "Loader",
        "pipeline",
        "Reading, resizing and suppression share the cores with the network: decoding a picture of WIDER "
        "FACE alone takes a tenth of this network's time.",
        loader,
    ),
    ("Trainer", "training_step", "Pictures and all, by forward, backward and optimiser in memory.", trainer),
    (
        "A busy machine",
        "load",
        "A training of fastest-v2 on all cores beside processes that want a core each, by the same alone.",
        load,
    ),
    ("Another trainer", "peers", "Measured in the same way.", peers),
    (
        "Evaluators",
        "evaluators",
        "Both see the same columns, and their scores have to agree. pycocotools is the reference itself. The "
        "other protocols have theirs in MATLAB and C: here they are retold as plain loops in Python, which "
        "checks the scores and says nothing about the speed of the originals.",
        evaluators,
    ),
    (
        "Large sets",
        "data_scale",
        "Each step in a process of its own; the workers that decode for the doctor are not in its memory.",
        scale,
    ),
    ("Faces", "landmarks-speed", "Faces are followed in ncnn's inference time alone.", faces),
    ("Sizing desk", "sizing", "From a moved widget of notebook 02 to the new page.", desk),
)


def text() -> str:
    parts = [HEAD]
    for title, name, said, make in THEMES:
        kept = result(name)
        parts.append(f"## {title}\n\n{said}\n")
        if kept:
            stamp = kept["environment"]
            where = f"{stamp['date']}, {stamp['cpu']}, {stamp['cores']} cores"
            parts.append(f"{make(kept)}\n\n`{kept['command']}`, {where}.\n")
        else:
            parts.append(f"{NOBODY.capitalize()}: `python -m tests.benchmarks.{name.replace('-', ' ')}`.\n")
    return "\n".join(parts)


if __name__ == "__main__":
    with whole_file(PAGE) as temporary:
        temporary.write_text(text(), encoding="utf-8")
