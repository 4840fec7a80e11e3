#!/bin/bash
set -uxo pipefail
source /opt/testbed/bin/activate
cd /testbed
git config --global --add safe.directory /testbed
git status
git show
git -c core.fileMode=false diff base
git checkout base tests/test_xmltodict.py
git apply -v - <<'EOF_SRFT_DEMO'
diff --git a/tests/test_xmltodict.py b/tests/test_xmltodict.py
--- a/tests/test_xmltodict.py
+++ b/tests/test_xmltodict.py
@@ -93,13 +93,13 @@
         """
         self.assertEqual(
             parse(xml),
-            {'root': {'emptya': "           ",
+            {'root': {'emptya': None,
                       'emptyb': {'@attr': 'attrvalue'},
                       'value': 'hello'}})
 
     def test_keep_whitespace(self):
         xml = "<root> </root>"
-        self.assertEqual(parse(xml), dict(root=' '))
+        self.assertEqual(parse(xml), dict(root=None))
         self.assertEqual(parse(xml, strip_whitespace=False),
                          dict(root=' '))
 
EOF_SRFT_DEMO
: '>>>>> Start Test Output'
pytest -rA --color=no -p no:cacheprovider tests/test_xmltodict.py
: '>>>>> End Test Output'
git checkout base tests/test_xmltodict.py
