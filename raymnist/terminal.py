"""What the user sees while a run goes on; everything, the libraries' chatter too, goes to the log."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


class Terminal:
    """Lines for the user, and on a terminal a bar with the time left."""

    def __init__(self, stream: TextIO):
        """Write to `stream`, which may be no terminal: plain lines then."""
        self.console = Console(file=stream, highlight=False, soft_wrap=True)

    def say(self, line: str, *, problem: bool = False) -> None:
        """Show a line, and put it into the log where there is one."""
        self.console.print(line, style="bold red" if problem else None, markup=False)
        if self.console.file is not sys.stdout:
            print(line, flush=True)

    @contextlib.contextmanager
    def epochs(self, study: str, total: int) -> Iterator[StudyProgress]:
        """Show the epochs of a study's trials, all counted together, until the block ends."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("epochs, time left"),
            TimeRemainingColumn(),
        )
        hidden = not self.console.is_terminal
        with Progress(*columns, console=self.console, transient=True, disable=hidden, redirect_stdout=False,
                      redirect_stderr=False) as bar:  # fmt: skip
            yield StudyProgress(self, bar, bar.add_task(study, total=total))


class StudyProgress:
    """Tells how far a study is."""

    def __init__(self, terminal: Terminal, bar: Progress, task: TaskID):
        """Use a bar that is shown or hidden by its owner."""
        self.terminal = terminal
        self.bar = bar
        self.task = task

    def advance(self, epochs: int) -> None:
        """Move the bar on."""
        self.bar.advance(self.task, epochs)

    def look(self, line: str) -> None:
        """Show a line where there is no bar."""
        if self.bar.disable:
            self.terminal.say(line)

    def say(self, line: str, *, problem: bool = False) -> None:
        """Show a line above the bar."""
        self.terminal.say(line, problem=problem)


@contextlib.contextmanager
def logging_to(path: Path) -> Iterator[Terminal]:
    """Send all that this process and its libraries print to the end of a file; yield what still reaches the user.

    Ray, TensorFlow and their native code write to the file descriptors, so these are redirected, and given back.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    user = os.fdopen(os.dup(1), "w", encoding="utf-8") if _is_descriptor(sys.stdout, 1) else sys.stdout
    with path.open("ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    try:
        # Loggers keep the stream they find, so it must be one that is never closed.
        with contextlib.redirect_stdout(sys.__stdout__), contextlib.redirect_stderr(sys.__stderr__):
            try:
                yield Terminal(user)
            finally:
                sys.stdout.flush()
    finally:
        for descriptor, copy in zip((1, 2), kept, strict=True):
            os.dup2(copy, descriptor)
            os.close(copy)
        if user is not sys.stdout:
            user.close()


def _is_descriptor(stream: TextIO, descriptor: int) -> bool:
    try:
        return stream.fileno() == descriptor
    except (io.UnsupportedOperation, AttributeError):
        return False
