"""What a run was trained on, found in the store by the keys of its lineage.

    lineage.json -> neighbours -> chunks or database -> corpora and tokenizer

The raw text, tokenizer folders and weights of embedders are not read for this: they may lie
elsewhere by now, or have changed. Only what the store has lost is made again, if it still can be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from retro_lab.config.errors import UserError
from retro_lab.store import Artifact, ArtifactStore, Stage


class _LostError(UserError):
    """Said of what was needed first; what was to be made from it says no more."""


@dataclass(frozen=True)
class Recorded:
    """The stages behind a run.

    Attributes:
        run: its directory, for messages.
        store: where they are kept.
        keys: key by role: the stage's name, followed by the corpus's where it is not the run's own
            (`corpus`, `corpus books`).
    """

    run: Path
    store: ArtifactStore
    keys: Mapping[str, str]

    def find(self, role: str, make: Callable[[], Artifact | Stage]) -> Artifact | Stage:
        """The stored result, or the stage that makes the same again.

        Args:
            make: reads whatever inputs there are now.

        Raises:
            UserError: the store has lost it, and it can't be made from what there is now.
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
        """Says of a failure inside why the raw input is read, and what helps in any command."""
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
    """Key by role, as of `Recorded`, of all that a run's lineage names.

    A lineage joins the keys of one stage's several results. Which of them is whose is told by the
    manifests of what was made from them.
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
    """(stage, key) of what a stored result was made from, by role; none where it isn't there."""
    spec = None if key is None else store.spec(stage, key)
    parents = {} if spec is None else spec["parents"]
    return {role: (each["stage"], each["key"]) for role, each in parents.items()}
