"""What is trained on is not evaluated on."""

import pytest

from srft.env.errors import InputError
from srft.env.tasks.task import Task
from srft.train.rows.contamination import refuse_contamination


def task(instance_id, repo):
    return Task(
        instance_id=instance_id,
        repo=repo,
        base_commit="",
        problem_statement="",
        patch="",
        test_patch="",
        FAIL_TO_PASS=(),
        PASS_TO_PASS=(),
        image="",
        eval_script="",
        log_parser="",
        eval_type="",
    )


EVALUATION = [task("pallets__flask-1", "pallets/flask"), task("psf__requests-2", "psf/requests")]


def test_a_shared_instance_is_refused_either_way():
    for by in ("repository", "instance"):
        with pytest.raises(InputError, match=r"1 of the 2 evaluation tasks are trained on \(psf__requests-2\)"):
            refuse_contamination(["psf__requests-2", "x"], [], evaluation=EVALUATION, by=by)


@pytest.mark.parametrize("repo", ["pallets/flask", "Pallets/Flask", "swesmith/pallets__flask.bc098406"])
def test_a_shared_repository_is_refused_unless_instances_alone_are_compared(repo):
    with pytest.raises(InputError, match=r"1 repositories .*pallets/flask"):
        refuse_contamination(["pallets__flask-9"], [repo], evaluation=EVALUATION)
    refuse_contamination(["pallets__flask-9"], [repo], evaluation=EVALUATION, by="instance")


def test_apart():
    refuse_contamination(["a__b-1"], ["a/b"], evaluation=EVALUATION)
