"""Parquet files of scores: written atomically, verified by checksum when read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from retro_lab.config.errors import UserError
from retro_lab.config.refusals import is_refused
from retro_lab.store.checksums import check_recorded, recorded


def write_columns(columns: Mapping[str, pa.Array], path: Path) -> None:
    """Writes a Parquet file atomically, with its SHA-256 recorded and a checksum in every page.

    The same columns give the same bytes.
    """
    with recorded(path) as temporary:
        table = pa.table(dict(columns))
        pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)


def read_columns(path: Path, required: Sequence[str], fix: str) -> pa.Table:
    """Reads a Parquet file.

    Args:
        fix: advice of the error messages.

    Raises:
        UserError: the file is missing, damaged or without a required column.
        OSError: the system refuses access to the file.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist", fix=fix)
    check_recorded(path, fix)
    try:
        table = pq.read_table(path, page_checksum_verification=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        if is_refused(error):
            raise
        raise UserError(f"{path} cannot be read as Parquet: {error}", fix=fix) from error
    missing = [name for name in required if name not in table.column_names]
    if missing:
        raise UserError(f"{path} has no column {', '.join(missing)}", fix=fix)
    return table
