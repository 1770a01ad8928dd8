"""Parts of a user's own: a class outside this package, by its import path, and its settings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from omegaconf import MISSING

from ..consent import allow, is_allowed
from ..errors import UserError, as_text, problem
from .setting import setting

VALIDATED = tuple(f"val/{part}{name}" for part in ("", "on/", "off/") for name in ("loss", "bpb"))
"""Figures of a validation that may be monitored; `on` and `off` are of a run with retrieval."""


@dataclass
class OwnPart:
    """A class (for a metric: a function) outside this package.

    Attributes:
        kind: what it is, in the singular.
        facts: class attributes that become settings of the same name.
        cls: `module:Class`, or the name of an installed entry point. On the command line the key is
            written `class`, a name that Python reserves.
        settings: the class's own settings, by name.
        source: SHA-256 of the file that defines the class, filled in when the class is typed; an
            edited file is another run.
    """

    kind: ClassVar[str]
    facts: ClassVar[tuple[str, ...]] = ()

    cls: str = MISSING
    settings: dict[str, Any] = setting({})
    source: str | None = None

    def __getstate__(self) -> dict[str, Any]:
        """The fields, and consent: a worker process imports what its parent may import."""
        return {**vars(self), "allowed": is_allowed(self.cls)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        allowed = state.pop("allowed")
        vars(self).update(state)
        if allowed:
            allow(self.cls)


@dataclass
class OwnCallback(OwnPart):
    """A Lightning callback; its settings are keyword arguments."""

    kind: ClassVar[str] = "callback"


@dataclass
class OwnMetric(OwnPart):
    """A function of the scored chunks; its settings are keyword arguments."""

    kind: ClassVar[str] = "metric"


@dataclass
class OwnParts:
    """Several parts of one kind.

    Attributes:
        part: the schema of each.
        cls: import paths, or names of installed entry points; written `class` on the command line.
        settings: of each part, by the name of its class or function.
        sources: `OwnPart.source` of each part, by its import path; not to be set.
    """

    part: ClassVar[type[OwnPart]]

    cls: list[str] = setting([])
    settings: dict[str, Any] = setting({})
    sources: dict[str, str] = setting({})

    @property
    def named(self) -> dict[str, OwnPart]:
        """The parts by the name of their class or function, in order."""
        named = {path.rpartition(":")[2]: path for path in self.cls}
        return {
            name: self.part(path, self.settings.get(name, {}), self.sources.get(path))
            for name, path in named.items()
        }

    def problems(self, prefix: str) -> Iterator[UserError]:
        names = list(self.named)
        if len(names) < len(self.cls):
            rule = "names two parts alike; figures and settings go by that name"
            yield problem(f"{prefix}class", self.cls, rule, "give them different names")
        for name, settings in self.settings.items():
            key = f"{prefix}settings.{name}"
            if name not in names:
                rule = f"is of no part in {prefix}class={as_text(self.cls)}"
                yield problem(key, settings, rule, f"{prefix}class=[module:{name}]")
            elif not isinstance(settings, dict):
                yield problem(key, settings, "must be settings by name", f"{key}.<setting>=<value>")


@dataclass
class EarlyStoppingConfig:
    """Ends a training whose monitored figure no longer improves (Lightning's EarlyStopping).

    Attributes:
        monitor: a logged figure that is better when it is lower.
        patience: validations without an improvement.
        min_delta: smallest change that counts as one.
    """

    monitor: str = setting("val/loss", choices=VALIDATED)
    patience: int = setting(3, at_least=1)
    min_delta: float = setting(0.0, at_least=0)


@dataclass
class CallbacksConfig(OwnParts):
    """Callbacks of Lightning and of the user's own, in every training of a run.

    Attributes:
        early_stopping: null trains all steps.
    """

    part: ClassVar[type[OwnPart]] = OwnCallback

    early_stopping: EarlyStoppingConfig | None = None


@dataclass
class MetricsConfig(OwnParts):
    """Figures of the user's own, computed from the scored chunks."""

    part: ClassVar[type[OwnPart]] = OwnMetric
