"""What `prepare` holds in memory, stage by stage, for a corpus and for parts of it.

    python benchmarks/memory.py --corpus my.jsonl.zst --work memory --bytes 10000000 20000000

Runs the command in a process of its own with an empty store, and reads from /proc (Linux) what it
holds, in MiB. Anonymous memory can't be given back; pages of mapped files can, and count apart.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path

INTERVAL = 0.02  # seconds between two looks

Peaks = dict[str, tuple[int, int]]


def main() -> None:
    arguments = _arguments()
    measured = {size: peaks(arguments, size) for size in arguments.bytes}
    sizes = list(measured)
    print("| stage | " + " | ".join(f"{size:,} B" for size in sizes) + " |")
    print("|---|" + "---:|" * len(sizes))
    for stage in measured[sizes[-1]]:
        found = [measured[size].get(stage, (0, 0)) for size in sizes]
        cells = [f"{anonymous / 2**20:.0f} + {mapped / 2**20:.0f}" for anonymous, mapped in found]
        print(f"| {stage} | " + " | ".join(cells) + " |")


def peaks(arguments: argparse.Namespace, size: int) -> Peaks:
    """Largest anonymous and mapped memory in bytes by stage; `imports` is before the first."""
    store = arguments.work / f"store-{size}"
    shutil.rmtree(store, ignore_errors=True)
    command = [sys.executable, "-m", "retro_lab", "prepare", f"store.dir={store}"]
    command += [f"corpus.max_bytes={size}", *arguments.overrides]
    if arguments.corpus:
        command += ["corpus=jsonl", f"corpus.path={arguments.corpus.resolve()}"]
    found: Peaks = {}
    stage = "imports"
    with (arguments.work / f"log-{size}.txt").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        while process.poll() is None:
            stage = next((path.parent.name for path in store.glob("*/*.partial")), stage)
            anonymous, mapped = _held(process.pid)
            most = found.get(stage, (0, 0))
            found[stage] = max(most[0], anonymous), max(most[1], mapped)
            time.sleep(INTERVAL)
    if process.returncode:
        sys.exit(f"prepare failed: see {log.name}")
    shutil.rmtree(store)
    return found


def _held(process: int) -> tuple[int, int]:
    """Bytes of anonymous and of mapped memory that a process holds now."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:  # it has just ended
        return 0, 0
    fields = dict(line.split(":", 1) for line in lines)
    if "RssAnon" not in fields:
        return 0, 0
    return tuple(int(fields[name].split()[0]) * 1024 for name in ("RssAnon", "RssFile"))  # type: ignore[return-value]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for stores and logs")
    parser.add_argument("--corpus", type=Path, help="JSON lines; default: the standard library")
    parser.add_argument("--bytes", type=int, nargs="+", required=True, help="corpus.max_bytes")
    parser.add_argument("overrides", nargs="*", help="as of prepare")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    return arguments


if __name__ == "__main__":
    main()
