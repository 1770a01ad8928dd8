"""`python -m retro_lab serve run=...`: serves searches of a run's database over HTTP."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retro_lab.config import arguments
from retro_lab.config.arguments import key
from retro_lab.config.errors import UserError
from retro_lab.retrieval.service.address import is_loopback, listen
from retro_lab.run.directory import RunDirectory

if TYPE_CHECKING:
    from retro_lab.retrieval.service.served_index import ServedIndex

USAGE = """usage: python -m retro_lab serve run=runs/... [key=value ...]

Serves the search index of a run: /search, /candidates (for retriever=http), /health, /docs.
  host=127.0.0.1   address to listen on; other than loopback addresses need an API key
  port=8765        0 takes a free port
  api_key=...      or RETRO_LAB_API_KEY in the environment, which other users cannot see
  store=DIR        folder of prepared data, if moved
  max_k=4096 max_queries=256 max_bytes=16777216 timeout=60   limits of a request
  curl -s localhost:8765/search --json '{"texts": ["def main():"], "k": 3}'"""

_MOST = 2**31 - 1


@dataclass(frozen=True)
class ServeOptions:
    """The command's arguments.

    Attributes:
        run: run directory.
        host: address to listen on.
        port: TCP port.
        api_key: key that clients must send; None for open access.
        store: of prepared data; None for the run's own.
        max_k, max_queries, max_bytes, timeout: see `retro_lab.retrieval.service.limits.Limits`;
            None for its default.
    """

    run: Path = key(example="<directory of a run>")
    host: str = "127.0.0.1"
    port: int = key(8765, least=0, most=65535)
    api_key: str | None = field(default_factory=lambda: os.environ.get("RETRO_LAB_API_KEY") or None)
    store: str | None = field(default_factory=lambda: os.environ.get("RETRO_LAB_STORE") or None)
    max_k: int | None = key(None, least=1, most=_MOST)
    max_queries: int | None = key(None, least=1, most=_MOST)
    max_bytes: int | None = key(None, least=1, most=_MOST)
    timeout: float | None = key(None, least=1, most=_MOST)

    @property
    def limits(self) -> dict[str, Any]:
        """The given limits, by name."""
        names = ("max_k", "max_queries", "max_bytes", "timeout")
        return {n: getattr(self, n) for n in names if getattr(self, n) is not None}


def main(argv: Sequence[str]) -> int:
    """Exit code of `serve <argv>`."""
    return arguments.run(argv, USAGE, lambda argv: serve(parse(argv)))


def parse(argv: Sequence[str]) -> ServeOptions:
    """Options from `key=value` arguments.

    Raises:
        UserError: an unknown key, a bad value, or a non-loopback address without an API key.
    """
    options = arguments.parse(argv, ServeOptions, "serve")
    if options.api_key is None and not is_loopback(options.host):
        raise UserError(
            f"host={options.host}: anyone who reaches it could read the run's text",
            fix="set RETRO_LAB_API_KEY or api_key=<secret>, or keep host=127.0.0.1",
        )
    return options


def serve(options: ServeOptions) -> None:
    """Serves the run's index until interrupted, then completes the running requests.

    Raises:
        KeyboardInterrupt: on Ctrl-C, after the running requests.
        UserError: the run has no index, its data is lost, or the port is taken.
    """
    try:
        from retro_lab.retrieval.service.limits import Limits
        from retro_lab.retrieval.service.server import answer, create_app
    except ImportError as error:
        raise UserError(
            f"serve needs the package {error.name}", fix='pip install -e ".[serve]"'
        ) from None
    limits = Limits(**options.limits)
    listener = listen(options.host, options.port)
    served = open_index(RunDirectory(options.run), options.store)
    app = create_app(served, limits, options.api_key)
    address = f"[{options.host}]" if ":" in options.host else options.host
    url = f"http://{address}:{listener.getsockname()[1]}"
    print(f"{options.run}: {served.config.name} over {served.size:,} chunks")
    print(f"serving {url}   documentation {url}/docs   stop with Ctrl-C", flush=True)
    answer(app, listener, limits)


def open_index(run: RunDirectory, store: str | None = None) -> ServedIndex:
    """The run's index with all that a search by text needs; a missing index is built.

    Raises:
        UserError: the run has no retriever or an HTTP one, or its data is lost.
    """
    from retro_lab.run.finished import FinishedRun

    config = run.config()
    if store is not None:
        config.store.dir = store
    return FinishedRun(run, config).text_search()
