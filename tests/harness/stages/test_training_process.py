"""What a training tells of itself while it goes on."""

from srft.harness.run.live import Counts
from srft.harness.stages.training_process import PROGRESS, progress_of, tell_progress


def test_how_far_a_training_is(tmp_path):
    assert progress_of(tmp_path) == Counts()
    tell_progress(tmp_path / "model", step=3, steps=12, eta_s=4.5)
    assert progress_of(tmp_path / "model") == Counts(total=12, done=3, eta_s=4.5)
    (tmp_path / "model" / PROGRESS).write_bytes(b'{"step"')
    assert progress_of(tmp_path / "model") == Counts()
    (tmp_path / "file").write_text("")
    tell_progress(tmp_path / "file", step=1, steps=2, eta_s=None)
