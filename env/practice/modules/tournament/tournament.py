"""A league table, a round-robin plan, knock-out brackets and Elo ratings."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass
class Standing:
    """One team's results so far."""

    team: str
    won: int = 0
    drawn: int = 0
    lost: int = 0
    scored: int = 0
    conceded: int = 0

    @property
    def played(self) -> int:
        return self.won + self.drawn + self.lost

    @property
    def points(self) -> int:
        return 3 * self.won + self.drawn

    @property
    def difference(self) -> int:
        return self.scored - self.conceded

    def record(self, scored: int, conceded: int) -> None:
        """Count one match."""
        self.scored += scored
        self.conceded += conceded
        if scored > conceded:
            self.won += 1
        elif scored == conceded:
            self.drawn += 1
        else:
            self.lost += 1


def table(results: Iterable[tuple[str, str, int, int]], teams: Iterable[str] = ()) -> list[Standing]:
    """Standings from (home, guest, home goals, guest goals), best first.

    Points decide, then the goal difference, then the goals scored, then the name.
    """
    standings = {team: Standing(team) for team in teams}
    for home, guest, home_goals, guest_goals in results:
        if home == guest:
            raise ValueError(f"{home} cannot play against itself")
        if min(home_goals, guest_goals) < 0:
            raise ValueError("goals are not negative")
        standings.setdefault(home, Standing(home)).record(home_goals, guest_goals)
        standings.setdefault(guest, Standing(guest)).record(guest_goals, home_goals)
    return sorted(standings.values(), key=lambda each: (-each.points, -each.difference, -each.scored, each.team))


def round_robin(teams: list[str], legs: int = 1) -> list[list[tuple[str, str]]]:
    """Rounds in which everyone meets everyone once a leg; with an odd number one team rests.

    In each second leg home and guest are exchanged.
    """
    circle = list(teams)
    if len(circle) % 2 == 1:
        circle.append("")
    half = len(circle) // 2
    rounds = []
    for leg in range(legs):
        for _ in range(len(circle) - 1):
            pairs = [pair for pair in zip(circle[:half], reversed(circle[half:]), strict=True) if "" not in pair]
            if leg % 2 == 1:
                pairs = [(guest, home) for home, guest in pairs]
            rounds.append(pairs)
            circle.insert(1, circle.pop())
    return rounds


def bracket(seeds: list[str]) -> list[tuple[str, str | None]]:
    """First-round pairs of a knock-out: best against worst; the best have no opponent if seats stay free."""
    if len(seeds) < 2:
        raise ValueError("a knock-out needs two teams")
    size = 2
    while size < len(seeds):
        size *= 2
    places: list[str | None] = seeds + [None] * (size - len(seeds))
    return [(places[index], places[size - 1 - index]) for index in range(size // 2)]


def expected(rating: float, opponent: float) -> float:
    """The share of points a player with that rating should get."""
    return 1 / (1 + 10 ** ((opponent - rating) / 400))


def update(rating: float, opponent: float, score: float, k: float = 32) -> tuple[int, int]:
    """New ratings of both after a game; score is 1 for a win, 0.5 for a draw, 0 for a loss."""
    if not 0 <= score <= 1:
        raise ValueError("a score lies between 0 and 1")
    change = k * (score - expected(rating, opponent))
    return round(rating + change), round(opponent - change)


class Ratings:
    """Elo ratings of players; a new player has `start`."""

    def __init__(self, start: int = 1500) -> None:
        self.start = start
        self._ratings: dict[str, int] = {}

    def rating(self, player: str) -> int:
        return self._ratings.get(player, self.start)

    def play(self, winner: str, loser: str, draw: bool = False) -> int:
        """Count a game and return how many points the first player gained."""
        before = self.rating(winner)
        score = 0.5 if draw else 1
        after, other = update(before, self.rating(loser), score)
        self._ratings[winner] = after
        self._ratings[loser] = other
        return after - before

    def ranking(self, top: int | None = None) -> list[tuple[str, int]]:
        """The `top` best players, or all, with their ratings; equals by name."""
        ordered = sorted(self._ratings.items(), key=lambda pair: (-pair[1], pair[0]))
        return ordered[:top]

    def copy(self) -> "Ratings":
        """Ratings that change on their own."""
        other = Ratings(self.start)
        other._ratings = dict(self._ratings)
        return other
