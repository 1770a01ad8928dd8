"""Tables of scores as Parquet files: written whole or not at all, read with a word on repair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from retro_lab.config.errors import UserError


def write_columns(columns: Mapping[str, pa.Array], path: Path) -> None:
    """Writes a file atomically; the same columns give the same bytes."""
    temporary = path.with_name(path.name + ".partial")
    pq.write_table(pa.table(dict(columns)), temporary, compression="zstd")
    temporary.replace(path)


def read_columns(path: Path, required: Sequence[str], fix: str) -> pa.Table:
    """The table of a file.

    Raises:
        UserError: no such file, a damaged one, or one without a required column; says to `fix`.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist", fix=fix)
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} cannot be read as Parquet: {error}", fix=fix) from error
    missing = [name for name in required if name not in table.column_names]
    if missing:
        raise UserError(f"{path} has no column {', '.join(missing)}", fix=fix)
    return table
