"""Practice tasks: bugs put into small projects, each seen by a real test, written as a swebench-5 task repo.

make_practice(PracticeConfig(train=100, test=40), Path("practice"), backend=choose_backend("auto"))
"""

from srft.env.practice.making import Counts, PracticeConfig, PracticeSummary, make_practice

__all__ = ["Counts", "PracticeConfig", "PracticeSummary", "make_practice"]
