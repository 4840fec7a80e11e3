#!/bin/bash
set -uxo pipefail
source /opt/testbed/bin/activate
cd /testbed
git config --global --add safe.directory /testbed
git status
git show
git -c core.fileMode=false diff base
git checkout base tests/test_filesize.py
git apply -v - <<'EOF_SRFT_DEMO'
diff --git a/tests/test_filesize.py b/tests/test_filesize.py
--- a/tests/test_filesize.py
+++ b/tests/test_filesize.py
@@ -69,6 +69,8 @@
         ([3000000, False, True], "2.9M"),
         ([1024, False, True], "1.0K"),
         ([1, False, False], "1 Byte"),
+        ([1.0, False, False], "1 Byte"),
+        (["1", False, False], "1 Byte"),
         ([3141592, False, False, "%.2f"], "3.14 MB"),
         ([3000, False, True, "%.3f"], "2.930K"),
         ([3000000000, False, True, "%.0f"], "3G"),
EOF_SRFT_DEMO
: '>>>>> Start Test Output'
pytest -rA --color=no -p no:cacheprovider tests/test_filesize.py
: '>>>>> End Test Output'
git checkout base tests/test_filesize.py
