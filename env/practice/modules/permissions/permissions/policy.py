"""Decides about users: their roles first, then the rules of the resource, then ownership."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from permissions.roles import Roles, covers


class Denied(PermissionError):
    """The user may not do it."""

    def __init__(self, user: str, permission: str, resource: str) -> None:
        super().__init__(f"{user} may not {permission} on {resource}")
        self.user = user


@dataclass(frozen=True)
class Rule:
    """Grants or forbids a permission on one resource to one user, or to all with "*"."""

    user: str
    permission: str
    resource: str
    allow: bool = True

    def applies(self, user: str, permission: str, resource: str) -> bool:
        same_user = self.user in ("*", user)
        return same_user and self.resource == resource and covers(self.permission, permission)


@dataclass
class Policy:
    """A rule that forbids beats all else; then a role, a rule or ownership is enough."""

    roles: Roles
    members: dict[str, list[str]] = field(default_factory=dict)
    rules: list[Rule] = field(default_factory=list)
    owners: dict[str, str] = field(default_factory=dict)

    def assign(self, user: str, *roles: str) -> list[str]:
        """Give a user roles, each once, and return all of the user's roles; a copy."""
        held = self.members.setdefault(user, [])
        for role in roles:
            self.roles.lineage(role)
            if role not in held:
                held.append(role)
        return list(held)

    def may(self, user: str, permission: str, resource: str = "site") -> bool:
        rules = [rule for rule in self.rules if rule.applies(user, permission, resource)]
        if any(not rule.allow for rule in rules):
            return False
        if rules or self.owners.get(resource) == user:
            return True
        return any(self.roles.allows(role, permission) for role in self.members.get(user, []))

    def require(self, user: str, permission: str, resource: str = "site") -> None:
        """Raise Denied unless the user may."""
        if not self.may(user, permission, resource):
            raise Denied(user, permission, resource)

    def allowed(self, user: str, permissions: Iterable[str], resource: str = "site") -> list[str]:
        """Those of the permissions that the user has, in the order given."""
        return [permission for permission in permissions if self.may(user, permission, resource)]

    def users_with(self, permission: str, resource: str = "site") -> list[str]:
        """The known users who may, in alphabetical order."""
        known = {*self.members, *self.owners.values()}
        return sorted(user for user in known if self.may(user, permission, resource))
