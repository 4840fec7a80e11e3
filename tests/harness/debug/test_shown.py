"""A session's records as texts."""

from srft.critic.labels.labels import Critique, StepLabel
from srft.harness.debug.shown import critique_text


def test_the_critics_word_on_the_selected_step_comes_first():
    labels = (StepLabel(step=0, verdict="good"), StepLabel(step=1, verdict="mistake", reason="wrong\x1b[2J file"))
    told = Critique(trajectory_id="t", task_id="k", critic="judge", fingerprint="f", source="rule", labels=labels)
    whole = "step 0  good  \nstep 1  mistake  wrong␛[2J file\n"
    assert critique_text(told, step=1).plain == f"judge\nstep 1  mistake  wrong␛[2J file\n\nthe whole run\n{whole}"
    assert critique_text(told, step=-1).plain == f"judge\n{whole}"
