import unittest

from permissions.roles import covers

from permissions import Roles, UnknownRole


class RolesTest(unittest.TestCase):
    def setUp(self):
        self.roles = Roles()
        self.roles.define("guest", ["page.read"])
        self.roles.define("translator", ["text.*"])
        self.roles.define("author", ["page.write"], ["guest"])
        self.roles.define("editor", ["page.publish"], ["author", "translator", "guest"])

    def test_a_role_allows_what_it_grants(self):
        self.assertIs(self.roles.allows("author", "page.write"), True)

    def test_a_role_allows_what_its_parents_grant(self):
        self.assertIs(self.roles.allows("editor", "page.read"), True)

    def test_a_role_does_not_allow_what_only_its_children_grant(self):
        self.assertIs(self.roles.allows("guest", "page.write"), False)

    def test_a_wildcard_is_inherited(self):
        self.assertIs(self.roles.allows("editor", "text.fix"), True)

    def test_a_role_may_grant_nothing(self):
        self.roles.define("nobody")
        self.assertEqual(self.roles.permissions("nobody"), set())

    def test_a_role_is_defined_once(self):
        with self.assertRaisesRegex(ValueError, "'guest' is defined already"):
            self.roles.define("guest")

    def test_parents_must_be_known(self):
        with self.assertRaisesRegex(UnknownRole, "boss"):
            self.roles.define("deputy", [], ["boss"])

    def test_an_unknown_role_allows_nothing(self):
        with self.assertRaisesRegex(UnknownRole, "boss"):
            self.roles.allows("boss", "page.read")

    def test_lineage_is_nearest_first_and_each_once(self):
        self.assertEqual(self.roles.lineage("editor"), ["editor", "author", "translator", "guest"])

    def test_lineage_of_a_role_without_parents(self):
        self.assertEqual(self.roles.lineage("guest"), ["guest"])

    def test_permissions_are_added_up(self):
        self.assertEqual(self.roles.permissions("author"), {"page.read", "page.write"})

    def test_permissions_are_a_copy(self):
        self.roles.permissions("guest").add("page.delete")
        self.assertEqual(self.roles.permissions("guest"), {"page.read"})

    def test_the_given_permissions_are_copied(self):
        given = {"a"}
        self.roles.define("copycat", given)
        given.add("b")
        self.assertEqual(self.roles.permissions("copycat"), {"a"})

    def test_the_given_parents_are_copied(self):
        given = ["guest"]
        self.roles.define("copycat", [], given)
        given.append("translator")
        self.assertEqual(self.roles.lineage("copycat"), ["copycat", "guest"])

    def test_a_revoked_permission_is_gone(self):
        self.assertIs(self.roles.revoke("guest", "page.read"), True)
        self.assertEqual(self.roles.permissions("guest"), set())

    def test_an_inherited_permission_cannot_be_revoked(self):
        self.assertIs(self.roles.revoke("author", "page.read"), False)

    def test_nothing_is_revoked_from_an_unknown_role(self):
        with self.assertRaisesRegex(UnknownRole, "boss"):
            self.roles.revoke("boss", "page.read")


class CoversTest(unittest.TestCase):
    def test_the_same_permission(self):
        self.assertIs(covers("page.read", "page.read"), True)

    def test_another_permission(self):
        self.assertIs(covers("page.read", "page.reader"), False)

    def test_a_star_covers_everything(self):
        self.assertIs(covers("*", "page.read"), True)

    def test_a_wildcard_covers_its_group(self):
        self.assertIs(covers("page.*", "page.read"), True)

    def test_a_wildcard_covers_no_longer_name(self):
        self.assertIs(covers("page.*", "pages.read"), False)

    def test_a_wildcard_needs_a_point(self):
        self.assertIs(covers("page*", "page.read"), False)
