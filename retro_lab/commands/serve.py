"""`python -m retro_lab serve run=...`: answers searches in a run's database until it is stopped."""

from __future__ import annotations

import dataclasses
import ipaddress
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from retro_lab.config.console import print_error
from retro_lab.config.errors import EXIT_USER_ERROR, UserError
from retro_lab.config.schema import Config, HttpRetrieverConfig
from retro_lab.run.directory import RunDirectory

if TYPE_CHECKING:
    from retro_lab.retrieval.service.served_index import ServedIndex

USAGE = """usage: python -m retro_lab serve run=runs/... [key=value ...]

Serves the search index of a run: /search, /candidates (for retriever=http), /health, /docs.
  host=127.0.0.1   address to listen on; any but this machine's own needs an API key
  port=8765        0 takes a free one
  api_key=...      or RETRO_LAB_API_KEY in the environment, which other users cannot see
  store=DIR        where prepared data is, if it was moved since
  max_k=4096 max_queries=256 max_bytes=16777216 timeout=60   limits of a request
  curl -s localhost:8765/search --json '{"texts": ["def main():"], "k": 3}'"""

_LIMITS = {"max_k": int, "max_queries": int, "max_bytes": int, "timeout": float}
_MOST = 2**31 - 1
_KEYS = ("run", "host", "port", "api_key", "store", *_LIMITS)


def main(argv: Sequence[str]) -> int:
    """Exit code of `serve <argv>`."""
    if not argv or {"--help", "-h"} & set(argv):
        print(USAGE)
        return 0 if argv else EXIT_USER_ERROR
    try:
        serve(parse(argv))
    except UserError as error:
        print_error(str(error))
        return EXIT_USER_ERROR
    return 0


@dataclasses.dataclass(frozen=True)
class ServeOptions:
    """The command line.

    Attributes:
        run: run directory.
        host: address to listen on.
        port: TCP port.
        api_key: what clients must send; None lets everyone in.
        store: of prepared data; None for the run's own.
        limits: those of `retro_lab.retrieval.service.server.Limits` that were given.
    """

    run: Path
    host: str = "127.0.0.1"
    port: int = 8765
    api_key: str | None = None
    store: str | None = None
    limits: dict[str, int | float] = dataclasses.field(default_factory=dict)


def parse(argv: Sequence[str]) -> ServeOptions:
    """Options from `key=value` arguments.

    Raises:
        UserError: an unknown key or bad value, or an address that others reach without a key.
    """
    given = {}
    for argument in argv:
        key, equals, value = argument.partition("=")
        if key not in _KEYS or not equals or not value:
            raise UserError(f"serve has no argument {argument}", fix=f"keys: {', '.join(_KEYS)}")
        given[key] = value
    if "run" not in given:
        raise UserError("run has no value and needs one", fix="run=<directory of a run>")
    options = ServeOptions(
        run=Path(given["run"]),
        host=given.get("host", "127.0.0.1"),
        port=int(_number("port", given.get("port", "8765"), int, least=0, most=65535)),
        api_key=given.get("api_key") or os.environ.get("RETRO_LAB_API_KEY") or None,
        store=given.get("store") or os.environ.get("RETRO_LAB_STORE") or None,
        limits={
            key: _number(key, given[key], kind, least=1, most=_MOST)
            for key, kind in _LIMITS.items()
            if key in given
        },
    )
    if options.api_key is None and not _loopback(options.host):
        raise UserError(
            f"host={options.host}: anyone who reaches it could read the run's text",
            fix="set RETRO_LAB_API_KEY or api_key=<secret>, or keep host=127.0.0.1",
        )
    return options


def serve(options: ServeOptions) -> None:
    """Opens the run's index and answers until interrupted, then finishes what it began.

    Raises:
        KeyboardInterrupt: on Ctrl-C, once that is done.
        UserError: the run has no index, its data is lost, or the port is taken.
    """
    try:
        import uvicorn

        from retro_lab.retrieval.service.limits import Limits, connection_type
        from retro_lab.retrieval.service.server import create_app
    except ImportError as error:
        raise UserError(
            f"serve needs the package {error.name}", fix='pip install -e ".[serve]"'
        ) from None
    limits = Limits(**options.limits)  # type: ignore[arg-type]
    listener = _listen(options)
    served = open_index(RunDirectory(options.run), options.store)
    address = f"[{options.host}]" if ":" in options.host else options.host
    url = f"http://{address}:{listener.getsockname()[1]}"
    app = create_app(served, limits, options.api_key)
    print(f"{options.run}: {served.config.name} over {served.size:,} chunks")
    print(f"serving {url}   documentation {url}/docs   stop with Ctrl-C", flush=True)
    settings = uvicorn.Config(
        app,
        http=connection_type(limits),
        ws="none",
        log_level="warning",
        timeout_graceful_shutdown=int(limits.timeout) + 1,
    )
    uvicorn.Server(settings).run(sockets=[listener])


def open_index(run: RunDirectory, store: str | None = None) -> ServedIndex:
    """The index of a run and all that is needed to search it by text; built if it is not there.

    Raises:
        UserError: the run has no retriever, or one that is a service; or its data is lost.
    """
    from retro_lab.config.serialise import to_plain
    from retro_lab.retrieval.embed.embedders import build_embedder
    from retro_lab.retrieval.search.registry import load_retriever
    from retro_lab.retrieval.service.served_index import ServedIndex
    from retro_lab.run.finished import FinishedRun
    from retro_lab.store.stage import digest

    config = run.config()
    _check_served(config, run)
    if store is not None:
        config.store.dir = store
    opened, retriever = FinishedRun(run, config), config.retriever
    graph, vectors = opened.graph, retriever.needs_embeddings
    index = graph.index(retriever).artifact
    settings = {"index": index.key, "search": to_plain(retriever)}
    return ServedIndex(
        config=retriever,
        key=digest(settings)[:16],
        retriever=load_retriever(retriever, index.path),
        chunks=graph.chunks,
        corpus=graph.corpus,
        tokenizer=opened.tokenizer,
        embedder=build_embedder(graph.groups.embedder) if vectors else None,
        embeddings=graph.searched.embeddings if vectors else None,
    )


def _check_served(config: Config, run: RunDirectory) -> None:
    if not config.retriever.retrieves or isinstance(config.retriever, HttpRetrieverConfig):
        raise UserError(
            f"{run.path} has no index of its own: retriever={config.retriever.name}",
            fix="serve a run with another retriever, such as retriever=bm25",
        )


def _listen(options: ServeOptions) -> socket.socket:
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    try:
        return socket.create_server((options.host, options.port), family=family)
    except OSError as error:
        raise UserError(
            f"cannot listen on host={options.host} port={options.port}: {error.strerror}",
            fix="port=0 takes a free one",
        ) from error


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _number(key: str, value: str, kind: type, *, least: int, most: int) -> int | float:
    try:
        number = kind(value)
    except ValueError:
        number = None
    if number is None or not least <= number <= most:
        kind_name = "a whole number" if kind is int else "a number"
        raise UserError(
            f"{key}={value}: must be {kind_name} of at least {least} and at most {most}",
            fix=f"leave out {key} for its default",
        )
    return number
