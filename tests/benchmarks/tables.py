"""Writes the tables of the documentation from tests/benchmarks/results and the specs; a figure nobody
measured reads so. README.md has the networks, docs/pages/results.md what was measured, docs/pages/export.md
the microcontrollers, docs/pages/ruler.md the face detectors.

python -m tests.benchmarks.tables
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tests.benchmarks.record import RESULTS
from toolkit.export.registry import FORMATS
from toolkit.models.cost import Cost, measure
from toolkit.models.zoo import SPECS, create_model

README = Path(__file__).parents[2] / "README.md"
EXPORT = README.parent / "docs" / "pages" / "export.md"
RULER = EXPORT.with_name("ruler.md")
FAMILIES = "seed", "ours", "YuNet", "RFB", "SCRFD"
FIGURES = EXPORT.with_name("results.md")
LEVELS = "easy", "medium", "hard"
LEARNED = 0.05  # mean score from which a study's trainings can be compared
NOBODY = "not measured"
SHORT = 3  # epochs of the study on faces before it was trained to its end
SHORT_STUDY = (
    " with batches of 8: the start of a training, not its end. notebooks/faces_study.yaml is a longer "
    "one now, which was not run to its end yet"
)
FACES = {"yoloface-500k-v1": ".728 / .682 / .431", "yoloface-500k-v2": ".768 / .729 / .490"}
PUBLISHED = {
    "lite-voc": "VOC mAP50 73.26",
    "lite-coco": "COCO mAP50 37.44",
    "nano-voc": "VOC mAP50 65.27",
    "nano-coco": "COCO mAP50 30.13",
    "fastest-v1": "VOC mAP50 46.55",
    "fastest-v2": "VOC mAP50 50.13",
    **{name: f"WIDER {scores}" for name, scores in FACES.items()},
}


def result(name: str) -> dict[str, Any]:
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def table(head: Sequence[str], rows: Iterable[Sequence[str]], figures: str = "---", rule: str = "") -> str:
    """Markdown; `figures` is the rule under every column but the first, `rule` that under all of them."""
    first, *others = ("|" + "".join(f" {cell}".rstrip() + " |" for cell in cells) for cells in (head, *rows))
    return "\n".join([first, rule or "|---|" + f"{figures}|" * (len(head) - 1), *others])


def interval(ratio: Mapping[str, float], digits: int = 2) -> str:
    median, low, high = (f"{ratio[key]:.{digits}f}" for key in ("median", "low", "high"))
    return f"{median} [{low}, {high}]"


def one_thread(name: str) -> str:
    return name.replace("1 threads", "1 thread")


@cache
def cost(name: str) -> Cost:
    model = create_model(name)
    return measure(model)


SEEN = "seen pictures only"  # a score on them is no measure: it is in docs/pages/results.md


def here(name: str) -> str:
    """A network's scores on WIDER FACE val, measured here with the published protocol; of others on the test
    part of our split, from the table of our own weights or the ruler; of COCO's on VOC2012 pictures."""
    objects = result("zoo_scores").get("voc2012_sub1200", {})
    if name in objects:
        return SEEN if PUBLISHED[name].startswith("VOC") else f"VOC12 mAP50 {objects[name]:.2f}"
    faces = {**result("evaluation").get("widerface_val", {}), **result("zoo_scores").get("widerface_val", {})}
    kept, part = faces.get(f"{name} torch", faces.get(name)), ""
    if not kept:
        size = "x".join(map(str, SPECS[name].input_size))
        row = result("ruler").get("rows", {}).get(f"{name} {size} stretch")
        kept, part = result("face_weights-formats").get(name, {}).get("torch", row), " (test part)"
    return " / ".join(f"{kept[level]:.3f}"[1:] for level in LEVELS) + part if kept else NOBODY


def networks() -> str:
    """README's table: every network on one line."""
    files = {**result("face_weights-formats"), **result("exports-files")}
    rows = []
    for name, spec in SPECS.items():
        size = files.get(name, {}).get("bytes", {}).get("ncnn-fp16")
        figures = (
            "x".join(map(str, spec.input_size)),
            f"{cost(name).macs / 1e6:.1f}",
            f"{cost(name).params:,}",
            f"{size / 1000:.0f}" if size else NOBODY,
        )
        rows.append((name, *figures, PUBLISHED.get(name, "-"), here(name)))
    head = ("network", "input", "MMAC", "parameters", "kB", "published", "here")
    return table(head, rows, rule="|---|---|---:|---:|---:|---|---|")


def networks_in_full() -> str:
    """The networks with their heads and darknet's count."""
    rows = []
    for name, spec in SPECS.items():
        strides = ", ".join(str(head.stride) for head in cost(name).heads)
        figures = f"{cost(name).params:,}", f"{cost(name).macs / 1e6:.1f}", f"{cost(name).bflops:.3f}"
        size = "x".join(map(str, spec.input_size))
        rows.append((name, size, strides, *figures, PUBLISHED.get(name, "-"), here(name)))
    head = (
        "network",
        "input",
        "heads at stride",
        "parameters",
        "MMAC",
        "BFLOPs",
        "published",
        "measured here",
    )
    return table(head, rows, rule="|---|---|---|---:|---:|---:|---|---|")


def faces() -> str:
    measured = result("evaluation").get("widerface_val", {})

    def cell(name: str, engine: str) -> str:
        row = measured.get(f"{name} {engine}")
        return " / ".join(f"{row[k]:.4f}"[1:] for k in ("easy", "medium", "hard")) if row else NOBODY

    rows = ((n, cell(n, "torch"), cell(n, "ncnn"), said) for n, said in FACES.items())
    return table(("WIDER FACE val, easy / medium / hard", "torch", "NCNN", "the seed published"), rows)


def objects() -> str:
    measured = {f"{n} plain": score for n, score in result("zoo_scores").get("voc2012_sub1200", {}).items()}
    measured |= result("evaluation").get("voc2012_sub1200", {})

    def cell(name: str, nms: str) -> str:
        value = measured.get(f"{name} {nms}")
        return f"{value:.2f}" if value is not None else NOBODY

    names = dict.fromkeys(key.partition(" ")[0] for key in measured)
    rows = ((n, cell(n, "plain"), cell(n, "diou")) for n in names)
    return table(("darknet's mAP50 on 1,200 VOC pictures", "plain NMS", "diou NMS"), rows)


def training() -> str:
    toy = {k: v for k, v in result("training-toy").items() if k.startswith("toy seed")}
    bccd, peers = result("training-bccd"), result("peers")
    steps = result("training_step").get("fastest-v2, 320 x 320, batch 32", {}).get("loop_by_fastest_bare", {})
    peer = next((v for k, v in peers.items() if k.startswith("ultralytics")), {})

    def test(name: str) -> str:
        row = bccd.get(name)
        return f"{row['test_map50']:.3f} ({row['epochs']} epochs)" if row else NOBODY

    toys = ", ".join(f"{v['map50']:.3f} ({v['seconds']:.0f})" for v in toy.values())
    rows = {
        "toy set from scratch, default command, val mAP50 (seconds), by random seed of the set": toys
        or NOBODY,
        "BCCD from the published weights, test mAP50": test("published"),
        "BCCD from scratch, test mAP50": test("scratch"),
        "a step of the loop by a bare step, recipes `modern`, `seed`": (
            f"{steps['modern']:.2f}, {steps['seed']:.2f}" if steps else NOBODY
        ),
        "the same of ultralytics' trainer with its yolov8n": str(peer.get("loop_by_bare", NOBODY)),
    }
    return table(("training fastest-v2 on two cores", ""), rows.items())


def face_training() -> str:
    measured = result("training-faces")

    def cell(runs: list[dict[str, float]], level: str) -> str:
        values = [run[level] for run in runs]
        return f"{sum(values) / len(values):.4f}"

    rows = {
        "recipe seed, from scratch": measured.get("recipe seed", {}).get("test"),
        "recipe modern, from scratch": measured.get("recipe modern", {}).get("test"),
        "published weights": [measured["published"]] if "published" in measured else None,
        "published weights, fine-tuned": [measured["fine-tuned"]] if "fine-tuned" in measured else None,
    }
    levels = ("easy", "medium", "hard")
    lines = [
        (name, *(cell(runs, level) if runs else NOBODY for level in levels)) for name, runs in rows.items()
    ]
    difference = measured.get("modern minus seed")
    said = ""
    if difference:
        cells = (
            "{:+.4f} [{:+.4f}, {:+.4f}]".format(difference[k]["mean"], *difference[k]["interval"])
            for k in levels
        )
        lines.append(("modern minus seed, 95 % interval", *cells))
        chosen = []
        for name in ("seed", "modern"):
            row = measured[f"recipe {name}"]
            diverged = f" ({' and '.join(row['diverged'])} diverged)" if row["diverged"] else ""
            chosen.append(f"{name} {row['learning_rate']:g}{diverged}")
        said = (
            f"\n\nBoth recipes had {measured['epochs']} epochs of {measured['pictures'][0]} pictures, "
            f"batch 16, three random seeds, and the best of three learning rates: {', '.join(chosen)}. "
            "That is a start, not a training: darknet's gradient of a box grows as the box shrinks, so "
            "that on small faces its recipe bears small rates alone and needs far more steps."
        )
    return table(("yoloface-500k-v2 on our split of WIDER val", *levels), lines) + said


def sizes() -> str:
    kept = {name: row for name, row in result("exports-files").items() if name in SPECS}
    if not kept:
        return ""
    formats = ("onnx", "ncnn", "ncnn-fp16", "ncnn-int8", "mnn-int8-weights")
    formats += ("litert", "litert-fp16", "litert-int8", "caffe", "darknet")
    rows = ((name, *(f"{row['bytes'][f] / 1000:.0f}" for f in formats)) for name, row in kept.items())
    return table(("files, kB", *formats), rows, figures="---:") + small_sizes()


def by_network() -> dict[str, list[dict[str, Any]]]:
    """Face detectors at several inputs: the rows of each in the fit that suits it better (by the mean of the
    scores at inputs that both fits had), by rising cost; families in the order of `FAMILIES`."""
    rows: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for row in result("ruler").get("rows", {}).values():
        rows.setdefault(row["network"], {}).setdefault(row["fit"], []).append(row)

    chosen = {}
    for name, fits in rows.items():
        inputs = [{tuple(row["input"]) for row in part} for part in fits.values()]
        common = set.intersection(*inputs)
        sums = {
            fit: sum(row[level] for row in part if tuple(row["input"]) in common for level in LEVELS)
            for fit, part in fits.items()
        }
        chosen[name] = fits[max(sums, key=lambda fit: sums[fit])]
    order = sorted(chosen, key=lambda name: FAMILIES.index(chosen[name][0]["family"]))
    return {name: sorted(chosen[name], key=lambda row: row["mmac"]) for name in order}


def ruler() -> str:
    """Face detectors at several inputs."""
    kept = result("ruler")
    if not kept:
        return f"{NOBODY.capitalize()}: `python -m tests.benchmarks.ruler`."
    lines = []
    for part in by_network().values():
        for row in part:
            scores = (f"{row[level]:.4f}"[1:] for level in LEVELS)
            costs = f"{row['mmac']:.1f}", f"{row['params']:,}"
            where = f"{row['licence']}; {row['source']}"
            size = "x".join(map(str, row["input"]))
            lines.append((row["network"], size, *costs, *scores, row["fit"], where))
    head = ("network", "input", "MMAC", "parameters", *LEVELS, "fit", "licence; source")
    checks = []
    for name, row in kept["known scores"].items():
        cells = (" / ".join(f"{row[key][k]:.4f}"[1:] for k in LEVELS) for key in ("found", "known"))
        checks.append((name, *cells, row["known on"]))
    known = ("all 3,226 pictures, easy / medium / hard", "measured here", "known", "known on")
    stamp = kept["environment"]
    return (
        f"{table(head, lines)}\n\n{table(known, checks)}\n\n"
        f"`{kept['command']}`, {stamp['date']}, {stamp['system']}."
    )


def on_micro() -> dict[str, dict[str, Any]]:
    return {name: row for name, row in result("micro").items() if name in SPECS}


def small_sizes() -> str:
    """A sentence on flash and RAM of the two smallest networks."""
    kept = on_micro()
    parts = []
    for name in ("yoloface-50k", "yoloface-100k"):
        if name in kept:
            flash, ram = (size / 1000 for size in (kept[name]["flash"], kept[name]["tflm"]["total"]))
            parts.append(f"{name} {flash:.0f} kB of flash and {ram:.0f} kB of RAM")
    link = "[what is counted](export.md)"
    said = f"In TensorFlow Lite Micro, `litert-int8`: {', '.join(parts)} ({link})."
    return f"\n\n{said}" if parts else ""


def micro() -> str:
    """Flash, RAM and operators on microcontrollers."""
    kept = on_micro()
    if not kept:
        return f"{NOBODY.capitalize()}: `python -m tests.benchmarks.micro`."
    rows = []
    for name, row in kept.items():
        tflm, vela = row["tflm"], row["vela"]
        sizes = (row["flash"], row["activations"], tflm["head"], row["arena"], tflm["total"])
        estimates = (f"{vela['flash_kB']:.1f}", f"{vela['sram_kB']:.1f}", f"{vela['milliseconds']:.2f}")
        rows.append((name, *(f"{size / 1000:.1f}" for size in sizes), *estimates))
    head = (
        *(
            "int8, kB",
            "flash: the file",
            "activations",
            "the same by TFLM",
            "arena, written",
            "arena, TFLM took",
        ),
        *("Ethos-U55: flash", "Ethos-U55: RAM", "Ethos-U55: ms at 500 MHz"),
    )
    operators = table(
        ("operators, with versions", ""),
        ((name, ", ".join(row["operators"])) for name, row in kept.items()),
    )
    pairs = [row["tflm"] for row in kept.values()]
    equal = min(pair["by LiteRT's reference kernels"]["equal"] for pair in pairs)
    others = ", ".join(f"{100 * pair['by LiteRT with XNNPACK']['equal']:.0f} %" for pair in pairs)
    errors = "; ".join(
        f"{pair['output error by float32']:.3f} and {pair['that of LiteRT with XNNPACK']:.3f}"
        for pair in pairs
    )
    left = sum(row["vela"]["cpu_operators"] for row in kept.values())
    stamp = result("micro")["environment"]
    return (
        f"{table(head, rows, figures='---:')}\n\n{operators}\n\nOn 16 pictures {100 * equal:g} % of TFLM's "
        "numbers are those of LiteRT's reference kernels. With XNNPACK, which runs the file elsewhere in the "
        f"toolkit, LiteRT rounds otherwise: {others} are the same. Errors by float32, TFLM's and XNNPACK's: "
        f"{errors}. Vela leaves {left or 'no'} operators to the CPU. `{result('micro')['command']}`, "
        f"{stamp['date']}, {stamp['system']}."
    )


def rungs() -> str:
    kept = result("exports-scores")
    names = ("yoloface-500k-v2", "fastest-v2", "nano-voc")
    head = (
        "exported files, int8 calibrated on 200 pictures",
        "yoloface-500k-v2, WIDER easy / medium / hard, our split",
        "fastest-v2, VOC mAP50",
        "nano-voc, VOC mAP50",
    )
    rows = []
    for rung in ("torch", *FORMATS):
        cells = []
        for name in names:
            found = kept.get(name, {}).get(rung)
            if found is None:
                cells.append(NOBODY)
            elif "easy" in found:
                cells.append(" / ".join(f"{found[k]:.4f}"[1:] for k in ("easy", "medium", "hard")))
            else:
                cells.append(f"{found['mAP50']:.2f}")
        rows.append((rung, *cells))
    return table(head, rows)


def engines() -> str:
    kept = result("exports-engines")
    columns = [key for key in kept if key.endswith("threads")]
    if not columns:
        return ""
    rows = []
    for engine in kept[columns[0]]:
        cells = (
            f"{kept[c][engine]['median_ms']:.2f} ({kept[c][engine]['by ncnn']['median']:.2f})"
            for c in columns
        )
        rows.append(("OpenCV (caffe)" if engine == "caffe" else engine, *cells))
    return table(("ms for one picture, and times ncnn's", *map(one_thread, columns)), rows)


def stages() -> str:
    kept = result("exports-stages")
    columns = [f"{engine}, {threads} threads" for threads in (1, 2) for engine in ("ncnn", "openvino")]
    if not kept:
        return ""
    names = {"first layer": "the first, 160", "rest": "20 and 10, heads"}
    rows = ((names.get(key, key), *(f"{kept[c][key]:.2f}" for c in columns)) for key in kept[columns[0]])

    def early(column: str) -> float:
        return kept[column]["first layer"] + kept[column]["160"]

    return (
        table(("nano-voc, ms in layers by the height of their maps", *map(one_thread, columns)), rows)
        + "\n\nncnn is not the fastest on nano-voc for its first layers: it shares a layer between threads "
        "by groups of 16 channels, and these have 8 to 48 channels on large maps. They take "
        f"{early(columns[0]):.2f} ms on one thread and {early(columns[2]):.2f} on two, OpenVINO's "
        f"{early(columns[1]):.2f} and {early(columns[3]):.2f}."
    )


def effect_rows(effects: list[dict[str, Any]], label: str = "") -> list[tuple[str, ...]]:
    rows = []
    for effect in effects:
        difference = f"{effect['difference']:+.4f} [{effect['low']:+.4f}, {effect['high']:+.4f}]"
        rows.append((effect["name"] + label, difference, "shown" if effect["shown"] else "not shown"))
    return rows


def studies() -> str:
    kept, sanity, found = result("studies-cells"), result("studies-sanity"), result("studies-search")
    rows = []
    if kept:
        rows += effect_rows(kept["effects"])
    if sanity:
        rows += effect_rows([sanity["effects"][key] for key in sanity["effects"] if " x " not in key])
    lines = [table(("studies on the toy set", "mAP50, 95 % interval", ""), rows)]
    if kept:
        lines.append(f"\nThe first rows are {kept['cells']} cells in {kept['minutes']} minutes.")
    if found:
        best = {name: ", ".join(f"{v:.3f}" for v in row) for name, row in found["best"].items()}
        lines.append(
            f"\nSearch on the toy set, best mAP50 within 1.0 ms of ncnn after {found['trials']} trials of "
            f"2 epochs: TPE {best['tpe']}; random choice {best['random']}; TPE ahead in "
            f"{found['repeats won by tpe']} of {len(found['best']['tpe'])} repeats."
        )
    if power := result("studies-power"):
        seen = ", ".join(f"{100 * part:.0f} % one of {size}" for size, part in power["power"].items())
        lines.append(
            f"\nOf {power['studies']:,} simulated studies with the first rows' spread over random seeds, "
            f"{100 * power['false alarms']:.1f} % see an effect where there is none, {seen}."
        )
    return "\n".join(lines)


def equal_minutes() -> str:
    """A table per data set, and the picture of all."""
    parts = []
    for name, title in (("bccd", "BCCD"), ("fod", "FOD-A")):
        if not (kept := result(f"equal_minutes-{name}")):
            continue
        rows = [
            (
                row,
                f"{line['minutes']:.1f}",
                f"{line['epochs']:g}",
                f"{line['mAP50']:.3f}",
                f"{line['mAP']:.3f}",
                f"{line['parameters'] / 1e6:.2f}",
                f"{line['kB']:,}",
                f"{line['ncnn']['median_ms']:.1f}",
            )
            for row, line in kept["rows"].items()
        ]
        head = (title, "minutes", "epochs", "mAP50", "mAP", "M parameters", "ncnn, kB", "ms")
        pictures = ", ".join(f"{count:,} {split}" for split, count in kept["pictures"].items())
        networks = dict.fromkeys(row.partition(",")[0] for row in kept["rows"])
        missing = [name for name in networks if f"{name}, shipped weights" not in kept["rows"]]
        parts.append(
            table(head, rows) + f"\n\nPictures: {pictures}; classes: {len(kept['classes'])}. ms: ncnn, "
            f"{kept['environment']['cores']} threads, the machine named below."
            + "".join(
                f" Left out: {name} from its shipped weights, which could not be had." for name in missing
            )
        )
    if parts:
        parts.append("![Scores over the minutes of training](equal-minutes.png)")
    return "\n\n".join(parts)


def levers() -> str:
    kept = result("studies-levers")
    if not kept:
        return ""
    titles = {"faces": "faces, WIDER hard", "BCCD": "BCCD, mAP50", "toy": "toy set, mAP50"}

    def cell(data: str, i: int) -> str:
        effect = kept[data]["effects"][i]
        if kept[data]["mean"] < LEARNED:
            return "too little learned"
        return f"{effect['difference']:+.3f} [{effect['low']:+.3f}, {effect['high']:+.3f}]"

    rows = [
        (f"`{name}`: {off} to {on}", *(cell(data, i) for data in titles))
        for i, (name, (off, on)) in enumerate(kept["factors"].items())
    ]
    rows.append(("mean of all", *(f"{kept[data]['mean']:.3f}" for data in titles)))
    trainings = [
        f"{data}: {kept[data]['cells']} trainings of {kept[data]['setting']['budget']['epochs']} epochs in "
        f"{kept[data]['minutes']:.0f} minutes"
        for data in titles
    ]
    shown = [
        f"{effect['name']} on {data}"
        for data in titles
        for effect in kept[data]["effects"]
        if effect["shown"]
    ]
    head = ("lever of the recipe `modern`", *(f"{title}, 95 % interval" for title in titles.values()))
    return (
        table(head, rows)
        + f"\n\n{'; '.join(trainings)}. Three random seeds, half of all combinations. Shown after Holm's "
        f"correction for several comparisons: {', '.join(shown) or 'none'}."
    )


def face_study() -> str:
    kept = result("studies-faces")
    if not kept:
        return ""

    def spread(line: Mapping[str, Any]) -> str:
        return f"{line['mean']:.4f}" + (f" ± {line['sd']:.4f}" if line["sd"] else "")

    def cells(title: str, line: Mapping[str, Any]) -> tuple[str, ...]:
        costs = f"{line['bflops']:.3f}", f"{line['latency_ms']:.2f}", f"{line['kilobytes']:.0f}"
        return (title, line["input_size"], spread(line), *costs)

    rows = []
    for line in kept["table"]:
        width = ", width matched" if line["matching"] == "width" else ""
        rows.append(cells(f"SE {line['se']}, CSP {line['csp']}{width}", line))
    for name in ("yoloface-500k-v1", "yoloface-500k-se"):
        rows += [cells(f"{name}, one random seed", line) for line in kept.get(name, [])]
    epochs = kept.get("epochs", SHORT)
    head = (
        f"yoloface-500k-v2 changed, {epochs} epochs",
        "input",
        "WIDER hard, our split",
        "BFLOPs",
        "ms",
        "kB",
    )
    effects = [
        row
        for matching, part in kept["effects"].items()
        for row in effect_rows(part, f" ({matching})" if matching == "width" else "")
    ]
    return (
        table(head, rows)
        + f"\n\n{kept['cells']} cells of three random seeds, {epochs} epochs each"
        + (SHORT_STUDY if epochs == SHORT else "")
        + ". ms: ncnn, one thread, the machine named below; a matched width gives "
        "channels that are no multiple of 4, which ncnn takes one by one.\n\n"
        + table(("effects on WIDER hard", "difference, 95 % interval", ""), effects)
    )


def runner() -> str:
    kept = result("runner-speed")
    columns = [key for key in kept if key.endswith("threads")]
    if not columns:
        return ""
    rows = [
        (name, *(f"{kept[c][name]['median_ms']:.2f}" for c in columns))
        for name in ("zig, own threads", "gcc, libgomp", "wheel")
    ]
    rows += [
        (f"the first by {name}", *(interval(kept[c][f"own by {name}"]) for c in columns))
        for name in ("gcc, libgomp", "wheel")
    ]
    return table(("the timing runner on x86_64, ms", *map(one_thread, columns)), rows)


def int8() -> str:
    kept = {name: row for name, row in result("runner-int8").items() if name in SPECS}
    if not kept:
        return ""
    titles = {
        "arm64-v8a": "the runner on arm64 and the wheel on x86_64",
        "armeabi-v7a": "the runner on armv7 and the wheel on x86_64",
    }
    rows = ((title, *(f"{row[key]:.4f}"[1:] for row in kept.values())) for key, title in titles.items())
    return table(("int8, largest difference of scores and edges", *kept), rows)


def instructions() -> str:
    kept = {name: row["arm64-v8a"] for name, row in result("runner-instructions").items() if name in SPECS}
    if not kept:
        return ""
    rows = (
        (fmt, *(f"{counts[fmt]['total'] / 1e6:.1f}" for counts in kept.values()))
        for fmt in ("ncnn", "ncnn-fp16", "ncnn-int8")
    )
    return table(("million instructions on arm64 (not a measure of time)", *kept), rows)


def landmarks() -> str:
    kept = result("landmarks-accuracy")
    if not kept:
        return ""
    published, trained = kept["landmark106"], kept["98 points, trained"]
    everything = published["map of numbers, all faces"]
    rows = {
        f"landmark106, map of numbers, all {everything['faces']} faces": everything["nme"],
        "landmark106, map fitted on one half of the pictures, other half": published[
            "map fitted on the first half, second half"
        ]["nme"],
        f"98 points, mean shape, {kept['faces']['test']} held-out faces": kept[
            "98 points, mean shape of the training faces"
        ]["nme"],
        **{f"98 points, trained {key}, the same": row["nme"] for key, row in trained.items()},
    }
    head = ("error of points by inter-ocular distance (NME), WFLW's hard faces", "")
    return table(head, ((name, f"{nme:.4f}") for name, nme in rows.items()))


def cascade() -> str:
    kept = result("landmarks-speed")
    if not kept:
        return ""
    picture, frame, film = (row for row in kept.values() if isinstance(row, dict) and "python" not in row)
    rows = (
        (title, *(f"{times['median_ms']:.2f}" for times in row.values()))
        for title, row in {"two faces in a picture": picture, "a frame of a film": frame}.items()
    )
    following, detecting = (film[key]["median_ms"] for key in ("tracking", "detector in every frame"))
    faster = "{median:.2f} times as fast [{low:.2f}, {high:.2f}]".format(**film["times as fast"])
    head = ("yoloface-100k and landmark106, one thread, ms", "torch", "onnx", "ncnn")
    apart = {key: 100 * value for key, value in film["points apart, in face sizes"].items()}
    return table(head, rows) + (
        f"\n\nIn ncnn, inference alone, following faces takes {following:.2f} ms a frame, the detector at "
        f"224x224 in every frame {detecting:.2f} ms: {faster}. The points of both are {apart['mean']:.1f} % "
        f"of the face's size apart on average, at most {apart['largest']:.1f} %."
    )


def cfgs() -> str:
    kept = result("darknet_cfgs")
    if not kept:
        return ""
    columns = {"detectors": "detector cfgs", "read": "read", "opencv": "forward equal to OpenCV's reader"}
    columns |= {
        "written_and_read_again": "written and read again",
        "onnx": "onnx equal",
        "ncnn": "ncnn equal",
    }
    rows = {name: entry["counts"] for name, entry in kept["repositories"].items()}
    rows |= {"different files": kept["files"]}
    head = ("darknet cfgs, random weights", *columns.values())
    return table(head, ((name, *(str(counts[key]) for key in columns)) for name, counts in rows.items()))


def strangers() -> str:
    kept = result("strangers").get("networks", {})
    if not kept:
        return ""

    def cell(facts: Mapping[str, Any]) -> str:
        share = f"{facts['kept']} of {facts['detections']}" if "kept" in facts else ""
        share = f"{facts['matched']} of {facts['detections']}" if "matched" in facts else share
        text = share or f"{facts['relative_difference']:.1e}"
        return f"{text}, left out" if "fault" in facts else text

    formats = list(dict.fromkeys(fmt for entry in kept.values() for fmt in entry["formats"]))
    head = ("export --to all: relative difference, or detections kept",)
    head += tuple(f"{name} ({entry['weights']} weights)" for name, entry in kept.items())
    return table(head, ((f, *(cell(entry["formats"][f]) for entry in kept.values())) for f in formats))


def strangers_training() -> str:
    figures = result("strangers_training")
    kept = {name: row for name, row in figures.items() if isinstance(row, dict) and "val_map50" in row}
    if not kept:
        return ""
    head = ("foreign cfgs trained", "epochs", "val mAP50", "test mAP50", "seconds")
    rows = (
        (
            name,
            f"{row['epochs']:g}",
            f"{row['val_map50']:.3f}",
            f"{row['test_map50']:.3f}" if "test_map50" in row else "no test part",
            f"{row['seconds']:.0f}",
        )
        for name, row in kept.items()
    )
    return table(head, rows)


# title, what its tables do not say, the results, the tables
Section = tuple[str, str, tuple[str, ...], tuple[Callable[[], str], ...]]
SECTIONS: tuple[Section, ...] = (
    (
        "The networks",
        "Parameters count every float of the weights file; BFLOPs are darknet's count, twice the "
        "multiply-adds and a little. `toolkit models` measures all three. Published scores are the seed's "
        "own, by its own protocol. Those measured here are by the same protocol, on WIDER FACE's pictures "
        "reduced to a long side of 384 px; VOC2007's test set and COCO's val2017 are not here; VOC12 is "
        "in the next section. The seed's COCO scores count 25,679 objects, but val2017 has 36,781 "
        "annotations: they cannot be compared with pycocotools.",
        ("evaluation", "zoo_scores"),
        (networks_in_full,),
    ),
    (
        "Published weights, scored here",
        "WIDER FACE: all 3,226 pictures, reduced to a long side of 384 px, stretched to the network input, "
        "official protocol; the seed's figures are from the original pictures. VOC: difficult objects "
        "ignored, darknet's resize; these pictures were very likely in the training set of the seed's VOC "
        "networks, so that their figures only compare implementations; nano-coco, of whose classes the 20 of "
        "VOC count, was trained on COCO.",
        ("evaluation", "zoo_scores"),
        (faces, objects),
    ),
    ("Training", "", ("training-toy", "training-bccd", "training_step", "peers"), (training,)),
    (
        "Training on faces",
        "A part of WIDER FACE val for training, another for the test: our split, not the published one.",
        ("training-faces",),
        (face_training,),
    ),
    (
        "Equal minutes",
        "Two cores, 320 x 320, from random weights and from those that each project ships. yolo26n is the "
        "smallest network of ultralytics. Scores of the test pictures, by the same evaluator.",
        ("equal_minutes-bccd", "equal_minutes-fod"),
        (equal_minutes,),
    ),
    (
        "Studies on the toy set",
        "",
        ("studies-cells", "studies-finished", "studies-sanity", "studies-search", "studies-power"),
        (studies,),
    ),
    (
        "Levers of the recipe",
        "What each changes after a short training from random weights.",
        ("studies-levers",),
        (levers,),
    ),
    ("A study on faces", "", ("studies-faces",), (face_study,)),
    ("Sizes of files", "", ("exports-files", "micro"), (sizes,)),
    (
        "Scores of exported files",
        "WIDER FACE on our split; VOC on pictures that were very likely in the seed's training set.",
        ("exports-scores",),
        (rungs,),
    ),
    (
        "Milliseconds by engine",
        "One picture up to the raw maps, on the machine named below. [Ratios](ratios.md) has the intervals.",
        ("exports-engines", "exports-stages"),
        (engines, stages),
    ),
    ("Landmarks", "", ("landmarks-accuracy", "landmarks-speed"), (landmarks, cascade)),
    (
        "The timing runner",
        "The program that goes to phones and boards, built for this machine and for ARM under qemu.",
        ("runner-speed", "runner-int8", "runner-instructions"),
        (runner, int8, instructions),
    ),
    (
        "Networks of others",
        "Darknet cfgs of public repositories.",
        ("darknet_cfgs", "strangers", "strangers_training"),
        (cfgs, strangers, strangers_training),
    ),
)


def stamped(name: str) -> str:
    """The command that made a result, the day and the machine."""
    kept = result(name)
    if not kept:
        return f"{NOBODY.capitalize()}: `python -m tests.benchmarks.{name.replace('-', ' ')}`."
    stamp = kept["environment"]
    return f"`{kept['command']}`, {stamp['date']}, {stamp['cpu']}, {stamp['cores']} cores."


def measured() -> str:
    """The text between the marks of docs/pages/results.md."""
    parts = []
    for title, said, names, makers in SECTIONS:
        tables = "\n\n".join(filter(None, (make() for make in makers)))
        stamps = "\n\n".join(stamped(name) for name in names)
        parts.append("\n\n".join(filter(None, (f"## {title}", said, tables, stamps))))
    return "\n" + "\n\n".join(parts) + "\n"


def rewritten(text: str) -> str:
    return between("measured", measured(), text)


def rewritten_readme(text: str) -> str:
    return between("networks", f"\n{networks()}\n", text)


def rewritten_export(text: str) -> str:
    return between("micro", f"\n{micro()}\n", text)


def rewritten_ruler(text: str) -> str:
    return between("ruler", f"\n{ruler()}\n", text)


def between(mark: str, made: str, text: str) -> str:
    pattern = rf"(<!-- {mark} -->)(.*?)(<!-- end -->)"
    return re.sub(pattern, lambda found: f"{found[1]}\n{made}\n{found[3]}", text, flags=re.DOTALL)


if __name__ == "__main__":
    README.write_text(rewritten_readme(README.read_text()))
    FIGURES.write_text(rewritten(FIGURES.read_text()))
    EXPORT.write_text(rewritten_export(EXPORT.read_text()))
    RULER.write_text(rewritten_ruler(RULER.read_text()))
