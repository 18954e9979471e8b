"""The `>>>` examples of the package: all of them run, and the public functions and classes below have one."""

import doctest
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): count
    for path in sorted((ROOT / "toolkit").rglob("*.py"))
    if (count := len(re.findall(r"^ *>>> ", path.read_text(encoding="utf-8"), re.MULTILINE)))
}
DOCUMENTED = """
toolkit.create_model toolkit.list_models toolkit.load_darknet toolkit.inference.detect
toolkit.boxes.match_greedily
toolkit.inference.annotate toolkit.inference.DetectSettings
toolkit.inference.preprocess.preprocess toolkit.inference.run.run
toolkit.inference.results.as_coco toolkit.inference.results.as_records
toolkit.inference.results.to_supervision
toolkit.models.cost.measure
toolkit.models.darknet.load_weights toolkit.models.darknet.parse_cfg toolkit.models.darknet.save_darknet
toolkit.models.darknet.save_weights toolkit.models.darknet.to_cfg
toolkit.models.decode.Boxes toolkit.models.decode.decode toolkit.models.decode.decode_boxes
toolkit.models.detector.calibrate
toolkit.models.io.LandmarkIO toolkit.models.io.ModelIO
toolkit.models.landmarks.LandmarkSpec
toolkit.models.network.fold
toolkit.models.published.published_files
toolkit.models.spec.change
toolkit.models.zoo.has_published_weights
toolkit.ablation.cells.cells toolkit.ablation.effects.effects toolkit.ablation.effects.holm
toolkit.ablation.plan.read_plan toolkit.ablation.report.study_table
toolkit.samples.pan_and_zoom
toolkit.training.config.read_config toolkit.training.config.read_levers
toolkit.training.landmarks.mirror_map
toolkit.training.recipe.default_recipe toolkit.training.recipe.recipe
toolkit.page.read_section toolkit.viz.draw_boxes toolkit.widgets.table
toolkit.training.config.merged_config toolkit.training.config.read_config toolkit.training.config.read_levers
toolkit.training.landmarks.mirror_map toolkit.training.recipe.default_recipe toolkit.training.recipe.recipe
""".split()


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_runs(name):
    results = doctest.testmod(importlib.import_module(name))
    assert results == (0, EXAMPLES[name])


@pytest.mark.parametrize("name", DOCUMENTED)
def test_public_functions_have_an_example(name):
    assert re.search(r"^>>> ", inspect.getdoc(pkgutil.resolve_name(name)), re.MULTILINE)
