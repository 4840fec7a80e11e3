"""Points and marks of a quiz."""


def points(right, wrong):
    """Three points for each right answer, one less for each wrong."""
    return right * 3 - wrong


def has_passed(score, needed=60):
    """Whether score is needed or more."""
    return score >= needed


def share(score, total):
    """The score in percent of total, in whole percent."""
    return score * 100 // total


def best(scores):
    """The highest score, 0 where there is none."""
    return max(scores, default=0)


def without_worst(scores):
    """The sum of the scores without the lowest one."""
    return sum(scores) - min(scores)


def winner(home, away):
    """Who has more points: home, away, or draw."""
    return "draw" if home == away else "home" if home > away else "away"


def podium(scores):
    """The three highest scores, the highest first."""
    return sorted(scores, reverse=True)[:3]


def rank(score, scores):
    """One more than the number of scores above it."""
    return 1 + sum(other > score for other in scores)
