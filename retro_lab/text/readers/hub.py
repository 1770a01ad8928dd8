"""Corpus `hf`: a dataset of the Hugging Face hub, or a local one that `datasets` can load."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import orjson

from retro_lab.config.errors import UserError
from retro_lab.config.schema import HfCorpusConfig

from .base import Document, Fields, FileList, Malformed, MalformedRecord

if TYPE_CHECKING:
    from datasets import Dataset

_ROWS_A_BATCH = 256


class HubReader:
    """One document a row; a row without an id is named `<split>:<row>`, from 1."""

    def __init__(self, config: HfCorpusConfig) -> None:
        self.files = FileList([], {})  # `datasets` finds the files
        self._config = config
        self._fields = Fields(config.text_field, config.id_field)

    @property
    def fields(self) -> dict[str, str]:
        return self._fields.settings()

    def input_digest(self) -> dict[str, str]:
        """Digest of the rows, so that a renamed or mirrored dataset is the same input."""
        total = hashlib.sha256()
        for row in self._rows():
            total.update(orjson.dumps(row, default=str, option=orjson.OPT_APPEND_NEWLINE))
        return {self._config.hf_split: total.hexdigest()}

    def documents(self, malformed: Malformed) -> Iterator[Document]:
        name = self._config.hf_split
        for number, row in enumerate(self._rows(), 1):
            place = f"{self._config.path}, split {name}, row {number}"
            try:
                document = self._fields.document(row, f"{name}:{number}", place, None)
            except MalformedRecord as error:
                malformed.report(place, error.problem, error.fix)
            else:
                yield document

    def _rows(self) -> Iterator[dict[str, Any]]:
        for batch in self._dataset.iter(_ROWS_A_BATCH):
            columns = cast("dict[str, list]", batch)
            names = list(columns)
            for values in zip(*columns.values(), strict=True):
                yield dict(zip(names, values, strict=True))

    @cached_property
    def _dataset(self) -> Dataset:
        """The chosen split with only the needed columns."""
        dataset = _load(self._config)
        present = dataset.column_names
        if self._fields.text not in present:
            raise UserError(
                f"corpus.path={self._config.path}: no column {self._fields.text!r}; "
                f"the columns are: {', '.join(present)}",
                fix="corpus.text_field=<the column that holds the text>",
            )
        wanted = [name for name in dict.fromkeys(self._fields) if name in present]
        return dataset.select_columns(wanted)


def _load(config: HfCorpusConfig) -> Dataset:
    try:
        import datasets
        from datasets.exceptions import DatasetsError
    except ImportError as error:
        raise UserError(
            "corpus=hf needs the package `datasets`", fix='pip install -e ".[hf]"'
        ) from error
    folder = Path(config.path).expanduser()
    try:
        if (folder / "state.json").is_file():
            return datasets.Dataset.load_from_disk(str(folder))
        if (folder / "dataset_dict.json").is_file():
            return datasets.DatasetDict.load_from_disk(str(folder))[config.hf_split]
        name = str(folder) if folder.exists() else config.path
        loaded = datasets.load_dataset(
            name, config.subset, split=config.hf_split, revision=config.revision
        )
        return cast("Dataset", loaded)
    except (OSError, ValueError, KeyError, RuntimeError, DatasetsError) as error:
        raise UserError(
            f"corpus.path={config.path}: `datasets` can't load it: {error}",
            fix="check corpus.path, corpus.subset, corpus.hf_split and the network",
        ) from error
