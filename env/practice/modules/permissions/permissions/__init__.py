"""Who may do what: roles that inherit, and rules for single resources."""

from permissions.policy import Denied, Policy, Rule
from permissions.roles import Roles, UnknownRole

__all__ = ["Denied", "Policy", "Roles", "Rule", "UnknownRole"]
