#!/bin/bash
set -uxo pipefail
source /opt/testbed/bin/activate
cd /testbed
git config --global --add safe.directory /testbed
git status
git show
git -c core.fileMode=false diff base
git checkout base tests/test_format.py
git apply -v - <<'EOF_SRFT_DEMO'
diff --git a/tests/test_format.py b/tests/test_format.py
--- a/tests/test_format.py
+++ b/tests/test_format.py
@@ -105,6 +105,26 @@
         sql = 'SELECT 1/*bar*/ AS foo'  # see issue772
         res = sqlparse.format(sql, strip_comments=True)
         assert res == 'SELECT 1 AS foo'
+
+    def test_strip_comments_preserves_hint(self):
+        sql = 'select --+full(u)'
+        res = sqlparse.format(sql, strip_comments=True)
+        assert res == sql
+        sql = '#+ hint\nselect * from foo'
+        res = sqlparse.format(sql, strip_comments=True)
+        assert res == sql
+        sql = 'select --+full(u)\n--comment simple'
+        res = sqlparse.format(sql, strip_comments=True)
+        assert res == 'select --+full(u)\n'
+        sql = '#+ hint\nselect * from foo\n# comment simple'
+        res = sqlparse.format(sql, strip_comments=True)
+        assert res == '#+ hint\nselect * from foo\n'
+        sql = 'SELECT /*+cluster(T)*/* FROM T_EEE T where A >:1'
+        res = sqlparse.format(sql, strip_comments=True)
+        assert res == sql
+        sql = 'insert /*+ DIRECT */ into sch.table_name as select * from foo'
+        res = sqlparse.format(sql, strip_comments=True)
+        assert res == sql
 
     def test_strip_ws(self):
         f = lambda sql: sqlparse.format(sql, strip_whitespace=True)
EOF_SRFT_DEMO
: '>>>>> Start Test Output'
pytest -rA --color=no -p no:cacheprovider tests/test_format.py
: '>>>>> End Test Output'
git checkout base tests/test_format.py
