import unittest

from permissions import Denied, Policy, Roles, Rule, UnknownRole


class PolicyTest(unittest.TestCase):
    def setUp(self):
        roles = Roles()
        roles.define("reader", ["read"])
        roles.define("writer", ["write"], ["reader"])
        self.policy = Policy(roles)
        self.policy.assign("ann", "writer")
        self.policy.assign("bob", "reader")

    def test_a_role_is_enough(self):
        self.assertIs(self.policy.may("ann", "write"), True)

    def test_another_role_is_not(self):
        self.assertIs(self.policy.may("bob", "write"), False)

    def test_a_stranger_may_nothing(self):
        self.assertIs(self.policy.may("eve", "read"), False)

    def test_a_rule_grants(self):
        self.policy.rules.append(Rule("bob", "write", "diary"))
        self.assertIs(self.policy.may("bob", "write", "diary"), True)

    def test_a_rule_is_about_its_resource(self):
        self.policy.rules.append(Rule("bob", "write", "diary"))
        self.assertIs(self.policy.may("bob", "write", "news"), False)

    def test_a_rule_is_about_its_user(self):
        self.policy.rules.append(Rule("bob", "write", "diary"))
        self.assertIs(self.policy.may("eve", "write", "diary"), False)

    def test_a_rule_is_about_its_permission(self):
        self.policy.rules.append(Rule("bob", "write", "diary"))
        self.assertIs(self.policy.may("bob", "delete", "diary"), False)

    def test_a_rule_for_everybody(self):
        self.policy.rules.append(Rule("*", "*", "wiki"))
        self.assertIs(self.policy.may("eve", "write", "wiki"), True)

    def test_rules_are_about_the_site_when_not_told(self):
        self.policy.rules.append(Rule("eve", "read", "site"))
        self.assertEqual(self.policy.users_with("read"), ["ann", "bob"])
        self.assertIs(self.policy.may("eve", "read"), True)

    def test_a_forbidding_rule_beats_a_role(self):
        self.policy.rules.append(Rule("ann", "write", "diary", allow=False))
        self.assertIs(self.policy.may("ann", "write", "diary"), False)

    def test_a_forbidding_rule_beats_a_granting_one(self):
        self.policy.rules += [Rule("ann", "*", "diary", allow=False), Rule("ann", "write", "diary")]
        self.assertIs(self.policy.may("ann", "write", "diary"), False)

    def test_an_owner_may_everything(self):
        self.policy.owners["diary"] = "eve"
        self.assertIs(self.policy.may("eve", "delete", "diary"), True)

    def test_an_owner_may_nothing_elsewhere(self):
        self.policy.owners["diary"] = "eve"
        self.assertIs(self.policy.may("eve", "delete", "news"), False)

    def test_require_is_silent_where_the_user_may(self):
        self.assertIsNone(self.policy.require("ann", "write"))

    def test_require_raises_where_the_user_may_not(self):
        with self.assertRaisesRegex(Denied, "bob may not write on site") as caught:
            self.policy.require("bob", "write")
        self.assertEqual(caught.exception.user, "bob")

    def test_require_names_the_resource(self):
        with self.assertRaisesRegex(Denied, "bob may not write on diary"):
            self.policy.require("bob", "write", "diary")

    def test_assign_returns_all_roles_of_the_user(self):
        self.assertEqual(self.policy.assign("bob", "writer"), ["reader", "writer"])

    def test_assign_gives_a_role_once(self):
        self.assertEqual(self.policy.assign("bob", "reader"), ["reader"])

    def test_assign_returns_a_copy(self):
        self.policy.assign("bob").append("writer")
        self.assertIs(self.policy.may("bob", "write"), False)

    def test_assign_needs_known_roles(self):
        with self.assertRaisesRegex(UnknownRole, "boss"):
            self.policy.assign("bob", "boss")

    def test_allowed_keeps_the_order(self):
        self.assertEqual(self.policy.allowed("ann", ["write", "delete", "read"]), ["write", "read"])

    def test_allowed_is_about_the_site_when_not_told(self):
        self.policy.rules.append(Rule("bob", "write", "site"))
        self.assertEqual(self.policy.allowed("bob", ["write"]), ["write"])

    def test_users_with_a_permission_are_in_alphabetical_order(self):
        self.assertEqual(self.policy.users_with("read"), ["ann", "bob"])

    def test_owners_are_known_users(self):
        self.policy.owners["diary"] = "zoe"
        self.assertEqual(self.policy.users_with("write", "diary"), ["ann", "zoe"])

    def test_policies_share_nothing(self):
        other = Policy(self.policy.roles)
        self.assertEqual((other.members, other.rules, other.owners), ({}, [], {}))


class RuleTest(unittest.TestCase):
    def test_a_rule_allows_when_not_told(self):
        self.assertIs(Rule("ann", "read", "news").allow, True)

    def test_a_rule_covers_wildcards(self):
        self.assertIs(Rule("ann", "page.*", "news").applies("ann", "page.read", "news"), True)
