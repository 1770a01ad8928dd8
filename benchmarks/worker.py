"""One model in one process, measured on request: a line of JSON in, a line of JSON out."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from contenders import CHUNK, CONTENDERS, LEARNING_RATE, NEIGHBOUR, PEERS, VOCABULARY, Shape
from torch import Tensor

GEMM = 2048
WARM_UP = 2  # steps that nobody counts


class Worker:
    """A contender with its optimiser and its data."""

    def __init__(self, name: str, compiled: bool, shape: Shape) -> None:
        torch.manual_seed(0)
        self.shape = shape
        self.contender = CONTENDERS[name](shape)
        self.model = self.contender.model
        if compiled:
            self.contender.compile()
        self.tokens = torch.randint(1, VOCABULARY, (shape.batch, shape.length + 1))
        size = (shape.batch, shape.length // CHUNK, shape.neighbours, NEIGHBOUR)
        self.neighbours = torch.randint(1, VOCABULARY, size) if shape.neighbours else None
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.optimiser = torch.optim.AdamW(parameters, lr=LEARNING_RATE, fused=name not in PEERS)
        self.warm = False

    def step(self, threads: int) -> dict[str, float]:
        """One training step: forward, backward, optimiser."""
        torch.set_num_threads(threads)
        self.model.train()
        for _ in range(0 if self.warm else WARM_UP):
            self._step()
        self.warm = True
        return timed(self._step)

    def _step(self) -> None:
        self.contender.loss(self.tokens, self.neighbours).backward()
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)

    @torch.inference_mode()
    def generate(self, threads: int, context: int, tokens: int) -> dict[str, float]:
        """Greedy tokens after a context; reading the context is timed apart."""
        torch.set_num_threads(threads)
        self.model.eval()
        assert self.neighbours is not None
        neighbours = self.neighbours[:1]
        state: Any = None

        def read() -> None:
            nonlocal state
            state = self.contender.start(self.tokens[:1, :context], neighbours)

        def write(count: int = tokens) -> None:
            nonlocal state
            for _ in range(count):
                state = self.contender.continue_(state, neighbours)

        prefill = timed(read)
        write(2)
        prefill = timed(read)
        return timed(write) | {"prefill_wall": prefill["wall"], "tokens": tokens}

    def gemm(self, threads: int) -> dict[str, float]:
        """Floating-point operations a second of a product of two square matrices."""
        torch.set_num_threads(threads)
        left, right = torch.randn(2, GEMM, GEMM).unbind()
        torch.mm(left, right)
        spent = timed(lambda: torch.mm(left, right))
        return {key: 2 * GEMM**3 / value for key, value in spent.items()}

    @torch.no_grad()
    def exactness(self, threads: int) -> dict[str, float]:
        """Largest difference in nats from the same model in plain operations."""
        from retro_lab.nn.cpu import accelerate, plain

        torch.set_num_threads(threads)
        fast = self._nats()
        plain(self.model)
        expected = self._nats()
        accelerate(self.model)
        return {"nats": (fast - expected).abs().max().item()}

    def _nats(self) -> Tensor:
        tokens = self.tokens
        return self.model.token_nats(tokens[:, :-1], tokens[:, 1:], self.neighbours)

    def peak(self, threads: int, steps: int) -> dict[str, float]:
        """Peak resident memory of this process after some steps, in bytes."""
        for _ in range(steps):
            self.step(threads)
        unit = 1 if sys.platform == "darwin" else 1024
        return {"bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}


def timed(work: Callable[[], Any]) -> dict[str, float]:
    """Seconds by the clock and seconds of all threads of this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def main() -> None:
    out, sys.stdout = sys.stdout, sys.stderr  # a package that prints must not spoil an answer
    spec = json.loads(sys.argv[1])
    worker = Worker(spec["name"], spec["compiled"], Shape(**spec["shape"]))
    for line in sys.stdin:
        request = json.loads(line)
        answer = getattr(worker, request.pop("do"))(**request)
        print(json.dumps(answer), file=out, flush=True)


if __name__ == "__main__":
    main()
