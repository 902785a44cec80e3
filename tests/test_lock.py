"""One run at a time in a results folder."""

import fcntl
import os
import signal
import subprocess
import sys
import threading

import pytest

import raymnist
from raymnist.errors import InputError
from raymnist.lock import locked, owner

HOLD = """
import sys
from pathlib import Path
from raymnist.lock import locked, owner
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of `tmp_path / "a"`."""
    words = [sys.executable, "-c", HOLD, str(tmp_path / "a")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_run_is_kept_out_and_told_whose_folder_it_is(holder, tmp_path):
    expected = rf"a: in use by \w+ on \S+, process {holder.pid}, since 20.*; expected no other run"
    with pytest.raises(InputError, match=expected), locked(tmp_path / "a"):
        pass
    holder.stdin.close()
    assert holder.wait(20) == 0
    with locked(tmp_path / "a") as notice:
        assert notice == ""


def test_the_lock_of_a_killed_run_is_noticed_and_no_obstacle(holder, tmp_path):
    (tmp_path / "a" / "kept").touch()
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait(20)
    with locked(tmp_path / "a") as notice:
        assert f"process {holder.pid}" in notice
        assert notice.startswith("an earlier run was ended from outside: ")
        with pytest.raises(InputError, match=f"process {os.getpid()}"), locked(tmp_path / "a"):
            pass  # nor does a second one in the same process
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["kept"]


def test_a_folder_made_for_the_lock_goes_with_it_where_nothing_was_written(tmp_path):
    with locked(tmp_path / "above" / "a"):
        assert (tmp_path / "above" / "a" / ".lock").is_file()
    assert list(tmp_path.iterdir()) == []


def test_a_run_in_a_folder_that_another_uses_is_refused_and_touches_nothing(holder, tiny_file, ray_session, tmp_path):
    with pytest.raises(InputError, match=f"a: in use by .*process {holder.pid}"):
        raymnist.run(tiny_file, {"name": "a"}, results=tmp_path)
    assert [path.name for path in (tmp_path / "a").iterdir()] == [".lock"]


def test_who_asks_for_the_owner_is_told_and_keeps_nobody_out(holder, tmp_path):
    assert f"process {holder.pid}" in owner(tmp_path / "a")
    assert owner(tmp_path / "nowhere") == ""
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait(20)
    assert owner(tmp_path / "a") == ""  # of a run that was killed
    with (tmp_path / "a" / ".lock").open() as asks:
        fcntl.flock(asks, fcntl.LOCK_SH)
        threading.Timer(0.02, asks.close).start()
        with locked(tmp_path / "a"):  # in spite of somebody who asks just then
            assert f"process {os.getpid()}" in owner(tmp_path / "a")
