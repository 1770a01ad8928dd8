"""The data that a run was trained on, found in the store by the keys of its lineage.

    lineage.json -> neighbours -> chunks or database -> corpora and tokenizer

Raw text, tokenizer folders and embedder weights are not read, since they may have moved or changed.
Only stages missing from the store are built again, if that is still possible.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from retro_lab.config.errors import UserError
from retro_lab.store import Artifact, ArtifactStore, Stage


class _LostError(UserError):
    """A stage is missing and can't be rebuilt; enclosing `needed` contexts pass the error on."""


@dataclass(frozen=True)
class Recorded:
    """The recorded stage keys of a run.

    Attributes:
        run: its directory, for messages.
        store: holds the stages.
        keys: key by role. A role is the stage's name, followed by the corpus's name for a database
            corpus (`corpus`, `corpus books`).
    """

    run: Path
    store: ArtifactStore
    keys: Mapping[str, str]

    def find(self, role: str, make: Callable[[], Artifact | Stage]) -> Artifact | Stage:
        """The stored result of a role, or the stage that rebuilds the same result.

        Args:
            make: returns the stage of the current inputs.

        Raises:
            UserError: the store lacks the result, and the current inputs don't give the same key.
        """
        key = self.keys.get(role)
        if key is None:
            return make()
        name = role.partition(" ")[0]
        found = self.store.find(name, key)
        if found is not None:
            return found
        with self.needed(role):
            made = make()
            if made.key != key:
                raise UserError(f"what it is made from is not what it was (key {made.key})")
        return made

    @contextmanager
    def needed(self, role: str) -> Iterator[None]:
        """Adds to a `UserError` inside that a recorded stage is missing from the store."""
        try:
            yield
        except _LostError:
            raise
        except UserError as error:
            if role not in self.keys:
                raise
            name = role.partition(" ")[0]
            raise _LostError(
                f"{self.run} was trained on {name}/{self.keys[role]}, which the store "
                f"{self.store.root} doesn't hold, and it can't be made again: {error.message}",
                fix="name the store that holds it, RETRO_LAB_STORE=<folder> before the command; or "
                "put the raw text back as it was when the run was trained",
            ) from error


def recorded_keys(store: ArtifactStore, lineage: Mapping[str, str]) -> dict[str, str]:
    """Key by role, as in `Recorded.keys`, of all stages in a run's lineage.

    A lineage joins several keys of one stage with `+`. The manifests of the stages built from them
    assign each key to its corpus.
    """
    keys = {stage: key for stage, key in lineage.items() if "+" not in key}
    search = _parents(store, "neighbours", keys.get("neighbours"))
    keys |= {role: key for role, (stage, key) in search.items() if stage == "embeddings"}
    if "chunks" in search:
        searched, key = search["chunks"]
        keys |= {role: found for role, (_, found) in _parents(store, searched, key).items()}
        if searched == "chunks":
            keys["chunks"] = key
    for role in [role for role in keys if role.partition(" ")[0] == "chunks"]:
        parents = _parents(store, "chunks", keys[role])
        if "corpus" in parents:
            keys[role.replace("chunks", "corpus", 1)] = parents["corpus"][1]
    return keys


def _parents(store: ArtifactStore, stage: str, key: str | None) -> dict[str, tuple[str, str]]:
    """(stage, key) of each parent of a stored result, by role; empty if the result is missing."""
    spec = None if key is None else store.spec(stage, key)
    parents = {} if spec is None else spec["parents"]
    return {role: (each["stage"], each["key"]) for role, each in parents.items()}
