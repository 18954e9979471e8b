"""The house rules that a machine can check."""

import ast
import graphlib
import json
import re
import subprocess
import sys
import tomllib
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from tests.benchmarks import tables, weights
from tests.benchmarks.import_time import COMMAND, FORBIDDEN, STARTS, loaded, small_dataset

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def requirements() -> list[str]:
    extras = PROJECT["optional-dependencies"]
    return PROJECT["dependencies"] + [r for name, rs in extras.items() if name != "all" for r in rs]


def test_environment_yml_repeats_pyproject():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    pip = next(d["pip"] for d in environment["dependencies"] if isinstance(d, dict))
    assert pip[:2] == ["-c constraints.txt", "-e ."]
    assert sorted(pip[2:]) == sorted(requirements())


def test_all_takes_every_extra():
    extras = PROJECT["optional-dependencies"]
    assert extras["all"] == [f"toolkit[{','.join(name for name in extras if name != 'all')}]"]


def test_constraints_hold_a_version_that_fits_every_requirement():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line[0] != "#"]
    pins = {Requirement(line).name.lower().replace("_", "-"): Requirement(line) for line in lines}
    for text in requirements():
        need = Requirement(text)
        (pin,) = pins[need.name.lower().replace("_", "-")].specifier
        assert pin.operator == "=="
        assert "+" not in pin.version  # a build of one machine, which the package index does not have
        assert need.specifier.contains(pin.version), text
    assert not [line for line in lines if "+" in line]  # a build such as 2.13.0+cpu is not on PyPI


def test_constraints_go_with_the_oldest_python_that_is_promised():
    oldest = re.search(r">=([\d.]+)", PROJECT["requires-python"])[1]
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line[0] != "#":
            with suppress(PackageNotFoundError):  # of another system
                needs = metadata(Requirement(line).name)["Requires-Python"] or ""
                assert SpecifierSet(needs).contains(f"{oldest}.0"), f"{line} needs Python {needs}"


def test_import_stays_light():
    code = f"import sys, toolkit; print([m for m in {FORBIDDEN!r} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize("start", STARTS)
def test_a_start_loads_nothing_heavy(start):
    assert loaded(*STARTS[start]) == []


def test_importing_data_loads_no_torch(tmp_path):
    source = small_dataset(tmp_path / "source")
    packages = loaded((*COMMAND, "data", "import", str(source), str(tmp_path / "data")), {})
    assert packages == ["numpy", "cv2"]
    assert len(list((tmp_path / "data" / "images").iterdir())) == 4


# From the ground up; a floor may use those before it, and no module a module that leads back to it.
FLOORS = (
    "moved machine signals boxes runtime files regular text tables archives arrays bootstrap stopwatch "
    "headers pictures videos fonts viz page models inference faces samples data evaluation export device "
    "training networks ablation widgets demo cli"
).split()
FORMER = {"toolkit.detect", "toolkit.timing"}  # hand on old names by their text (toolkit.moved)


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def package_modules() -> dict[str, Path]:
    """Every module of the package; the scripts that a build copies to other places are none."""
    paths = (ROOT / "toolkit").rglob("*.py")
    return {module_name(path): path for path in paths if "runner" not in path.parts}


def faces() -> dict[str, str]:
    """What packages hand on (their stubs): full name there -> the module that has it."""
    handed = {}
    for stub in (ROOT / "toolkit").rglob("__init__.pyi"):
        package = module_name(stub)
        for node in ast.walk(ast.parse(stub.read_text())):
            if isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    handed[f"{package}.{alias.name}"] = f"{package}.{node.module or alias.name}"
    return handed


def imported(source: str, modules: set[str], handed: dict[str, str]) -> set[str]:
    """The modules that a source imports, at its top or in a function; not those for type checkers alone."""
    tree = ast.parse(source)
    typing_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    names = []
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    targets = set()
    for name in names:
        if name in modules:
            targets.add(name)
        elif name.startswith("toolkit."):
            targets.add(handed.get(name) or name.rpartition(".")[0])
    return targets


def test_every_way_to_import_is_seen():
    modules, handed = {"toolkit.viz", "toolkit.cli", "toolkit.a.b"}, {"toolkit.a.f": "toolkit.a.b"}

    def seen(source: str) -> set[str]:
        return imported(source, modules, handed)

    assert seen("from toolkit import viz, cli") == {"toolkit.viz", "toolkit.cli"}
    assert seen("def f():\n    from toolkit import (\n    viz,\n    cli,\n    )") == {
        "toolkit.viz",
        "toolkit.cli",
    }
    assert seen("import numpy, toolkit.viz as v\nfrom os import path") == {"toolkit.viz"}
    assert seen("from toolkit.a import f") == seen("from toolkit.a.b import g") == {"toolkit.a.b"}
    assert seen("if TYPE_CHECKING:\n    from toolkit import viz") == set()


def import_graph() -> dict[str, set[str]]:
    modules, handed = package_modules(), faces()
    return {name: imported(path.read_text(), set(modules), handed) - {name} for name, path in modules.items()}


def test_imports_run_downwards():
    level = {name: i for i, name in enumerate(FLOORS)}

    def floor(module: str) -> int:
        return level[module.split(".")[1]]

    graph = {name: targets - {"toolkit"} for name, targets in import_graph().items()}
    others = graph.keys() - FORMER - {"toolkit"}
    assert {name.split(".")[1] for name in others} == set(FLOORS)
    wrong = [(name, target) for name in others for target in graph[name] if floor(target) > floor(name)]
    assert wrong == []


def test_no_module_leads_back_to_itself():
    graphlib.TopologicalSorter(import_graph()).prepare()  # CycleError, which names the circle
    with pytest.raises(graphlib.CycleError):
        graphlib.TopologicalSorter({"a": {"b"}, "b": {"a"}}).prepare()


def test_no_face_name_is_hidden_by_a_submodule():
    """Importing a submodule would put it in the place of a function of the same name."""
    handed = faces()
    assert "toolkit.models.create_model" in handed
    assert [name for name, module in handed.items() if name in package_modules() and module != name] == [
        "toolkit.detect"  # the former place, which can be called
    ]


def asserts(test: ast.FunctionDef) -> bool:
    """Itself, by `pytest.raises` or `pytest.warns`, or through a function called assert_..."""
    called = [
        ast.unparse(node.func).rpartition(".")[2] for node in ast.walk(test) if isinstance(node, ast.Call)
    ]
    own = any(isinstance(node, ast.Assert) for node in ast.walk(test))
    return own or any(name in ("raises", "warns") or name.startswith("assert") for name in called)


def test_every_test_asserts():
    tests = [
        (path.name, node.name, asserts(node))
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]
    assert len(tests) > 500
    assert [test for test in tests if not test[2]] == []


PAGES = [
    (tables.README, "networks", tables.rewritten_readme),
    (tables.FIGURES, "measured", tables.rewritten),
    (tables.EXPORT, "micro", tables.rewritten_export),
    (tables.RULER, "ruler", tables.rewritten_ruler),
    (weights.PAGE, "small", weights.rewritten),
]


@pytest.mark.parametrize(("page", "mark", "rewritten"), PAGES, ids=[page.stem for page, _, _ in PAGES])
def test_tables_are_those_of_specs_and_results(page, mark, rewritten):
    text = page.read_text()
    assert f"<!-- {mark} -->" in text
    assert rewritten(text) == text


def test_scores_beside_the_published_ones_are_those_of_the_results():
    from tests.benchmarks.tables import FACES, README, result
    from toolkit.models.zoo import SPECS

    lines = README.read_text().partition("| network | input |")[2].partition("\n\n")[0].splitlines()[2:]
    rows = [[cell.strip() for cell in line.split("|")] for line in lines]
    cells = {row[1]: (row[6], row[7]) for row in rows}
    sizes = {row[1]: row[2] for row in rows}
    assert set(cells) == set(SPECS)
    for name, (said, ours) in cells.items():
        if name in FACES:
            kept = result("evaluation")["widerface_val"][f"{name} torch"]
            figures = " / ".join(f"{kept[level]:.3f}"[1:] for level in ("easy", "medium", "hard"))
            assert (said, ours) == (f"WIDER {FACES[name]}", figures)
        elif name in (objects := result("zoo_scores")["voc2012_sub1200"]):
            seen = said.startswith("VOC")  # never a score on pictures of the training beside a published one
            assert ours == ("seen pictures only" if seen else f"VOC12 mAP50 {objects[name]:.2f}")
        elif (row := result("zoo_scores")["widerface_val"].get(name)) is not None:
            assert ours == " / ".join(f"{row[level]:.3f}"[1:] for level in ("easy", "medium", "hard"))
        elif (row := result("ruler")["rows"].get(f"{name} {sizes[name]} stretch")) is not None:
            row = result("face_weights-formats").get(name, {}).get("torch", row)
            figures = " / ".join(f"{row[level]:.3f}"[1:] for level in ("easy", "medium", "hard"))
            assert ours == f"{figures} (test part)"
        else:
            assert ours == "not measured"


def test_the_page_of_ratios_is_that_of_the_results():
    from tests.benchmarks.page import PAGE, text

    assert PAGE.read_text(encoding="utf-8") == text()


def test_each_notebook_opens_the_next_and_the_last_the_first():
    notebooks = sorted((ROOT / "notebooks").glob("*.ipynb"))
    assert len(notebooks) == 10
    for path, following in zip(notebooks, [*notebooks[1:], notebooks[0]], strict=True):
        last = json.loads(path.read_text(encoding="utf-8"))["cells"][-1]
        assert last["cell_type"] == "markdown"
        assert f"]({following.name})" in "".join(last["source"]), path.name
