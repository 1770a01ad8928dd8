"""Contract: the notebooks of the documentation run from top to bottom as they stand."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

NOTEBOOKS = Path(__file__).parents[2] / "docs" / "notebooks"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the notebooks run; the second opens the run that the first has trained."""
    return tmp_path_factory.mktemp("notebooks")


@pytest.mark.parametrize("name", ["strings_to_a_model", "figures_of_a_run"])
def test_a_notebook_runs(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.delenv("RETRO_LAB_STORE", raising=False)
    cells = orjson.loads((NOTEBOOKS / f"{name}.ipynb").read_bytes())["cells"]
    names: dict[str, object] = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)


def test_every_notebook_is_run() -> None:
    assert {path.stem for path in NOTEBOOKS.glob("*.ipynb")} == {
        "strings_to_a_model",
        "figures_of_a_run",
    }
