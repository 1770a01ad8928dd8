"""How long exact overlap takes, and what it holds, as the database grows.

    python benchmarks/overlap.py --corpus my.jsonl.zst --bytes 13000000 26000000 52000000

Each size is a database beside the same amount of evaluated text (`--evaluated` bytes), prepared in
a temporary store; the overlap stage alone is then built in a process of its own, by the code that
`eval=exact` runs.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

from retro_lab.config.compose import load_config
from retro_lab.run.data.graph import DataGraph
from retro_lab.run.evaluating.probes import matching_runs


def main() -> None:
    arguments = _arguments()
    if arguments.overrides:
        print(json.dumps(measure(arguments.overrides)))
        return
    print("| database, bytes | tokens | evaluated, tokens | s | tokens of both a s | peak MiB |")
    print("|---:|---:|---:|---:|---:|---:|")
    for size in arguments.bytes:
        with tempfile.TemporaryDirectory() as store:
            found = _of_size(arguments.corpus, size, arguments.evaluated, store)
        tokens = found["database"] + found["evaluated"]
        print(
            f"| {size:,} | {found['database']:,} | {found['evaluated']:,} | {found['seconds']:.1f} "
            f"| {tokens / found['seconds']:,.0f} | {found['peak'] / 2**20:,.0f} |",
            flush=True,
        )


def measure(overrides: Sequence[str]) -> dict[str, float]:
    """Seconds and peak resident bytes of the stage; its chunks are built before the clock runs."""
    config = load_config(list(overrides))
    graph = DataGraph(config)
    chunks = graph.own.chunks.data
    begun = time.perf_counter()
    matching_runs(graph, config)
    return {
        "seconds": time.perf_counter() - begun,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "database": int((chunks.token_bytes[chunks.chunks_of("train")] > 0).sum()),
        "evaluated": int((chunks.token_bytes[chunks.chunks_of("test")] > 0).sum()),
    }


def _of_size(corpus: str, size: int, evaluated: int, store: str) -> dict[str, float]:
    whole = size + evaluated
    overrides = [
        *("corpus=jsonl", f"corpus.path={corpus}", "corpus.id_field=null"),
        f"corpus.max_bytes={whole}",
        *(f"corpus.split.test={evaluated / whole:.4f}", "corpus.split.validation=0.01"),
        *("retriever=random", "eval=exact", f"store.dir={store}"),
    ]
    _ = DataGraph(load_config(overrides)).own.chunks.data
    command = [sys.executable, __file__, "--corpus", corpus, "--overrides", *overrides]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--corpus", required=True, help="JSON lines, a pattern may name several files"
    )
    parser.add_argument("--bytes", type=int, nargs="+", default=[13_000_000, 26_000_000])
    parser.add_argument("--evaluated", type=int, default=2_500_000, help="bytes of evaluated text")
    parser.add_argument("--overrides", nargs="+", help=argparse.SUPPRESS)  # of a size's own process
    return parser.parse_args()


if __name__ == "__main__":
    main()
