"""Explains why a stage must be built: its differences from the nearest stored result."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from retro_lab.config.serialise import flatten

from .integrity import find_damage, read_manifest
from .stage import JSON, Stage, canonical_json

_ABSENT = "(absent)"


@dataclass(frozen=True)
class Explanation:
    """Whether a stage is stored, and why not."""

    stage: str
    key: str
    hit: bool
    reasons: tuple[str, ...] = ()

    def line(self) -> str:
        """A log line: `chunks/ab12...  miss  chunk_size: 64 -> 32`."""
        words = [f"{self.stage}/{self.key}", "hit" if self.hit else "miss"]
        return "  ".join([*words, "; ".join(self.reasons)]).rstrip()


def explain_stage(root: Path, stage: Stage) -> Explanation:
    """Hit or miss of a stage, by manifest and file sizes.

    A miss is compared with the stored result of the same stage name that has the fewest
    differences, the newest of several. Differences read "stored -> wanted".
    """
    folder = root / stage.name / stage.key
    if folder.is_dir():
        reasons = [f"damaged: {text}" for text in _damage(folder)]
        hit = not reasons
    else:
        reasons, hit = _differences(root, stage), False
    return Explanation(stage.name, stage.key, hit, tuple(reasons))


def _damage(folder: Path) -> list[str]:
    try:
        return find_damage(folder, read_manifest(folder), checksums=False)
    except ValueError as error:
        return [str(error)]


def _differences(root: Path, stage: Stage) -> list[str]:
    siblings = _siblings(root / stage.name)
    if not siblings:
        return [f"no {stage.name} stored yet"]
    candidates = [(_compare(root, sibling["spec"], stage), sibling) for sibling in siblings]
    # Siblings are sorted newest first, and min returns the first of equals.
    return min(candidates, key=lambda candidate: len(candidate[0]))[0]


def _siblings(folder: Path) -> list[JSON]:
    manifests = []
    for path in sorted(folder.glob("*/manifest.json")):
        try:
            manifests.append(read_manifest(path.parent))
        except ValueError:
            continue  # unfinished or damaged, so unfit for a comparison
    return sorted(manifests, key=lambda manifest: manifest["created"], reverse=True)


def _compare(root: Path, stored: JSON, stage: Stage) -> list[str]:
    wanted = stage.spec
    differences = _changes(_versions(stored), _versions(wanted))
    differences += _changes(flatten(stored["fields"]), flatten(wanted["fields"]))
    differences += _changes(stored["inputs"], wanted["inputs"], prefix="input ")
    for role in sorted({*stored["parents"], *wanted["parents"]}):
        old, new = stored["parents"].get(role), wanted["parents"].get(role)
        if old == new:
            continue
        if new is not None and not (root / new["stage"] / new["key"]).is_dir():
            differences.append(f"parent {role} is itself a miss")
        else:
            differences += _changes({role: _name(old)}, {role: _name(new)}, prefix="parent ")
    return differences


def _versions(spec: JSON) -> dict[str, JSON]:
    return {"store schema": spec["schema"], "version": spec["version"]}


def _changes(stored: dict[str, JSON], wanted: dict[str, JSON], prefix: str = "") -> list[str]:
    return [
        f"{prefix}{name}: {_show(stored, name)} -> {_show(wanted, name)}"
        for name in sorted({*stored, *wanted})
        if name not in stored or name not in wanted or stored[name] != wanted[name]
    ]


def _show(values: JSON, name: str) -> str:
    if name not in values:
        return _ABSENT
    text = values[name] if isinstance(values[name], str) else canonical_json(values[name])
    return text if len(text) <= 40 else f"{text[:37]}..."


def _name(parent: JSON) -> str:
    return _ABSENT if parent is None else f"{parent['stage']}/{parent['key']}"
