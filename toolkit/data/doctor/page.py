"""The report as one HTML file that carries its pictures with it."""

from __future__ import annotations

import base64
import html
import textwrap
from collections import Counter
from collections.abc import Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from toolkit.data.dataset import Dataset
from toolkit.data.doctor.findings import FAULTS, NEED_PICTURES, NOWHERE, WHOLE, Finding, Report
from toolkit.data.doctor.pictures import header, pixels_as_stored
from toolkit.data.intake import Intake
from toolkit.files import whole_file
from toolkit.pictures import Unreadable, image_bytes, load_image

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LISTED = 200  # sentences per fault beyond those with pictures
_CLASSES = 500  # in the table of classes
_NOTES = 100  # also kinds of labels that were left out
_LONGEST = 1000  # characters of a sentence
_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 1150px; margin: 2rem auto; padding: 0 1rem; }}
table {{ border-collapse: collapse }} td {{ padding: .15rem .8rem .15rem 0 }} .good {{ color: #666 }}
.bad td:last-child {{ font-weight: 700; color: #b03000 }} figure {{ margin: 0 }} img {{ max-width: 100% }}
.grid {{ display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(250px, 1fr)) }}
figcaption {{ font-size: 13px; overflow-wrap: anywhere }} .bar {{ background: #0072b2; height: .8rem }}
</style><h1>{title}</h1><p>{pictures} pictures, {boxes} boxes.</p><table>{rows}</table><ul>{notes}</ul>
{intake}<h2>Classes</h2><table>{classes}</table>{sections}</html>
"""


def write_page(dataset: Dataset, report: Report, path: str | Path, per_fault: int = 12) -> None:
    """Write the page: counts, sentences, and up to `per_fault` pictures of each fault with its boxes."""
    by_fault: dict[str, list[Finding]] = {fault: [] for fault in FAULTS}
    for finding in report.findings:
        by_fault[finding.fault].append(finding)
    rows, sections = [], []
    for number, (fault, mine) in enumerate(by_fault.items(), start=1):
        title = html.escape(FAULTS[fault])
        count = str(len(mine)) if report.decoded or fault not in NEED_PICTURES else "not looked for"
        link = f'<a href="#{fault}">{title}</a>' if mine else title
        kind = "bad" if mine else "good"
        rows.append(f'<tr class="{kind}"><td>{number}</td><td>{link}</td><td>{count}</td></tr>')
        if mine:
            sections.append(
                _section(dataset, report, fault, f"{number}. {title}: {len(mine)}", mine, per_fault)
            )
    with whole_file(path) as temporary:
        temporary.write_text(
            _PAGE.format(
                title=html.escape(f"Dataset report: {report.source}"),
                pictures=report.pictures,
                boxes=report.boxes,
                rows="".join(rows),
                notes=_items(report.observations),
                intake=_intake(report.intake, report.boxes),
                classes=_class_bars(report.summary["balance"]["classes"]),
                sections="".join(sections),
            ),
            encoding="utf-8",
            errors="backslashreplace",  # of names that are bytes of another system
        )


def _items(sentences: Sequence[str], most: int = _NOTES) -> str:
    lines = [*map(_cut, sentences[:most]), *_rest(sentences, most)]
    return "".join(f"<li>{html.escape(line)}</li>" for line in lines)


def _rest(entries: Sequence[Any], most: int) -> list[str]:
    """A line about the entries after the first `most`; none where there are no more."""
    return [f"and {len(entries) - most} more, which the JSON report lists"] if len(entries) > most else []


def _cut(text: str) -> str:
    """A sentence or a name, which a stranger's file may make as long as it likes."""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _intake(intake: Intake, boxes: int) -> str:
    """What the import left out, skipped and noted."""
    if not intake.format:  # the data set was made in memory
        return ""
    rows = [("left out", "count", "first")] if not intake.whole else []
    rows += [(part.kind, str(part.count), part.example) for part in intake.left_out[:_NOTES]]
    rows += [(line, "", "") for line in _rest(intake.left_out, _NOTES)]
    if intake.skipped:
        first = intake.skipped[0]
        rows.append(("pictures", str(len(intake.skipped)), f"{first.file}: {first.reason}"))
    table = "".join(
        f"<tr>{''.join(f'<td>{html.escape(_cut(cell))}</td>' for cell in row)}</tr>" for row in rows
    )
    sentence = f"<p>{WHOLE.capitalize()}.</p>" if intake.whole and boxes else ""
    how = html.escape(f"{intake.format}: {intake.why}" if intake.why else intake.format)
    return f"<h2>Import</h2><p>{how}</p>{sentence}<table>{table}</table><ul>{_items(intake.notes)}</ul>"


def _section(
    dataset: Dataset, report: Report, fault: str, title: str, findings: list[Finding], shown: int
) -> str:
    figures = "".join(_figure(dataset, finding, report.as_stored) for finding in findings[:shown])
    rest = findings[shown:]
    lines = _items([finding.sentence for finding in rest], _LISTED)
    more = f"<details><summary>{len(rest)} more</summary><ul>{lines}</ul></details>" if rest else ""
    return f'<section id="{fault}"><h2>{title}</h2><div class="grid">{figures}</div>{more}</section>'


def _class_bars(classes: list[dict[str, Any]]) -> str:
    most = max([entry["boxes"] for entry in classes], default=0) or 1
    bars = [
        f"<tr><td>{html.escape(_cut(entry['name']))}</td><td>{entry['boxes']} boxes</td>"
        f"<td>{entry['pictures']} pictures</td>"
        f'<td><div class="bar" style="width:{300 * entry["boxes"] / most:.0f}px"></div></td></tr>'
        for entry in classes[:_CLASSES]
    ]
    return "".join([*bars, *(f"<tr><td>{line}</td></tr>" for line in _rest(classes, _CLASSES))])


def _figure(dataset: Dataset, finding: Finding, as_stored: Set[int]) -> str:
    pictures = [_picture(dataset, finding, as_stored)]
    if finding.other is not None:
        pictures.append(_thumbnail(dataset.root / finding.other)[0])
    images = "".join(
        f'<img alt="" src="data:image/jpeg;base64,{_encode(picture)}">'
        for picture in pictures
        if picture is not None
    )
    return f"<figure>{images}<figcaption>{html.escape(_cut(finding.sentence))}</figcaption></figure>"


def _picture(dataset: Dataset, finding: Finding, as_stored: Set[int]) -> Any:
    """The picture with the box at fault or all its boxes; a grey margin where a box is outside."""
    from toolkit.viz import draw_boxes

    image, scale = _thumbnail(dataset.root / finding.file, finding.picture in as_stored)
    if image is None or finding.other is not None or finding.fault in ("undecodable", "unlabelled"):
        return image
    rows = dataset.rows(finding.picture) if finding.row is None else slice(finding.row, finding.row + 1)
    boxes = dataset.boxes[rows].astype(np.float64) * scale
    boxes = boxes[np.isfinite(boxes).all(axis=1)]
    size = np.array(image.shape[1::-1])
    before = np.clip(-boxes[:, :2].min(axis=0, initial=0), 0, size // 2).astype(int)
    behind = np.clip(boxes[:, 2:].max(axis=0, initial=0) - size, 0, size // 2).astype(int)
    margins = (before[1], behind[1], before[0], behind[0])
    image = cv2.copyMakeBorder(image, *margins, cv2.BORDER_CONSTANT, value=(200, 200, 200))
    drawn = np.clip(boxes + np.tile(before, 2), 0, np.tile(image.shape[1::-1], 2))
    return draw_boxes(image, drawn.astype(np.float32), long_side=1, scale=2)


def findings_grid(dataset: Dataset, report: Report, count: int = 15) -> Figure:
    """Pictures of findings, of every fault the first, then of every fault the second, and so on; of a pair
    both pictures."""
    from toolkit.viz import image_grid

    order = sorted(_ranked(report.findings), key=lambda each: each[0])
    images: list[Any] = []
    titles: list[str] = []
    for _, finding in order:
        picture = _picture(dataset, finding, report.as_stored) if finding.picture != NOWHERE else None
        if picture is not None and finding.other is not None:
            height = picture.shape[0]
            other = _thumbnail(dataset.root / finding.other)[0]
            beside = (
                []
                if other is None
                else [cv2.resize(other, (height * other.shape[1] // other.shape[0], height))]
            )
            picture = np.hstack([picture, *beside])
        if picture is not None and len(images) < count:
            images.append(picture)
            titles.append("\n".join(textwrap.wrap(FAULTS[finding.fault], 28)))
    return image_grid(images, titles)


def _ranked(findings: list[Finding]) -> list[tuple[int, Finding]]:
    """Each finding, with how many of its fault came before it."""
    counts: Counter[str] = Counter()
    ranked = []
    for finding in findings:
        ranked.append((counts[finding.fault], finding))
        counts[finding.fault] += 1
    return ranked


def _thumbnail(path: Path, as_stored: bool = False, side: int = 320) -> tuple[Any, float]:
    """The picture (H, W, 3) RGB, its long side at most `side`, and the factor; None: no picture."""
    try:
        if as_stored:
            data = image_bytes(path).tobytes()
            pixels = pixels_as_stored(data, str(path), header(data)[1])
        else:
            pixels = load_image(path)
    except Unreadable:
        return None, 1.0
    scale = min(1.0, side / max(pixels.shape[:2]))
    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), scale


def _encode(image: Any) -> str:
    jpeg = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])[1]
    return base64.b64encode(jpeg.tobytes()).decode()
