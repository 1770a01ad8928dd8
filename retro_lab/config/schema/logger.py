"""Group `logger`: where metrics are logged; several at once as `logger=[wandb,csv]`."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from .setting import setting


class WandbMode(Enum):
    """`auto` is online with a login and a reachable server, and offline otherwise."""

    auto = "auto"
    online = "online"
    offline = "offline"


@dataclass
class WandbConfig:
    """Weights & Biases.

    Attributes:
        project: null takes W&B's own setting (WANDB_PROJECT), else retro_lab.
        entity: user or team; null takes W&B's own setting, else the login's default.
        group: null takes W&B's own setting, else a name of the data and the model's size, shared by
            all runs of one comparison.
        mode: overridden by WANDB_MODE, `wandb offline` and `wandb disabled`.
        tags: labels to filter by, besides those of WANDB_TAGS.
        notes: free text about the run.
    """

    project: str | None = None
    entity: str | None = None
    group: str | None = None
    mode: WandbMode = WandbMode.auto
    tags: list[str] = field(default_factory=list)
    notes: str | None = None


@dataclass
class CsvConfig:
    """metrics.csv in the run directory.

    Attributes:
        flush_every: records between rewrites of the file.
    """

    flush_every: int = setting(100, at_least=1)


@dataclass
class TensorboardConfig:
    """TensorBoard event files in the run directory.

    Attributes:
        log_graph: also log the graph of the model.
    """

    log_graph: bool = False


@dataclass
class LoggerConfig:
    """The active loggers; metrics.jsonl is always written.

    Attributes:
        wandb: Weights & Biases; null without it.
        csv: metrics.csv; null without it.
        tensorboard: TensorBoard event files; null without them.
    """

    wandb: WandbConfig | None = None
    csv: CsvConfig | None = None
    tensorboard: TensorboardConfig | None = None
