"""One run with all that has a number: rounds, arms with seeds, critics, grades, labels of an oracle and a person.

path = one_run(tmp_path)          # the files of a loop of two rounds
"""

from pathlib import Path

from srft.agent.records import Usage
from tests.harness.loop_run import LoopRun, critique_of, episode

BASE = {"b-1": [False], "b-2": [True], "b-3": [False], "c-1": [None]}
TRAINED = {"b-1": [True], "b-2": [True], "b-3": [True], "c-1": [False]}
WORSE = {"b-1": [False], "b-2": [True], "b-3": [False], "c-1": [False]}


def one_run(folder: Path) -> Path:
    path = folder / "one"
    with LoopRun(path) as run:
        run.evaluation(0, "base", BASE)
        run.stage(0, "serve.base", kind="transformers", probe={"max_difference": 0.001})
        run.stage(0, "evaluate.base", 9.0, tasks=4)
        _collected(run)
        figures = {"runs": 4, "runs_used": 3, "tokens": 1000, "written_tokens": 400, "steps": 9}
        run.rows(1, "all", rows=3, trained_tokens=400, steps_masked=0, **figures)
        dropped = {"left_out": {"outcome_unknown": 1}, "dropped": {"nothing_trained": 1}, "remarks": {"steps_cut": 2}}
        run.rows(1, "srft", rows=2, trained_tokens=300, steps_masked=2, critics=["judge"], **figures, **dropped)
        for cell, verdicts in (("all", WORSE), ("all.1", BASE), ("srft", TRAINED), ("srft.1", WORSE)):
            run.training(1, cell, [2.0, 1.5, 1.0], {2: 0.5})
            run.stage(1, f"train.{cell}", 40.0)
            run.evaluation(1, cell, verdicts)
            run.stage(1, f"evaluate.{cell}", 10.0)
        decided = {"difference": 0.5, "interval": [-0.1, 0.9], "rule": "r", "reason": "better"}
        run.stage(1, "promote", decision="promoted", cell="srft", before=0.25, after=0.75, **decided)
        run.evaluation(2, "srft", WORSE)
        run.stage(2, "promote", decision="rolled back", cell="srft", before=0.75, after=0.25, rule="r", reason="worse")
    (path / "loop.yaml").write_text("srft: 0.1.0\nversions: {torch: 2.13.0}\nloop: {preset: demo, model: m}\n")
    return path


def _collected(run: LoopRun) -> None:
    """Round 1: five episodes on four tasks; one was done again, one ended by infrastructure."""
    round_ = run.round(1)
    run.add(round_, episode("t-1", steps=3, text="first"), graded=False)
    resolved = run.add(round_, episode("t-1", steps=3), True)
    failed = run.add(round_, episode("t-2", steps=4), False)
    other = run.add(round_, episode("t-2", attempt=1, steps=2, stop_reason="step_limit"), False)
    run.add(round_, episode("t-3", steps=5, stop_reason="infra_error", patch=None), graded=False)
    ungraded = run.add(round_, episode("t-4", steps=2), None)
    usage = {"calls": 1, "usage": Usage(prompt_tokens=500, completion_tokens=50, cost_usd=0.25), "wall_s": 4.0}
    for told in (
        critique_of(resolved, "ggg", **usage),
        critique_of(failed, "gmmm", **usage),
        critique_of(failed, "gm-u", **usage),  # the last word counts
        critique_of(other, "mg", **usage),
        critique_of(resolved, "ggm", critic="tool_error", source="rule"),
        critique_of(failed, "gmgg", critic="tool_error", source="rule"),
        critique_of(resolved, "ggg", critic="oracle", source="oracle"),
        critique_of(failed, "gmmg", critic="oracle", source="oracle"),
        critique_of(ungraded, "gg", critic="oracle", source="oracle"),
        critique_of(other, "mm", critic="ann", source="human"),
    ):
        round_.critiques.append(told)
    run.stage(1, "collect", 60.0)
    run.stage(1, "critique", 7.0)
