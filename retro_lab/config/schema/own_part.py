"""Parts of a user's own: a class outside this package, by its import path, and its settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from omegaconf import MISSING

from ..consent import allow, is_allowed
from .setting import setting


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
