"""Roles by name, the permissions they grant, and the roles they build on."""

from collections.abc import Iterable


class UnknownRole(LookupError):
    """The role was never defined."""


class Roles:
    """Permissions are texts such as "page.read"; "page.*" grants all of "page", "*" everything."""

    def __init__(self) -> None:
        self._grants: dict[str, set[str]] = {}
        self._parents: dict[str, list[str]] = {}

    def define(self, role: str, permissions: Iterable[str] = (), parents: Iterable[str] = ()) -> None:
        """Add a role; its parents are defined before it, so that roles never go round in circles."""
        if role in self._grants:
            raise ValueError(f"role {role!r} is defined already")
        parents = list(parents)
        for parent in parents:
            self._check(parent)
        self._grants[role] = set(permissions)
        self._parents[role] = parents

    def lineage(self, role: str) -> list[str]:
        """The role and all it builds on, nearest first, each once."""
        self._check(role)
        found, waiting = [], [role]
        while waiting:
            current = waiting.pop(0)
            if current not in found:
                found.append(current)
                waiting.extend(self._parents[current])
        return found

    def permissions(self, role: str) -> set[str]:
        """All that the role and those below it grant; a copy."""
        granted = set()
        for each in self.lineage(role):
            granted |= self._grants[each]
        return granted

    def allows(self, role: str, permission: str) -> bool:
        return any(covers(granted, permission) for granted in self.permissions(role))

    def revoke(self, role: str, permission: str) -> bool:
        """Take a permission from the role itself; False where it came from elsewhere or not at all."""
        self._check(role)
        if permission not in self._grants[role]:
            return False
        self._grants[role].remove(permission)
        return True

    def _check(self, role: str) -> None:
        if role not in self._grants:
            raise UnknownRole(role)


def covers(granted: str, wanted: str) -> bool:
    """Whether holding `granted` is enough for `wanted`."""
    if granted == "*" or granted == wanted:
        return True
    return granted.endswith(".*") and wanted.startswith(granted[:-1])
