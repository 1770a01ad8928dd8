"""Everything that an evaluation of a finished run measures: scores, rivals, a planted leak."""

from __future__ import annotations

from retro_lab.config.schema import EvaluateConfig
from retro_lab.run.directory import RunDirectory
from retro_lab.run.evaluating.reevaluate import evaluate_one


def evaluate_fully(
    run: RunDirectory, command: EvaluateConfig
) -> tuple[RunDirectory, dict[str, float] | None]:
    """Like `evaluate_one`, with rivals and a leak experiment if requested."""
    rivals = None
    if command.eval.rivals.which:
        from retro_lab.rivals.rivals import run_rivals as rivals
    if not command.eval.injection.doses:
        return evaluate_one(run, command, rivals)
    from retro_lab.run.evaluating.injection import check_injection, run_injection

    check_injection(run, command)
    out, seconds = evaluate_one(run, command, rivals)
    return out, (seconds or {}) | run_injection(run, command)
