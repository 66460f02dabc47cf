"""Imports point one way: the layer order of the package, and who may import which heavy library.

Only source text is read here (`ast`), so an import that hides inside a function counts as well.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "mmjax"

# From the ground up: each package has one rank, and imports packages of lower ranks alone. Packages of one rank stand
# side by side. The modules beside the packages make up the ground floor, but for the entry points on top.
RANKS = [
    ["ground floor"],
    ["nn", "diffusion", "faces"],
    ["models"],
    ["conversion"],
    ["weights"],
    ["encoders"],
    ["records", "evaluation", "pretrained"],
    ["synthetic", "preparation", "training", "sampling"],
    ["serving"],
    ["entry points"],
]
RANK = {name: rank for rank, names in enumerate(RANKS) for name in names}
GROUND_FLOOR = {
    *(
        "collectives",
        "colours",
        "config",
        "credentials",
        "deinterlacing",
        "device_memory",
        "errors",
        "files",
        "locks",
        "media",
        "model_settings",
        "outputs",
        "page_style",
        "pictures",
        "seeds",
        "sharding",
        "trainable",
        "training_settings",
        "peers",
        "precision",
        "provenance",
        "processes",
        "quiet",
        "roll_call",
        "texts",
        "trees",
        "user_tables",
        "vae_experiment",
        "validation",
        "versions",
        "video",
    ),
}
ENTRY_POINTS = {
    "bench",
    "bench_memory",
    "bench_parts",
    "bench_plan",
    "cli",
    "convert",
    "demo",
    "evaluate",
    "inspect",
    "prepare",
    "quickstart",
    "sample",
    "tiny",
    "train",
}

NOWHERE = {"diffusers", "tensorflow", "clu", "skvideo", "requests"}
LAZY_ONLY = {"torch": ("mmjax.conversion",)}  # for a .bin or .pth that has no safetensors twin
ONLY_IN = {name: ("mmjax.faces",) for name in ("insightface", "onnxruntime")}
ONLY_IN |= {"gradio": ("mmjax.serving.page",), "starlette": ("mmjax.serving.page", "mmjax.serving.routes")}
ONLY_IN["cv2"] = ("mmjax.faces", "mmjax.preparation", "mmjax.evaluation")  # flow, resizing, cuts
WITHOUT_JAX = (
    "mmjax.errors",
    "mmjax.validation",
    "mmjax.config",
    "mmjax.files",
    "mmjax.outputs",
    "mmjax.media",
    "mmjax.pictures",
    "mmjax.provenance",
    "mmjax.credentials",
    "mmjax.video",
    "mmjax.records",
    "mmjax.synthetic",
    "mmjax.evaluation",
    "mmjax.faces",
    *(f"mmjax.encoders.{name}" for name in ("interface", "build", "expected", "fingerprints", "placeholders", "pixel")),
    *(f"mmjax.encoders.{name}" for name in ("labels", "batching", "embedding_cache", "lazy", "embedders")),
    "mmjax.preparation.inputs",  # what its worker processes run
    "mmjax.preparation.analysis",
    "mmjax.preparation.processes.worker",
    "mmjax.preparation.writing",
)


def modules():
    found = {}
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text(), str(path))
    return found


MODULES = modules()


def imports(tree, package, lazy=True):
    """Names of imported modules; `from a import b` gives `a.b` when that is a module and `a` otherwise."""
    for node in _walk(tree, lazy):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                yield whole if whole in MODULES else base


def _walk(node, lazy):
    yield node
    for child in ast.iter_child_nodes(node):
        if lazy or not (isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) or _for_types_alone(child)):
            yield from _walk(child, lazy)


def _for_types_alone(node):
    """`if TYPE_CHECKING:`, whose imports are never run."""
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def package_of(name):
    path = ROOT / Path(*name.split("."))
    return name if path.is_dir() else name.rpartition(".")[0]


def place(name):
    """The package of a module, "ground floor" or "entry points"."""
    parts = name.split(".")
    if len(parts) > 1 and parts[1] in RANK:
        return parts[1]
    if len(parts) == 1 or (len(parts) == 2 and parts[1] in ENTRY_POINTS):
        return "entry points"  # `mmjax` itself offers what all others have, lazily
    if len(parts) == 2 and parts[1] in GROUND_FLOOR:
        return "ground floor"
    raise AssertionError(f"{name} has no rank: add its package to RANKS in {Path(__file__).name}")


def inside(name, places):
    return any(name == place or name.startswith(place + ".") for place in places)


def broken_ranks(name, imported):
    mine, its = place(name), place(imported)
    if mine != its and RANK[its] >= RANK[mine]:
        yield f"{name} (rank {RANK[mine]}) imports {imported} (rank {RANK[its]})"


def broken_libraries(name, library, lazy):
    if library in NOWHERE:
        yield f"{name} imports {library}, which only tests may"
    if library in LAZY_ONLY and not (lazy and inside(name, LAZY_ONLY[library])):
        yield f"{name} imports {library}; allowed inside functions of {', '.join(LAZY_ONLY[library])} alone"
    if library in ONLY_IN and not inside(name, ONLY_IN[library]):
        yield f"{name} imports {library}; allowed in {', '.join(ONLY_IN[library])} alone"


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_one_way(name):
    own = [found for found in imports(MODULES[name], package_of(name)) if inside(found, [PACKAGE])]
    assert not [line for found in own for line in broken_ranks(name, found)]


@pytest.mark.parametrize("name", MODULES)
def test_heavy_libraries_stay_in_their_place(name):
    package, tree = package_of(name), MODULES[name]
    eager = {found.partition(".")[0] for found in imports(tree, package, lazy=False)}
    everything = {found.partition(".")[0] for found in imports(tree, package)}
    assert not [line for found in everything for line in broken_libraries(name, found, lazy=found not in eager)]


def loaded_by(name):
    """Every module that importing `name` loads, parents and outsiders included; lazy imports do not load."""
    seen, open_ = set(), [name]
    while open_:
        module = open_.pop()
        if module in seen:
            continue
        seen.add(module)
        if module in MODULES:
            open_ += imports(MODULES[module], package_of(module), lazy=False)
            open_ += [module.rpartition(".")[0]] if "." in module else []
    return seen


@pytest.mark.parametrize("name", [name for name in MODULES if inside(name, WITHOUT_JAX)])
def test_data_is_read_without_jax(name):
    """Grain's workers import these; a worker that imports JAX takes the accelerator from the trainer."""
    heavy = {"jax", "flax", "optax", "orbax"}
    assert not {found for found in loaded_by(name) if found.partition(".")[0] in heavy}


def test_the_table_of_ranks(capsys):
    """Every package stands in the table; printed with `pytest -s`."""
    lines = [f"{rank}  {', '.join(names)}" for rank, names in enumerate(RANKS)]
    with capsys.disabled():
        print("", *lines, sep="\n")
    packages = {path.parent.name for path in (ROOT / PACKAGE).glob("*/__init__.py")}
    assert packages == set(RANK) - {"ground floor", "entry points"}


def test_modules_do_not_import_each_other_in_circles():
    graph = {
        name: {found for found in imports(tree, package_of(name), lazy=False) if found in MODULES and found != name}
        for name, tree in MODULES.items()
    }
    while leaves := [name for name, needs in graph.items() if not needs]:
        for leaf in leaves:
            del graph[leaf]
        graph = {name: needs - set(leaves) for name, needs in graph.items()}
    assert not graph, f"these import each other: {', '.join(sorted(graph))}"


def test_the_rules_catch_what_they_should():
    """A rule that never fires holds nothing."""
    assert list(broken_libraries("mmjax.models.cogvideox.transformer", "diffusers", lazy=True))
    assert list(broken_libraries("mmjax.conversion.tables", "torch", lazy=False))
    assert not list(broken_libraries("mmjax.conversion.tables", "torch", lazy=True))
    assert list(broken_libraries("mmjax.media", "cv2", lazy=True))
    assert list(broken_libraries("mmjax.preparation.analysis.item", "onnxruntime", lazy=True))
    tree = ast.parse("from . import config\nfrom .. import trees\ndef f():\n    import torch\n")
    assert list(imports(tree, "mmjax.nn", lazy=False)) == ["mmjax.nn", "mmjax.trees"]
    assert "torch" in list(imports(tree, "mmjax.nn"))
    tree = ast.parse("if TYPE_CHECKING:\n    import jax\nif True:\n    import flax\n")
    assert list(imports(tree, "mmjax.nn", lazy=False)) == ["flax"]
    with pytest.raises(AssertionError, match="has no rank"):
        place("mmjax.stray")
