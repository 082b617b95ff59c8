"""A token handed to a program, on its standard input and nowhere else: never in its arguments or environment.

Arguments and environment of a process can be read in /proc and are logged by auditors. The program learns what it is
given from PROMGATE_NAME, PROMGATE_KIND, PROMGATE_TOKEN_ID and PROMGATE_ROTATION, reads one line, and ends with 0:
that is the receipt. Our own environment may hold secrets of the configuration (`${env:NAME}`): of that it gets what a
program needs to run, and what the configuration names for it.

It runs in a process group of its own. When it has ended, or at its deadline, what is left of the group is ended by
its id, while the leader is not reaped yet and the id is nobody else's. Nothing here needs an event loop: it is alike
on all of them.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Final

from proxy.delivery.scrub import first_line
from proxy.tokens.ports import DeliveryError

if TYPE_CHECKING:
    from proxy.tokens.ports import Parcel
    from proxy.tokens.targets import CommandTarget

#: Between asking a group to end and ending it.
_GRACE_S: Final = 2.0
#: How often is looked whether it has ended: waitid(2) cannot wait for a time.
_LOOK_S: Final = 0.02
_MAX_SAID: Final = 4096
#: Where programs are, where its user's files are, how it speaks and what time it tells.
_USUAL: Final = ("PATH", "HOME", "LANG", "TZ")


class CommandSink:
    """Runs the program once for each parcel."""

    def __init__(self, where: CommandTarget) -> None:
        self.target = where.target
        self._where = where

    def deliver(self, parcel: Parcel) -> None:
        told = {
            "PROMGATE_NAME": parcel.name,
            "PROMGATE_KIND": parcel.kind.value,
            "PROMGATE_TOKEN_ID": parcel.token_id,
            "PROMGATE_ROTATION": parcel.rotation,
        }
        try:
            child = subprocess.Popen(  # noqa: S603 - the operator's own words, no shell
                self._where.argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=self._environment() | told,
                bufsize=0,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise DeliveryError(f"{self.target}: cannot be run: {why}; is it there, and executable?") from error
        run = _Run(child, parcel.secret.reveal().encode() + b"\n", monotonic() + self._where.timeout_s)
        code = run.finish()
        said = first_line(run.said, parcel.secret)
        if code is None:
            text = f"did not end within {self._where.timeout_s:g} s and was ended"
        elif code != 0:
            text = f"ended with {_name_of(code)}"
        else:
            return
        raise DeliveryError(f"{self.target}: {text}{': ' + said if said else '; it said nothing on stderr'}")

    def _environment(self) -> dict[str, str]:
        return {name: os.environ[name] for name in (*_USUAL, *self._where.environment) if name in os.environ}


class _Run:
    """One run of the program, from its first line to the end of its group."""

    def __init__(self, child: subprocess.Popen[bytes], given: bytes, deadline: float) -> None:
        assert child.stdin is not None
        assert child.stderr is not None
        self._child, self._given, self._deadline = child, given, deadline
        self._stdin, self._stderr = child.stdin, child.stderr
        self._is_talking = True
        self.said = b""

    def finish(self) -> int | None:
        """The exit code (negative: the signal), or None at the deadline."""
        os.set_blocking(self._stderr.fileno(), False)
        code = None
        try:
            with suppress(BrokenPipeError):  # it need not read; its exit code says whether that was right
                self._stdin.write(self._given)  # far less than a pipe holds
            self._stdin.close()
            in_time = self._wait_until(self._deadline)
            if not in_time:
                self._signal(signal.SIGTERM)
                self._wait_until(monotonic() + _GRACE_S)
            self._listen(0.0)
        finally:
            self._signal(signal.SIGKILL)
            with suppress(subprocess.TimeoutExpired):  # sudo's child is not ours to end
                code = self._child.wait(_GRACE_S)
            self._stderr.close()
        return code if in_time else None

    def _wait_until(self, deadline: float) -> bool:
        while os.waitid(os.P_PID, self._child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            if monotonic() >= deadline:
                return False
            self._listen(_LOOK_S)
        return True

    def _listen(self, wait_s: float) -> None:
        """Take what it says, so that it never waits for us; keep the beginning."""
        if not self._is_talking:
            time.sleep(wait_s)
            return
        poll = select.poll()
        poll.register(self._stderr, select.POLLIN)
        if poll.poll(wait_s * 1000):
            piece = os.read(self._stderr.fileno(), 65536)
            self._is_talking = bool(piece)
            self.said = (self.said + piece)[:_MAX_SAID]

    def _signal(self, number: signal.Signals) -> None:
        # The leader is our child and not reaped, so the id is still its group's.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._child.pid, number)


def _name_of(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
