"""Records: plain data or a dataclass in a JSON file with a version and a checksum."""

from __future__ import annotations

from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

import orjson

from retro_lab.config.errors import UserError
from retro_lab.config.type_hints import type_hints
from retro_lab.store.checksums import check_recorded, recorded

T = TypeVar("T")
EVALUATE_AGAIN = "run the evaluation again; it writes the file anew"


def write_json(record: Any, path: Path) -> None:
    """Writes a record atomically: indented, keys sorted, a newline at the end; see `recorded`."""
    options = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE
    with recorded(path) as temporary:
        temporary.write_bytes(orjson.dumps(record, option=options))


def read_record(path: Path, version: int, fix: str, absent: str | None = None) -> dict[str, Any]:
    """Reads a record that `write_json` wrote, with its `schema_version`.

    Args:
        version: the expected schema version.
        fix: advice for a damaged file.
        absent: advice for a missing file; `fix` if None.

    Raises:
        UserError: the file is missing, damaged or of another schema version.
        OSError: the system refuses access to the file.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist", fix=absent or fix)
    check_recorded(path, fix)
    try:
        record = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        raise UserError(f"{path} cannot be read as JSON: {error}", fix=fix) from error
    if not isinstance(record, dict):
        raise UserError(f"{path} is damaged: it holds no JSON object", fix=fix)
    found = record.get("schema_version")
    if found != version:
        raise UserError(
            f"{path} has schema_version {found}, expected {version}",
            fix=f"{fix}, or read it with the version of retro_lab that wrote it",
        )
    return record


def load_record(kind: type[T], path: Path, version: int, fix: str, absent: str | None = None) -> T:
    """Reads a record as a dataclass, as `read_record` does; UserError also for a bad field."""
    record = read_record(path, version, fix, absent)
    try:
        return decode(kind, record, "")
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}", fix=fix) from error


def decode(kind: Any, value: Any, where: str) -> Any:
    """Converts a JSON value to type `kind`; ValueError names the field `where` it fails."""
    if kind is Any:
        return value
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):  # only "X | None" is used
        if value is None:
            return None
        return decode(next(a for a in arguments if a is not NoneType), value, where)
    if origin is dict and isinstance(value, dict):
        return {k: decode(arguments[1], v, f"{where}.{k}") for k, v in value.items()}
    if origin is list and isinstance(value, list):
        return [decode(arguments[0], v, f"{where}[{i}]") for i, v in enumerate(value)]
    if is_dataclass(kind) and isinstance(value, dict):
        hints = type_hints(kind)
        required = [f.name for f in fields(kind) if f.default is f.default_factory is MISSING]
        missing = [name for name in required if name not in value]
        if missing:
            raise ValueError(f"{where.lstrip('.') or 'it'} has no field {', '.join(missing)}")
        make: Any = kind
        known = [f.name for f in fields(kind) if f.name in value]
        return make(**{n: decode(hints[n], value[n], f"{where}.{n}") for n in known})
    if kind is float and type(value) is int:
        return float(value)
    if origin is None and type(value) is kind:
        return value
    expected = getattr(origin or kind, "__name__", str(kind))
    raise ValueError(f"{where.lstrip('.')} is {type(value).__name__}, expected {expected}")
