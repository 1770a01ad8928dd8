"""Group `logger`: where curves go; several at once as `logger=[wandb,csv]`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class WandbMode(Enum):
    """`auto` is online with a login and offline without."""

    auto = "auto"
    online = "online"
    offline = "offline"


@dataclass
class WandbConfig:
    """Weights & Biases."""

    project: str = "retro_lab"
    entity: str | None = None
    group: str | None = None
    mode: WandbMode = WandbMode.auto


@dataclass
class CsvConfig:
    """metrics.csv in the run directory."""

    flush_every: int = 100


@dataclass
class TensorboardConfig:
    """TensorBoard event files in the run directory."""

    log_graph: bool = False


@dataclass
class LoggerConfig:
    """Each present part logs; metrics.jsonl is always written."""

    wandb: WandbConfig | None = None
    csv: CsvConfig | None = None
    tensorboard: TensorboardConfig | None = None
