"""One label from several answers of a judge.

    label(3, [Opinion("mistake", 0.9), Opinion("mistake", 0.7), Opinion("good", 1.0)])
    # mistake, confidence 2/3 * 0.8, votes {"mistake": 2, "good": 1}

The verdict with the most votes wins. A tie that involves *mistake* is an abstention: to mask a step is to say that it
did harm, a toss says no such thing, and what becomes of a step without a verdict is for the mask policy to say. A tie
among the other three goes to the least severe: no winning vote says that the step did harm. An abstention is a vote for
nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import fmean

from srft.critic.judge.answers import Opinion
from srft.critic.labels.labels import SEVERITY, StepLabel, Verdict


def label(step: int, opinions: Sequence[Opinion]) -> StepLabel:
    """The label of a step; `opinions` are one a sample.

    confidence: the winning votes' mean confidence times their share of all votes, abstentions included; the share
    alone where they give none; `None` for a single vote that gives none. reason: that of the most confident winning
    vote. votes: kept where there are several.
    """
    counts = Counter(opinion.verdict for opinion in opinions)
    votes: dict[str, int] = {verdict or "abstained": count for verdict, count in counts.most_common()}
    votes = votes if len(opinions) > 1 else {}
    verdict = _winner(counts)
    if verdict is None:
        # A single abstention may say why; votes that disagree give no common reason.
        return StepLabel(
            step=step, verdict=None, reason=opinions[0].reason if len(opinions) == 1 else None, votes=votes
        )
    winning = [opinion for opinion in opinions if opinion.verdict == verdict]
    given = [opinion.confidence for opinion in winning if opinion.confidence is not None]
    share = len(winning) / len(opinions)
    confidence = share * fmean(given) if given else share if len(opinions) > 1 else None
    best = max(winning, key=lambda opinion: opinion.confidence or 0.0)
    return StepLabel(step=step, verdict=verdict, confidence=confidence, reason=best.reason, votes=votes)


def _winner(counts: Counter[Verdict | None]) -> Verdict | None:
    given = {verdict: count for verdict, count in counts.items() if verdict is not None}
    most = max(given.values(), default=0)
    tied = [verdict for verdict in SEVERITY if given.get(verdict) == most and most]
    if not tied or (len(tied) > 1 and "mistake" in tied):
        return None
    return tied[-1]
