"""Curation in FiftyOne: a canonical dataset in, what the person decided out, with a record that survives.

    cells = to_fiftyone(dataset, "cells")
    with saving(cells, dataset, "record.json"):  # kept up to date while tags, splits and boxes change
        ...  # FiftyOne's own views, tags, edits, App
    kept, record = curated(dataset, cells, {"blurred": "out of focus"})

In FiftyOne a picture's split is one of its tags, where the App edits it; boxes are `ground_truth`, landmarks
`keypoints`, and both carry the identifiers that bring them back. FiftyOne is imported where it is used.
"""

from toolkit.data.curation.agreement import add_hardness, add_mistakenness, disagreements, hardest
from toolkit.data.curation.app import open_app
from toolkit.data.curation.desk import curated, fiftyone, from_fiftyone, saving, to_fiftyone
from toolkit.data.curation.explore import (
    REASONS,
    duplicates,
    grid,
    ignore_cut,
    next_to_label,
    picture_of,
    prepare,
    rarest,
    smallest,
    tag_duplicates,
    without_copies,
)
from toolkit.data.curation.features import (
    add_embeddings,
    add_map,
    add_predictions,
    add_uniqueness,
    detect_known,
    detect_with,
    embed_with,
)
from toolkit.data.curation.queue import label_next, queue_of
from toolkit.data.curation.record import Edits, Record, difference, export_record, read_record, replay
from toolkit.data.curation.session import curate, first_to_look_at

__all__ = [
    "REASONS",
    "Edits",
    "Record",
    "add_embeddings",
    "add_hardness",
    "add_map",
    "add_mistakenness",
    "add_predictions",
    "add_uniqueness",
    "curate",
    "curated",
    "detect_known",
    "detect_with",
    "difference",
    "disagreements",
    "duplicates",
    "embed_with",
    "export_record",
    "fiftyone",
    "first_to_look_at",
    "from_fiftyone",
    "grid",
    "hardest",
    "ignore_cut",
    "label_next",
    "next_to_label",
    "open_app",
    "picture_of",
    "prepare",
    "queue_of",
    "rarest",
    "read_record",
    "replay",
    "saving",
    "smallest",
    "tag_duplicates",
    "to_fiftyone",
    "without_copies",
]
