"""Contract: a module imports only from layers above its own, and each layer keeps its promises:
`nn` imports only itself and never Hydra, Lightning or FAISS; `config` never torch; `retrieval`
never Lightning; the two scripts are short and import nothing before `main`.
"""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
PACKAGE = REPO / "retro_lab"
RANK = {
    "config": 1,
    "nn": 1,
    "store": 2,
    "huggingface": 2,
    "text": 3,
    "retrieval": 4,
    "data": 5,
    "testing": 5,
    "memory": 6,
    "evaluation": 7,
    "training": 8,
    "run": 9,
    "audit": 10,
    "rivals": 10,
    "planner": 10,
    "sweeps": 10,
    "api": 11,
    "commands": 12,
}
LIGHTNING = {"pytorch_lightning", "lightning", "lightning_fabric"}
FORBIDDEN = {
    "config": {"torch", "faiss", *LIGHTNING},
    "nn": {"hydra", "omegaconf", "faiss", *LIGHTNING},
    "retrieval": LIGHTNING,
    "memory": {"hydra", "omegaconf", *LIGHTNING},
}
MODULES = sorted(PACKAGE.rglob("*.py"))


def imported_modules(source: str, module: str) -> set[str]:
    """Dotted names that `source` imports anywhere, functions included; relative ones resolved."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = module.split(".")[: -node.level]
                base = ".".join([*above, base] if base else above)
            found |= {f"{base}.{alias.name}" for alias in node.names}
    return found


def violations(source: str, module: str) -> list[str]:
    """Imports of `module` (a dotted name; packages end in `.__init__`) that break the order."""
    layer = module.split(".")[1]
    problems = []
    for name in sorted(imported_modules(source, module)):
        top, _, rest = name.partition(".")
        if top in FORBIDDEN.get(layer, set()):
            problems.append(f"{module} imports {name}")
        other = rest.partition(".")[0]
        if top == "retro_lab" and other in RANK and other != layer and RANK[other] >= RANK[layer]:
            problems.append(f"{module} imports {name}, which is not above it")
        if layer == "nn" and top == "retro_lab" and other in RANK and other != "nn":
            problems.append(f"{module} imports {name}, but nn imports only itself")
    return problems


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(REPO).with_suffix("").parts)


KNOWN = {dotted(path).removesuffix(".__init__") for path in MODULES}


def test_every_package_has_a_layer() -> None:
    packages = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert packages <= set(RANK)
    assert {"config", "nn"} <= packages


def test_modules_keep_the_order() -> None:
    below = (path for path in MODULES if path.parent != PACKAGE)
    sources = {dotted(path): path.read_text(encoding="utf-8") for path in below}
    assert [problem for m, s in sources.items() for problem in violations(s, m)] == []


def test_package_roots_import_only_config() -> None:
    for path in (PACKAGE / "__init__.py", PACKAGE / "__main__.py"):
        ours = {
            name
            for name in imported_modules(path.read_text(encoding="utf-8"), dotted(path))
            if name.startswith("retro_lab.")
        }
        ours -= {name for name in ours if name.startswith("retro_lab.api.")}  # on first use
        assert all(name.startswith("retro_lab.config.") for name in ours)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("retro_lab.nn.cca", "from retro_lab.config.schema import CcaConfig"),
        ("retro_lab.nn.cca", "import omegaconf"),
        ("retro_lab.nn.cca", "def f():\n    import pytorch_lightning.callbacks"),
        ("retro_lab.config.schema.cca", "from torch import nn"),
        ("retro_lab.config.schema.cca", "from ...nn import Retro"),
        ("retro_lab.retrieval.base", "from ..data import windows"),
        ("retro_lab.retrieval.base", "import lightning"),
        ("retro_lab.text.__init__", "from ..retrieval.base import Retriever"),
        ("retro_lab.data.windows", "from retro_lab import run"),
    ],
)
def test_a_wrong_import_is_seen(module: str, source: str) -> None:
    assert violations(source, module)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("retro_lab.nn.cca", "from .layers import norm\nimport torch"),
        ("retro_lab.data.windows", "from ..text.chunks import ChunkStore\nimport torch"),
        ("retro_lab.run.model", "from retro_lab import nn, training"),
        ("retro_lab.text.__init__", "from .chunks import ChunkStore"),
    ],
)
def test_a_right_import_passes(module: str, source: str) -> None:
    assert violations(source, module) == []


def circles(imports: dict[str, set[str]]) -> list[list[str]]:
    """Modules that import each other in a ring, each ring sorted."""
    sorter = TopologicalSorter(imports)
    try:
        sorter.prepare()
    except CycleError as error:
        ring = error.args[1]
        return [sorted(set(ring))]
    return []


def needed_at_run_time(source: str, module: str) -> set[str]:
    """Modules of the package that `source` imports, those for type checkers alone left out."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = [ast.Pass()]
    found = set()
    for name in imported_modules(ast.unparse(tree), module):
        parent = name.rpartition(".")[0]
        found |= {name} & KNOWN or {parent} & KNOWN
    return found - {module.removesuffix(".__init__"), "retro_lab"}


def test_no_modules_import_each_other() -> None:
    imports = {
        dotted(path).removesuffix(".__init__"): needed_at_run_time(
            path.read_text(encoding="utf-8"), dotted(path)
        )
        for path in MODULES
    }
    assert circles(imports) == []


def test_a_ring_is_seen() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
    assert circles({"a": {"b", "c"}, "b": {"c"}}) == []


def test_no_room_is_crowded() -> None:
    """At most 24 files lie directly in a folder: more can't be read as a list."""
    folders = {path.parent for path in MODULES}
    assert {str(f): n for f in folders if (n := len(list(f.glob("*.py")))) > 24} == {}


@pytest.mark.parametrize("script", ["train.py", "evaluate.py"])
def test_scripts_are_short_and_import_late(script: str) -> None:
    source = (REPO / script).read_text(encoding="utf-8")
    top_level = [n for n in ast.parse(source).body if isinstance(n, (ast.Import, ast.ImportFrom))]
    imported = {alias.name for node in top_level for alias in node.names}
    assert len(source.splitlines()) < 30
    assert imported == {"annotations", "sys"}
