"""A task: what is asked, where it runs, how it is graded. The rows of SWE-bench and of its dialects."""
