"""Where the YAML lies, in a checkout and in an installed wheel, and which options it offers."""

from __future__ import annotations

from pathlib import Path


def conf_dir() -> Path:
    """Folder of the configuration groups: beside the code in a wheel, else the checkout's."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "conf"
    return installed if installed.is_dir() else package.parent / "conf"


def options(group: str) -> list[str]:
    """Names that `<group>=<name>` takes, those of folders in it as folder/name; k2 before k10."""
    folder = conf_dir() / group
    names = [path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml")]
    return sorted(names, key=_natural)


def _natural(name: str) -> tuple[str, int]:
    stem = name.rstrip("0123456789")
    return stem, int(name[len(stem) :] or 0)


def groups() -> list[str]:
    """Names of the configuration groups, sorted."""
    return sorted(path.name for path in conf_dir().iterdir() if path.is_dir())


def options_of_schema(group: str, schema: str) -> list[str]:
    """Options of a group that are typed by `/schema/<schema>`."""
    folder = conf_dir() / group
    wanted = f"- /schema/{schema}@_here_\n"
    return [name for name in options(group) if wanted in (folder / f"{name}.yaml").read_text()]
