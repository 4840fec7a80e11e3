#!/bin/bash
set -uxo pipefail
source /opt/testbed/bin/activate
cd /testbed
git config --global --add safe.directory /testbed
git status
git show
git -c core.fileMode=false diff base
git checkout base tests/test_parse.py
git apply -v - <<'EOF_SRFT_DEMO'
diff --git a/tests/test_parse.py b/tests/test_parse.py
--- a/tests/test_parse.py
+++ b/tests/test_parse.py
@@ -763,3 +763,23 @@
     assert parser.format.format("world") == "hello world"
     with pytest.raises(AttributeError):
         parser.format = "hi {}"
+
+
+def test_hyphen_inside_field_name():
+    # https://github.com/r1chardj0n3s/parse/issues/86
+    # https://github.com/python-openapi/openapi-core/issues/672
+    template = "/local/sub/{user-id}/duration"
+    assert parse.Parser(template).named_fields == ["user_id"]
+    string = "https://dummy_server.com/local/sub/1647222638/duration"
+    result = parse.search(template, string)
+    assert result["user-id"] == "1647222638"
+
+
+def test_hyphen_inside_field_name_collision_handling():
+    template = "/foo/{user-id}/{user_id}/{user.id}/bar/"
+    assert parse.Parser(template).named_fields == ["user_id", "user__id", "user___id"]
+    string = "/foo/1/2/3/bar/"
+    result = parse.search(template, string)
+    assert result["user-id"] == "1"
+    assert result["user_id"] == "2"
+    assert result["user.id"] == "3"
EOF_SRFT_DEMO
: '>>>>> Start Test Output'
pytest -rA --color=no -p no:cacheprovider tests/test_parse.py
: '>>>>> End Test Output'
git checkout base tests/test_parse.py
