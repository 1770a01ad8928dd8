"""One run from configuration to verdict: data, baseline, training, evaluation.

Data flows one way: text -> chunks -> neighbours -> model -> score. Each step stores its result in
the store or in the run's directory, so an interrupted run resumes where it stopped.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import orjson
import torch
from pytorch_lightning.loggers import Logger

from retro_lab.config.errors import UserError
from retro_lab.config.fingerprints import eval_fields, memory_fields, weights_fields
from retro_lab.config.schema import Config, Freeze, TrainerConfig
from retro_lab.training.agreement import broadcast_decision
from retro_lab.training.checkpoint import resumable_step
from retro_lab.training.fit import check_hardware, fit
from retro_lab.training.loggers import build_loggers, check_loggers, close_loggers
from retro_lab.training.phase import Phase
from retro_lab.training.publish import TOKENS_SEEN, last_figures
from retro_lab.training.wandb_run import RunIdentity

from .backbone import backbone_weights, with_backbone
from .compared import Compared, compared_configs
from .data.changed_text import TRAIN_ANEW, check_unchanged
from .data.graph import DataGraph
from .directory import RUN_KEY, RunDirectory
from .evaluating.evaluate import evaluate_run
from .evaluating.memory import check_gate_documents
from .joint import with_joint
from .model import LanguageModel, build_data, build_model, describe_model, parameter_counts
from .timing import Stopwatch

LOG = logging.getLogger("retro_lab")


def run_experiment(config: Config, watch: Stopwatch) -> RunDirectory:
    """Trains and evaluates a run, compared runs first; skips finished steps.

    A start of the same command is refused while another process works on it. Any other work on the
    run, such as training it for an evaluation with another memory, is waited for.

    Args:
        config: checked and canonical.
        watch: collects the seconds of each stage.
    """
    run = RunDirectory.of(config)
    if config.resume is not None and run.is_finished(config):
        return run
    check_hardware(config.trainer)
    check_loggers(config.logger)
    config = with_backbone(config)
    with run.started(purpose(config), wait=config.trainer.devices * config.trainer.num_nodes == 1):
        if config.resume is not None and run.is_finished(config):
            return run  # by the process that was waited for
        with watch.stage("prepare"):
            others = compared_configs(config)
            graph = _open_data(config, [run, *map(RunDirectory.of, others.values())])
            check_gate_documents(config, graph)  # before minutes of training
        compared = {
            name: ensure_trained(name, other, graph.without_retrieval(), watch)
            for name, other in others.items()
        }
        train(config, run, graph, watch, compared.get("baseline"))
        _evaluate(config, run, graph, compared, watch)
    return run


def purpose(config: Config) -> str:
    """A digest of how a run is evaluated: equal for two starts of one command."""
    evaluated = eval_fields(config.eval, config.wanted_plain, memory_fields(config))
    return hashlib.sha256(orjson.dumps(evaluated, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _open_data(config: Config, runs: Sequence[RunDirectory]) -> DataGraph:
    """The data; refuses text that changed since one of the runs began."""
    graph = DataGraph(config)
    for began in runs:
        check_unchanged(began, graph, TRAIN_ANEW)
    graph.prepare()
    return graph


def _finish(
    config: Config, run: RunDirectory, graph: DataGraph, watch: Stopwatch, companion: str
) -> None:
    train(config, run, graph, watch, companion=companion)
    _evaluate(config, run, graph, {}, watch)


def ensure_trained(
    name: str,
    config: Config,
    graph: DataGraph,
    watch: Stopwatch,
    agree: Callable[[TrainerConfig, bool], bool] = broadcast_decision,
    finish: Callable[..., None] = _finish,
) -> RunDirectory:
    """A compared run, trained and evaluated if it is not finished yet.

    Args:
        name: its condition, `baseline` or `plain`.
        config: its configuration, by `compared_configs`.
        graph: data without retrieval, sharing nodes with the requested run.
        agree: broadcasts the first rank's decision to all ranks.
        finish: called with config, run, graph, watch and name; trains and evaluates by default.
    """
    run = RunDirectory.of(config)
    with ExitStack() as held:
        due = not run.is_finished(config)
        if due:
            held.callback(run.acquire(wait=True).release)
            due = not run.is_finished(config)
        if agree(config.trainer, due):
            LOG.info("%s: %s", name, run.path)
            finish(config, run, graph, watch, name)
        else:
            run.check_text(graph.lineage)
            LOG.info("%s: %s (already trained)", name, run.path)
    return run


def _evaluate(
    config: Config, run: RunDirectory, graph: DataGraph, compared: Compared, watch: Stopwatch
) -> None:
    """Scores the trained run and marks it finished, on rank 0 only."""
    if run.is_rank_zero:
        if not run.reached("finished"):  # the kind of its first evaluation is the run's own
            run.describe(config)
        with watch.stage("evaluation"):
            evaluate_run(config, run, run.for_evaluation(config), graph, compared)
        run.enter("finished")


def train(
    config: Config,
    run: RunDirectory,
    graph: DataGraph,
    watch: Stopwatch,
    baseline: RunDirectory | None = None,
    companion: str | None = None,
) -> None:
    """Trains the run's model to its last step, resuming from the last checkpoint.

    A pretrained backbone that is neither trained further nor grafted on counts as trained.

    Args:
        baseline: trained run that a retrofit grafts retrieval on.
        companion: `baseline` or `plain` for a compared run; None for the requested run.
    """
    run.check_lineage(graph.lineage)
    if run.reached("trained") and config.resume is not None:
        if run.is_rank_zero and not run.config_file.is_file():
            run.describe(config)
        return
    trained_as = weights_fields(config) | {RUN_KEY: run.key}
    start = resumable_step(run.path, trained_as) if config.resume is not None else 0
    run.begin(config, anew=not start)
    seconds = {}
    if not config.is_backbone_alone:
        run.enter("training")
        model = _model(config, graph, baseline)
        phase = with_joint(_phase(config, graph, baseline, companion), config, graph, model)
        identity = RunIdentity.of(
            config,
            run.path.name,
            run.key,
            lineage=graph.lineage,
            parameters=parameter_counts(model),
            companion=companion,
        )
        if start:
            LOG.info("resuming %s at step %d", run.path, start)
        with (
            watch.stage(phase.name if phase.name == "training" else f"{phase.name} training"),
            _loggers(config, run, identity, start) as loggers,
        ):
            data = build_data(config, graph)
            result = fit(model, data, phase, config, run.path, loggers, trained_as)
        seconds["training"] = round(result.seconds, 1)
        describe_model(run, model, graph.tokenizer.artifact)
    run.enter("trained", **seconds)


def _model(config: Config, graph: DataGraph, baseline: RunDirectory | None) -> LanguageModel:
    """The model before the first step; the backbone's weights are loaded, and frozen if set."""
    backbone = None
    if config.recipe.backbone is not None:
        backbone = backbone_weights(config)
    elif config.is_retrofit:
        if baseline is None:
            raise UserError(
                "recipe.method=retrofit grafts retrieval on the baseline, and baseline=null",
                fix="leave out baseline=null, or use recipe=scratch",
            )
        backbone = baseline.weights()
    torch.manual_seed(config.seed)
    model = build_model(config, graph.chunks.vocab_size, graph.chunks.pad_id)
    if backbone is not None:
        model.load_backbone(backbone)
        if config.recipe.freeze is Freeze.backbone and config.recipe.unfreeze_after is None:
            model.freeze_backbone()
    model.enable_checkpointing(config.trainer.checkpointing)
    return model


def _phase(
    config: Config, graph: DataGraph, baseline: RunDirectory | None, companion: str | None
) -> Phase:
    """The training phase: a retrofit, or training of all weights from the first step."""
    pad_id = graph.chunks.pad_id
    if config.is_retrofit:
        before = 0
        if config.recipe.backbone is None and baseline is not None:
            before = int(last_figures(baseline.path).get(TOKENS_SEEN, 0))
        return Phase.retrofit(config, pad_id, before)
    name = "training" if config.retriever.retrieves else companion or "baseline"
    return Phase.first(config, name, pad_id)


@contextmanager
def _loggers(
    config: Config, run: RunDirectory, identity: RunIdentity, start: int
) -> Iterator[list[Logger]]:
    """The configured loggers, closed with status `success` or `failed`."""
    loggers = build_loggers(config.logger, run.path, identity, resume_step=start)
    status = "failed"
    try:
        yield loggers
        status = "success"
    finally:
        close_loggers(loggers, status)
