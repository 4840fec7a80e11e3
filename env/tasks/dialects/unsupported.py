"""The error of a row that is well formed and yet cannot be graded here."""

from srft.env.errors import InputError


class UnsupportedRow(InputError):
    """A published row that swebench's grader cannot grade as its dataset's own harness would.

    reason: without the row's place and id, so that equal reasons can be counted.
    """

    def __init__(self, reason: str, *, row: dict[str, object], where: str) -> None:
        super().__init__(f"{where}: {row.get('instance_id')}: {reason}")
        self.reason = reason
