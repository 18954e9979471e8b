"""`toolkit detect` and `toolkit landmarks`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolkit.cli.answer import as_json_list, end_in_part, json_line, print_answer, print_message, table
from toolkit.cli.options import (
    Conf,
    Fit,
    Iou,
    Json,
    Model,
    Names,
    Nms,
    Resize,
    Size,
    Strict,
    Weights,
    output_option,
    parse_size,
)
from toolkit.runtime import InputError, progress

if TYPE_CHECKING:
    from toolkit.data.intake import Skipped
    from toolkit.videos import Video

app = typer.Typer()
Source = Annotated[
    str,
    typer.Argument(
        help="A picture, a folder, a pattern in quotes ('shots/*.jpg'), a video, the index of a camera, or "
        "the address of a stream (rtsp://..., http://...)."
    ),
]
Frames = Annotated[
    int,
    typer.Option(min=0, max=10**9, help="Maximum number of frames of a video, camera or stream; 0: all."),
]


def _pictures(source: str, strict: bool) -> tuple[list[Path], tuple[Skipped, ...]]:
    """The pictures that `source` names, and those among them of types that are not read."""
    from toolkit.data.intake import Skipped
    from toolkit.pictures import find_images, other_pictures

    paths = find_images(source)
    reason = "pictures of this type are not read: save it as .png or .jpg"
    others = tuple(Skipped(str(path), reason) for path in other_pictures(source))
    if strict and others:
        raise InputError(f"{others[0].file}: {reason}")
    return paths, others


def _check_one_source(context: typer.Context) -> None:
    """InputError where a shell has put the files in place of a pattern."""
    if context.args:
        raise InputError(
            f"one source is expected, found also {context.args[0]!r}: put the pattern in quotes, or name the "
            "folder"
        )


def _lost_frames(source: str, video: Video) -> tuple[Skipped, ...]:
    """The frames that a stream did not give."""
    from toolkit.data.intake import Skipped
    from toolkit.videos import without_password

    reason = f"{video.broke_off}; what came until then is kept"
    return (Skipped(without_password(source), reason),) if video.broke_off else ()


def _copies(source: str, paths: list[Path], output: Path | None) -> list[Path]:
    """Where the annotated copies of pictures go; none without a folder for them. InputError where a copy
    would replace one of the pictures."""
    from toolkit.pictures import common_folder, copy_name

    if output is None:
        return []
    root = common_folder(source, paths)
    copies = [output / copy_name(path.relative_to(root)) for path in paths]
    originals = {path.resolve() for path in paths}
    if any(copy.resolve() in originals for copy in copies):
        raise InputError(f"annotated copies in {output} would replace the pictures: name another folder")
    return copies


def _say_found(pictures: int, found: str, seconds: float) -> None:
    print_message(f"pictures: {pictures}, {found}, seconds with reading and drawing: {seconds:.2f}")


@app.command(context_settings={"allow_extra_args": True})
def detect(
    context: typer.Context,
    source: Source,
    model: Model = "nano-coco",
    weights: Weights = None,
    names: Names = None,
    conf: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Score threshold, 0..1 (default: what an exported folder keeps, else 0.25).",
            show_default=False,
        ),
    ] = None,
    iou: Iou = 0.45,
    nms: Nms = "plain",
    resize: Resize = "bilinear",
    fit: Fit = "",
    size: Size = "",
    output: Annotated[Path | None, output_option("detections, for a video")] = None,
    coco: Annotated[Path | None, typer.Option(help="COCO results file for the detections.")] = None,
    frames: Frames = 0,
    strict: Strict = False,
    as_json: Json = False,
) -> None:
    """Detect objects in a picture, a folder, a video, a camera or a stream.

    Ctrl-C ends a camera or stream; what was found until then is kept. Exit code 3 if a stream breaks off.
    """
    from toolkit.data.readable import skipped_pictures
    from toolkit.export.folder import kept_threshold
    from toolkit.files import whole_file
    from toolkit.inference.backend import DetectSettings
    from toolkit.inference.results import annotate, as_coco, as_records
    from toolkit.inference.run import annotate_video, run
    from toolkit.networks import open_model
    from toolkit.pictures import holds_many, load_image, save_image
    from toolkit.videos import open_video

    _check_one_source(context)
    kept = kept_threshold(model)
    if conf is None and kept not in (None, DetectSettings.conf):
        print_message(f"boxes above {kept:.4g}, the threshold that {model} keeps")
    conf = next((each for each in (conf, kept) if each is not None), DetectSettings.conf)
    settings = DetectSettings(conf, iou, nms, resize, fit or None, parse_size(size))
    network = open_model(model, weights, names=names)
    skipped: tuple[Skipped, ...] = ()
    begin = time.perf_counter()
    if (video := open_video(source)) is not None:  # a camera has the length 0
        target = (output or Path("detections")) / video.copy_name
        results = annotate_video(network, video, target, frames, settings)
        readable = list(range(len(results)))
        labels = [f"frame {i}" for i in readable]
        skipped = _lost_frames(source, video)
        print_message(f"wrote {target}")
    else:
        paths, skipped = _pictures(source, strict)
        copies = _copies(source, paths, output)
        unreadable: dict[int, str] | None = {} if holds_many(source) and not strict else None
        results = list(progress(run(network, paths, settings, unreadable=unreadable), "pictures", len(paths)))
        skipped += skipped_pictures(paths, unreadable or {})
        readable = [i for i in range(len(paths)) if i not in (unreadable or {})]
        results = [results[i] for i in readable]
        labels = [str(paths[i]) for i in readable]
        for i, boxes in zip(readable, results, strict=True) if copies else ():
            save_image(copies[i], annotate(load_image(paths[i]), boxes, network.io, in_place=True))
        if copies:
            print_message(f"wrote {output}")
    seconds = time.perf_counter() - begin
    if coco is not None:
        rows = [row for i, boxes in zip(readable, results, strict=True) for row in as_coco(boxes, i + 1)]
        with whole_file(coco) as temporary:
            temporary.write_text(json_line(rows))
    records = [(name, as_records(boxes, network.io)) for name, boxes in zip(labels, results, strict=True)]
    lines = [
        [name, d["class"], f"{d['score']:.3f}", " ".join(f"{v:.0f}" for v in d["box"])]
        for name, detections in records
        for d in detections
    ]
    if len(lines) > 200:
        print_message(f"the table shows the first 200 of {len(lines)} detections: use --json to see all")
    fps = len(results) / seconds
    _say_found(len(results), f"detections: {len(lines)}", seconds)
    print_answer(
        {
            "results": [{"image": name, "detections": detections} for name, detections in records],
            "skipped": as_json_list(skipped),
            "seconds": seconds,
            "pictures_per_second": fps,
        },
        as_json,
        table("", ["picture", "class", "score", "x1 y1 x2 y2 (px)"], lines[:200]),
    )
    end_in_part(skipped)


@app.command(context_settings={"allow_extra_args": True})
def landmarks(
    context: typer.Context,
    source: Source,
    detector: Annotated[str, typer.Option(help="Face detector, as --model of detect.")] = "yoloface-100k",
    points: Annotated[
        str, typer.Option(help="A landmark network of the zoo or an exported folder (FOLDER:FORMAT).")
    ] = "landmark106",
    weights: Weights = None,
    names: Names = None,
    conf: Conf = 0.5,
    iou: Iou = 0.45,
    size: Size = "",
    every: Annotated[
        int,
        typer.Option(min=1, max=10**6, help="Interval of face detection in a video, frames; 1: every frame."),
    ] = 30,
    smoothing: Annotated[
        float,
        typer.Option(
            min=0, max=1000, help="Cut-off of the smoothing filter for still points in a video, Hz; 0: off."
        ),
    ] = 3.0,
    output: Annotated[Path | None, output_option("landmarks, for a video")] = None,
    frames: Frames = 0,
    strict: Strict = False,
    as_json: Json = False,
) -> None:
    """Detect faces and their landmarks in a picture, folder, video, camera or stream.

    In a video, faces are tracked; Ctrl-C ends a camera or stream. Exit code 3 if a stream breaks off.
    --weights is of the landmark network; --names, --conf, --iou and --size are of the detector.
    """
    from dataclasses import replace

    from toolkit import faces
    from toolkit.data.readable import skipped_pictures
    from toolkit.networks import open_landmarks, open_model
    from toolkit.pictures import holds_many, load_image, load_readable, save_image
    from toolkit.videos import open_video

    _check_one_source(context)
    settings = replace(faces.FACES, conf=conf, iou=iou, size=parse_size(size))
    networks = open_model(detector, names=names), open_landmarks(points, weights)
    skipped: tuple[Skipped, ...] = ()
    begin = time.perf_counter()
    if (video := open_video(source)) is not None:  # a camera has the length 0
        target = (output or Path("landmarks")) / video.copy_name
        tracking = faces.Tracking(every=every, smoothing=smoothing)
        tracker = faces.FaceTracker(*networks, settings, tracking, video.fps)
        face_lists = faces.annotate_faces_video(tracker, video, target, frames)
        skipped = _lost_frames(source, video)
        labels = [f"frame {i}" for i in range(len(face_lists))]
        print_message(f"wrote {target}; the detector ran on {tracker.detections} of {len(face_lists)} frames")
    else:
        paths, skipped = _pictures(source, strict)
        copies = _copies(source, paths, output)
        unreadable: dict[int, str] | None = {} if holds_many(source) and not strict else None
        face_lists = []
        for i, path in enumerate(progress(paths, "pictures")):
            picture = load_readable(path, i, unreadable)
            if picture is not None:
                face_lists.append(faces.detect_faces(picture, *networks, settings))
        skipped += skipped_pictures(paths, unreadable or {})
        readable = [i for i in range(len(paths)) if i not in (unreadable or {})]
        labels = [str(paths[i]) for i in readable]
        for i, each in zip(readable, face_lists, strict=True) if copies else ():
            save_image(copies[i], faces.annotate_faces(load_image(paths[i]), each, in_place=True))
        if copies:
            print_message(f"wrote {output}")
    seconds = time.perf_counter() - begin
    records = [(name, faces.as_records(each)) for name, each in zip(labels, face_lists, strict=True)]
    rows = [
        [name, f"{face['score']:.3f}", " ".join(f"{v:.0f}" for v in face["box"])]
        for name, each in records
        for face in each
    ]
    _say_found(len(face_lists), f"faces: {len(rows)}", seconds)
    print_answer(
        {
            "results": [{"image": name, "faces": each} for name, each in records],
            "skipped": as_json_list(skipped),
            "seconds": seconds,
            "pictures_per_second": len(face_lists) / seconds,
        },
        as_json,
        table("", ["picture", "score", "x1 y1 x2 y2 (px)"], rows[:200]),
    )
    end_in_part(skipped)
