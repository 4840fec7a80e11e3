"""report.json: the record that a run's files are read into, and that the pages are drawn from.

    report = msgspec.json.decode(Path("runs/demo/report.json").read_bytes(), type=Report)
    [(one.round, one.evaluation.resolved, one.evaluation.tasks) for one in report.rounds if one.evaluation]

`rounds` is a list; in a loop's run round 0 is the base model. A round's `evaluation` is that of the cell it is known by
(`evaluation_of`): the one that `promote` names, else the best; `cells` has all of them. What is not on file is `None`
or empty, and `missing` says in words what that is. All shares are between 0 and 1, all intervals 95 %.
"""

from __future__ import annotations

from typing import Any

import msgspec

from srft.harness.statistics.paired import Comparison
from srft.harness.statistics.statistics import Interval

SCHEMA_VERSION = 1


class Spent(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What replies cost. `None` where no server said a figure; unknown: replies of which nothing is known."""

    replies: int = 0
    unknown: int = 0
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost_usd: float | None = None


class Episodes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Episodes on file and what they came to: of a collection, or of a model on held-out tasks.

    predictions: attempts at the tasks; resolved, unresolved, empty, not_applied, not_graded and missing sum up to it.
    missing: attempts that the stage counted and that have no file; they are not resolved. not_graded: by reason; they
    are in no rate. rate: the tasks' mean share of resolved attempts. interval: see `rate_interval`.
    resolved_any: tasks that at least one attempt resolved. done_again: lines of episodes that
    stand in the file a second time. unreadable: file -> lines that cannot be read and are left out. partial: what some
    replies of a run came with -> replies that came without it, or with something unusable. stop_reasons: outcome ->
    reason -> episodes. commands: how those of finished episodes ended, "succeeded", "failed" and "not known". wall_s:
    summed over the episodes, which ran side by side. by_repository: repository -> (attempts with a verdict, resolved).
    """

    folder: str
    models: dict[str, int]
    tasks: int
    predictions: int
    resolved: int
    unresolved: int
    empty: int
    not_applied: int
    not_graded: dict[str, int]
    missing: int
    timed_out: int
    rate: float | None
    interval: Interval | None
    resolved_any: int
    done_again: int
    unreadable: dict[str, int]
    partial: dict[str, int]
    stop_reasons: dict[str, dict[str, int]]
    steps: int
    finished: int
    finished_steps: int
    format_errors: int
    timed_out_steps: int
    cut_observations: int
    commands: dict[str, int]
    spent: Spent
    wall_s: float | None
    graders: list[str]
    by_repository: dict[str, tuple[int, int]]

    @property
    def graded(self) -> int:
        return self.predictions - sum(self.not_graded.values())


class Judgement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one critic said of a round's finished runs.

    runs: outcome -> runs. verdicts: outcome -> verdict (or "abstained") -> steps. not_judged: finished runs that it has
    nothing on. of_runs_done_again: its critiques of episodes that no longer stand.
    """

    critic: str
    source: str
    information: str
    fingerprints: list[str]
    runs: dict[str, int]
    verdicts: dict[str, dict[str, int]]
    not_judged: int
    of_runs_done_again: int
    remarks: dict[str, int]
    calls: int
    spent: Spent
    wall_s: float | None


class Quality(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A critic against the true labels: how well it finds the steps that are mistakes.

    truth: source of the true labels -> runs. A figure that does not exist is `None`; intervals: by figure, over
    runs. random: the same figures, expected of flags thrown at the critic's rate; flag_all: of a critic that
    flags each step.
    """

    critic: str
    truth: dict[str, int]
    runs: int
    steps: int
    harmful_steps: int
    flagged_steps: int
    abstained_steps: int
    runs_without_verdicts: int
    runs_without_truth: int
    precision: float | None
    recall: float | None
    f1: float | None
    flag_rate: float | None
    intervals: dict[str, Interval | None]
    random: dict[str, float | None]
    flag_all: dict[str, float | None]


class ArmRows(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An arm's rows.json. masked_share: of the tokens that models wrote, those without loss."""

    arm: str
    file: str
    critics: list[str]
    runs: int
    runs_used: int
    rows: int
    tokens: int
    written_tokens: int
    trained_tokens: int
    masked_share: float | None
    steps: int
    steps_masked: int
    left_out: dict[str, int]
    dropped: dict[str, int]
    remarks: dict[str, int]
    tokenizer: str


class Training(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A cell's training.json. losses, held_out_losses: (step, loss); of long trainings each n-th."""

    file: str
    model: str
    tasks: int
    held_out_tasks: int
    figures: dict[str, float | int | None]
    learning_rate: float | None
    epochs: float | None
    wall_s: float | None
    losses: list[tuple[int, float]]
    held_out_losses: list[tuple[int, float]]


class Cell(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One trained model of a round. serving: what the serve stage noted, the weight probe among it."""

    arm: str
    seed: int | None
    training: Training | None = None
    serving: dict[str, Any] | None = None
    evaluation: Episodes | None = None
    against_base: Comparison | None = None


class Arm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An arm's models, one a seed, together.

    predictions, resolved: summed over the seeds. rate: mean over the seeds. interval: over seeds and
    tasks, `None` of too few seeds; of one seed that model's, over tasks alone. seed_rates: cell -> rate.
    """

    arm: str
    seeds: int
    tasks: int
    predictions: int
    resolved: int
    rate: float | None
    interval: Interval | None
    seed_rates: dict[str, float | None]
    against_base: Comparison | None


class Promotion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What became of a round's model. difference, interval: of its share to that of the model before, task by task."""

    decision: str
    cell: str | None = None
    model: str | None = None
    before: float | None = None
    after: float | None = None
    difference: float | None = None
    interval: Interval | None = None
    rule: str | None = None
    reason: str | None = None


class FunnelStep(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One narrowing on the way from tasks to trained tokens. lost: why, and how many; empty where nothing was."""

    name: str
    unit: str
    count: int | None
    lost: dict[str, int]


class Round(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One round. funnel: of the arm that `evaluation_of` is of, else of the first one.

    unfinished: stages that have left something and are not finished by stages.json; where there is no such file, none.
    set_aside: folders that were made from other inputs than there are now; they are in no figure.
    """

    round: int
    evaluation: Episodes | None
    evaluation_of: str | None
    cells: dict[str, Cell]
    arms: list[Arm]
    arm_comparisons: list[Comparison]
    collection: Episodes | None
    judgements: list[Judgement]
    rows: list[ArmRows]
    funnel: list[FunnelStep]
    funnel_arm: str | None
    promotion: Promotion | None
    unfinished: list[str]
    set_aside: list[str]


class PracticeSource(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What became of the mutants of a family or package, as practice.json has it."""

    mutants: int
    not_called: int
    unreliable_tests: int
    tried: int
    kept: int
    dropped: dict[str, int]


class Practice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The practice tasks. tasks: part ("train", "test") -> kind of bug -> tasks. missing: fewer than were asked for."""

    settings: dict[str, Any]
    missing: int
    tasks: dict[str, dict[str, int]]
    sources: dict[str, PracticeSource]


class Headline(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The base model and the trained one on the same tasks.

    chosen_among: how many models it is the best of, by this very evaluation; 1 where the promote stage names it.
    """

    base: Episodes
    trained: Episodes
    cell: str
    round: int
    promoted: bool | None
    chosen_among: int
    comparison: Comparison | None


class Drop(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something that was left out, cut short or done again."""

    round: int | None
    stage: str
    what: str
    reason: str
    count: int


class Cost(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One stage. wall_s: of the command's clock; summed_s: of what ran side by side, each for itself."""

    round: int
    stage: str
    wall_s: float | None
    summed_s: float | None
    prompt_tokens: int | None
    completion_tokens: int | None
    trained_on_tokens: int | None
    cost_usd: float | None


class Origin(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the run was made with. command: as far as its files tell. settings: the file `settings_file`, as it is."""

    command: str
    settings_file: str | None
    settings: dict[str, Any]
    versions: dict[str, str]
    graders: list[str]


class Report(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file. kind: "loop", "collection", "import" (recorded elsewhere) or "grading" (patches without their runs)."""

    schema_version: int = SCHEMA_VERSION
    run: str
    kind: str
    headline: Headline | None
    rounds: list[Round]
    quality: list[Quality]
    practice: Practice | None
    drops: list[Drop]
    costs: list[Cost]
    origin: Origin
    missing: list[str]
