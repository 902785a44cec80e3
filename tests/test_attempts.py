"""What fails in an evaluation is a line, and what fails in Ray is not hidden."""

import os
import signal

import pytest
import ray

from raymnist.errors import InputError
from raymnist.evaluation.attempts import attempt, attempt_all
from raymnist.sweep.gauges import Tally


@ray.remote
def fail(error):
    raise error


@ray.remote(max_retries=0)
def die():
    os.kill(os.getpid(), signal.SIGKILL)


def raised(error):
    raise error


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: raised(InputError("codes are missing")), "codes are missing"),
        (lambda: raised(KeyError("x\nand more")), "KeyError: 'x\\nand more'"),
        (lambda: ray.get(fail.remote(InputError("codes are missing"))), "codes are missing"),
        (lambda: ray.get(fail.remote(ValueError("singular\nmatrix"))), "ValueError: singular"),
        (lambda: ray.get(die.remote()), "WorkerCrashedError: "),
    ],
)
def test_a_piece_that_fails_leaves_its_reason_and_stops_no_other(ray_session, call, said):
    tally = Tally(pieces=4)
    first, broken, last = attempt_all([lambda: 1, call, lambda: 3], tally)
    assert tally.share == 0.75
    assert (first.result, last.result, first.error, broken.result) == (1, 3, "", None)
    assert broken.error.startswith(said)
    assert "\n" not in broken.error


def test_what_is_wrong_with_ray_itself_is_raised(ray_session):
    with pytest.raises(ray.exceptions.RayError):
        attempt(lambda: raised(ray.exceptions.ObjectLostError("00", None, "")))
