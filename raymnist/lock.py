"""One run at a time in a results folder."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import getpass
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from raymnist import provenance
from raymnist.errors import InputError

NAME = ".lock"
WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EINVAL)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[str]:
    """Keep other runs out of the folder `path`, which is made if need be, for the length of a block.

    The kernel holds the lock (flock), also over NFS, so that it is gone with its process however that ends; the file
    names its owner, and stays behind where a run was killed. Yields what a user should know of that, or nothing.
    Raises InputError where another run holds the lock, or nothing can be written.
    """
    made = [place for place in (path, *path.absolute().parents) if not place.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
        file, notice = _acquire(path / NAME)
    except BlockingIOError as error:
        raise InputError(f"{path}: in use by {error.strerror}; expected no other run") from None
    except OSError as error:
        raise InputError(f"{path}: expected a folder to write to; {error.strerror}") from None
    with file:
        try:
            yield notice
        finally:
            (path / NAME).unlink(missing_ok=True)
            for place in made:
                if any(place.iterdir()):
                    break
                place.rmdir()


def owner(path: Path) -> str:
    """Name the owner of the lock on the folder `path`; empty where no run holds it."""
    try:
        with (path / NAME).open("r+", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return file.read().strip() or "another run"
    except OSError:
        return ""
    return ""


def _acquire(path: Path) -> tuple[TextIO, str]:
    """Open and lock the file, and put the owner's name in it; raises BlockingIOError with that of another owner."""
    while True:
        file = path.open("a+", encoding="utf-8")
        file.seek(0)
        left = file.read().strip()
        notice = f"an earlier run was ended from outside: {left}; going on with what it left" if left else ""
        try:
            _take(file)
        except OSError as error:
            if error.errno not in WITHOUT_LOCKS:
                file.close()
                if isinstance(error, BlockingIOError | PermissionError):
                    raise BlockingIOError(error.errno, left or "another run") from None
                raise
            notice = f"{path.parent}: its file system has no locks; see to it that no other run uses it"
        if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
            break
        file.close()  # of a run that ended just now, and took the file with it
    file.truncate(0)
    file.write(f"{_user()} on {platform.node()}, process {os.getpid()}, since {provenance.now()}")
    file.flush()
    return file, notice


def _take(file: TextIO) -> None:
    """Take the lock, in a second attempt where somebody just looked who has it (`owner`)."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        time.sleep(0.05)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a number without a name, as in containers
        return f"user {os.getuid()}"
