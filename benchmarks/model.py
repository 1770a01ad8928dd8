"""Times RETRO's training step and generation against two public implementations.

    python benchmarks/model.py [--json FILE] [--threads 2 1] [--repeats 5] [--quick]

All models have one shape (`contenders.Shape`), random tokens and neighbours, fp32, no dropout and
AdamW. Each runs in a process of its own; in every repeat each does one step in turn, so that what
else the machine does meets all of them, and figures are medians over the repeats. The peers are
installed from PyPI, without their dependencies, into an environment beside the runs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import sysconfig
import venv
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from contenders import CONTENDERS, NEIGHBOUR, PEERS, VOCABULARY, Ours, Shape

REPO = Path(__file__).resolve().parents[1]
ENVIRONMENT = REPO / "runs" / ".benchmarks" / "peers"
PACKAGES = ["retro-pytorch==0.3.9", "labml-nn==0.5.1", "einops==0.8.2", "labml==0.5.3"]
CONTEXTS = (64, 384)
NEW_TOKENS = 64
STEPS_FOR_MEMORY = 3
GROWTH = {"length": (256, 1024), "neighbours": (1, 4), "width": (128, 512), "layers": (4, 12)}


@dataclass
class Process:
    """A worker of a contender."""

    name: str
    compiled: bool = False
    shape: Shape = field(default_factory=Shape)

    def __post_init__(self) -> None:
        peer = self.name in PEERS
        python = str(ENVIRONMENT / "bin" / "python") if peer else sys.executable
        spec = {"name": self.name, "compiled": self.compiled, "shape": asdict(self.shape)}
        self._process = subprocess.Popen(
            [python, str(REPO / "benchmarks" / "worker.py"), json.dumps(spec)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": "" if peer else str(REPO)},
        )

    @property
    def title(self) -> str:
        """Name for tables."""
        return f"{self.name}, compiled" if self.compiled else self.name

    def ask(self, do: str, **request: Any) -> dict[str, float]:
        """What the worker answers."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps({"do": do} | request), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit(f"{self.title} stopped; its message stands above")
        return json.loads(answer)

    def close(self) -> None:
        """Ends the worker."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def main() -> None:
    options = arguments()
    install_peers()
    repeats = options.repeats
    report: dict[str, Any] = {"machine": machine(), "repeats": repeats, "shape": asdict(Shape())}
    show_machine(report["machine"])
    contenders = [Process(name) for name in CONTENDERS]
    if options.compiled:
        contenders += [Process(name, compiled=True) for name in ("ours", *PEERS)]
    ours = contenders[0]
    report["largest_difference_from_plain_operations_nats"] = ours.ask("exactness", threads=1)[
        "nats"
    ]
    report["steps"] = {}
    for threads in options.threads:
        report["steps"][threads] = steps(contenders, ours, threads, repeats)
        show_steps(report["steps"][threads], threads)
    eager = [process for process in contenders if not process.compiled]
    report["generation"] = generation(eager, options.threads[0], repeats)
    for process in contenders:
        process.close()
    show_generation(report["generation"])
    report["peak_bytes"] = memory(options.threads[0], repeats)
    show_memory(report["peak_bytes"])
    report["growth"] = growth(options.threads[0], repeats)
    show_growth(report["growth"])
    report |= goals(report, options.threads[0])
    show_goals(report)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--threads", type=int, nargs="+", default=[2, 1])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="three repeats, nothing compiled")
    options = parser.parse_args()
    options.compiled = not options.quick
    options.repeats = 3 if options.quick else options.repeats
    return options


def install_peers() -> None:
    """The peers' own environment; this one's packages come after theirs."""
    marker = ENVIRONMENT / "packages.txt"
    if marker.exists() and marker.read_text(encoding="utf-8").split() == PACKAGES:
        return
    venv.create(ENVIRONMENT, with_pip=True, clear=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    parent = ENVIRONMENT / "lib" / version / "site-packages" / "parent.pth"
    parent.write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    pip = [str(ENVIRONMENT / "bin" / "python"), "-m", "pip", "install", "-q", "--no-deps"]
    subprocess.run([*pip, *PACKAGES], check=True)
    marker.write_text("\n".join(PACKAGES), encoding="utf-8")


def steps(
    contenders: list[Process], ours: Process, threads: int, repeats: int
) -> dict[str, dict[str, float]]:
    """Seconds a training step, by the clock and of all cores, and the rate of matrix products."""
    plain = Process("ours", shape=Shape(neighbours=0))
    seen: dict[str, list[dict[str, float]]] = {}
    for _ in range(repeats):
        for process in contenders:
            seen.setdefault(process.title, []).append(process.ask("step", threads=threads))
        seen.setdefault("ours, retrieval off", []).append(plain.ask("step", threads=threads))
        seen.setdefault("gemm", []).append(ours.ask("gemm", threads=threads))
    plain.close()
    return {name: medians(figures) for name, figures in seen.items()}


def generation(contenders: list[Process], threads: int, repeats: int) -> dict[str, Any]:
    """Tokens a second by context, and seconds to read the context."""
    seen: dict[str, dict[int, list[dict[str, float]]]] = {}
    for _ in range(repeats):
        for process in contenders:
            for context in CONTEXTS:
                answer = process.ask(
                    "generate", threads=threads, context=context, tokens=NEW_TOKENS
                )
                answer["tokens_per_second"] = NEW_TOKENS / answer["wall"]
                seen.setdefault(process.title, {}).setdefault(context, []).append(answer)
    return {
        name: {context: medians(figures) for context, figures in by_context.items()}
        for name, by_context in seen.items()
    }


def memory(threads: int, repeats: int) -> dict[str, float]:
    """Peak resident bytes of fresh processes that only train for a few steps."""
    seen: dict[str, list[dict[str, float]]] = {}
    for _ in range(min(repeats, 3)):
        for name in CONTENDERS:
            process = Process(name)
            answer = process.ask("peak", threads=threads, steps=STEPS_FOR_MEMORY)
            seen.setdefault(name, []).append(answer)
            process.close()
    return {name: medians(figures)["bytes"] for name, figures in seen.items()}


def growth(threads: int, repeats: int) -> list[dict[str, Any]]:
    """How our step grows with each size: seconds, and operations, relative to the usual shape."""
    processes = [Process("ours")]
    changed = [("", 0)]
    for size, values in GROWTH.items():
        for value in values:
            processes.append(Process("ours", shape=Shape(**{size: value})))
            changed.append((size, value))
    seen: list[list[dict[str, float]]] = [[] for _ in processes]
    for _ in range(min(repeats, 3)):
        for process, figures in zip(processes, seen, strict=True):
            figures.append(process.ask("step", threads=threads))
    rows = []
    usual = medians(seen[0])["wall"]
    for (size, value), process, figures in zip(changed, processes, seen, strict=True):
        process.close()
        wall = medians(figures)["wall"]
        flops = step_flops(process.shape) / step_flops(Shape())
        rows.append(
            {"size": size, "value": value, "wall": wall, "time": wall / usual, "flops": flops}
        )
    return rows


def goals(report: dict[str, Any], threads: int) -> dict[str, float]:
    """The figures to reach, and the share of retrieval in time and in operations."""
    timed, peak = report["steps"][threads], report["peak_bytes"]
    speed = {
        name: by[CONTEXTS[-1]]["tokens_per_second"] for name, by in report["generation"].items()
    }
    on, off = timed["ours"]["wall"], timed["ours, retrieval off"]["wall"]
    flops_on, flops_off = step_flops(Shape()), step_flops(Shape(neighbours=0))
    return {
        "step_ratio_vs_fastest_peer": min(timed[name]["wall"] for name in PEERS) / on,
        "step_ratio_vs_fastest_peer_cpu": min(timed[name]["cpu"] for name in PEERS)
        / timed["ours"]["cpu"],
        "step_ratio_at_gemm_rate": min(timed[name]["wall"] for name in PEERS)
        * timed["gemm"]["wall"]
        / flops_on,
        "gemm_share": flops_on / on / timed["gemm"]["wall"],
        "memory_ratio_vs_leanest_peer": peak["ours"] / min(peak[name] for name in PEERS),
        "generation_ratio_at_384": speed["ours"] / max(speed[name] for name in PEERS),
        "retrieval_share_of_time": (on - off) / on,
        "retrieval_share_of_flops": (flops_on - flops_off) / flops_on,
        "retrieval_share_of_flops_needed": (flops_on - flops_off) / (flops_on - hidden_flops()),
        "step_flops": flops_on,
    }


def step_flops(shape: Shape) -> int:
    """Operations of our training step."""
    from retro_lab.nn.flops import count_flops

    config = Ours(shape).model.config
    return count_flops(config, shape.batch, shape.length, shape.neighbours).step


def hidden_flops() -> int:
    """Operations that custom counts and nobody needs: half the pairs of causal attention."""
    from retro_lab.nn.flops import PASSES_PER_STEP

    shape = Shape()
    return PASSES_PER_STEP * shape.layers * 2 * shape.batch * shape.length**2 * shape.width


def medians(figures: list[dict[str, float]]) -> dict[str, float]:
    """The median of each figure."""
    return {key: statistics.median(figure[key] for figure in figures) for key in figures[0]}


def machine() -> dict[str, Any]:
    """What this ran on."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "load": os.getloadavg()[0],
    }


def show_machine(found: dict[str, Any]) -> None:
    print(
        f"{found['cpu']}, {found['cores']} cores, {found['instructions']}, torch {found['torch']}; "
        f"load {found['load']:.1f} at the start"
    )
    print(f"vocabulary {VOCABULARY}, neighbours of {NEIGHBOUR} tokens, {Shape()}")


def show_steps(found: dict[str, dict[str, float]], threads: int) -> None:
    ours, gemm = found["ours"], found["gemm"]
    print(f"\nTraining step, {threads} thread(s)")
    print(
        "| model | s | CPU s | times ours | CPU, times ours |\n| --- | ---: | ---: | ---: | ---: |"
    )
    for name, seconds in found.items():
        if name != "gemm":
            print(
                f"| {name} | {seconds['wall']:.2f} | {seconds['cpu']:.2f} "
                f"| {seconds['wall'] / ours['wall']:.2f} | {seconds['cpu'] / ours['cpu']:.2f} |"
            )
    flops = step_flops(Shape())
    print(
        f"Product of two {2048}-squares: {gemm['wall'] / 1e9:.0f} GFLOP/s; our step: "
        f"{flops / 1e9:.0f} GFLOP at {flops / ours['wall'] / 1e9:.0f} GFLOP/s"
    )


def show_generation(found: dict[str, Any]) -> None:
    print(f"\nGeneration of {NEW_TOKENS} tokens, tokens/s (seconds to read the context apart)")
    print("| model | " + " | ".join(f"from {c}" for c in CONTEXTS) + " |\n| --- | ---: | ---: |")
    for name, by_context in found.items():
        cells = [
            f"{by_context[c]['tokens_per_second']:.1f} ({by_context[c]['prefill_wall']:.2f} s)"
            for c in CONTEXTS
        ]
        print(f"| {name} | {' | '.join(cells)} |")


def show_memory(found: dict[str, float]) -> None:
    print(f"\nPeak resident memory (ru_maxrss) of a process that does {STEPS_FOR_MEMORY} steps")
    print("| model | MB |\n| --- | ---: |")
    for name, size in found.items():
        print(f"| {name} | {size / 1e6:.0f} |")


def show_growth(rows: list[dict[str, Any]]) -> None:
    print("\nOur step by size, against the shape above")
    print("| changed | s | time | operations |\n| --- | ---: | ---: | ---: |")
    for row in rows:
        changed = f"{row['size']} {row['value']}" if row["size"] else "nothing"
        print(f"| {changed} | {row['wall']:.2f} | x{row['time']:.2f} | x{row['flops']:.2f} |")


def show_goals(report: dict[str, Any]) -> None:
    print("\n| figure | value | goal |\n| --- | ---: | --- |")
    for key, goal in (
        ("step_ratio_vs_fastest_peer", "at least 1.7"),
        ("step_ratio_vs_fastest_peer_cpu", ""),
        ("step_ratio_at_gemm_rate", "the bound: all operations at the GEMM rate"),
        ("gemm_share", ""),
        ("memory_ratio_vs_leanest_peer", "at most 0.65"),
        ("generation_ratio_at_384", "at least 30"),
        ("retrieval_share_of_time", "at most the next line"),
        ("retrieval_share_of_flops", ""),
        ("retrieval_share_of_flops_needed", "as above, without what causal attention may skip"),
        ("largest_difference_from_plain_operations_nats", "at most 1e-5"),
    ):
        print(f"| {key} | {report[key]:.3g} | {goal} |")


if __name__ == "__main__":
    main()
