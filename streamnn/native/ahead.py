"""Compiles ahead, in a thread of its own: a live stream may need a program at any moment, and should not wait for it then.

What is asked for is compiled one after the other. A program that is needed before its turn is compiled by whoever needs it,
as if nothing had been asked for; one that is being compiled is waited for. So which program runs, and with it every result,
does not depend on how far this has come.
"""

import threading
from collections.abc import Callable, Iterable

from streamnn.native.arrays import UnsupportedOperatorError
from streamnn.native.build import CompilerError
from streamnn.native.program import Program

Kinds = frozenset[int]
Compile = Callable[[int, Kinds, Callable[[], bool]], Program]


class Ahead:
    """Programs by size of micro-batch.

    Args:
        compile_size: compiles the given kinds of operation for a size, in another thread than the one that asks; it ends
            early with a `CompilerError` once its last argument says so.
    """

    def __init__(self, compile_size: Compile) -> None:
        self._compile = compile_size
        self._changed = threading.Condition()
        self._waiting: dict[int, Kinds] = {}
        self._begun: dict[int, Kinds] = {}  # at most one
        self._finished: dict[int, Program] = {}
        self._thread: threading.Thread | None = None
        self._stopped = False

    def ask(self, sizes: Iterable[int], kinds: Kinds) -> None:
        """Have programs with these kinds compiled for the sizes, in their order."""
        with self._changed:
            for size in sizes:
                if not self._covers(size, kinds):
                    self._waiting[size] = kinds
            if self._waiting and self._thread is None:
                self._thread = threading.Thread(target=self._work, name="streamnn-compile")
                self._thread.start()

    def take(self, size: int, kinds: Kinds) -> Program | None:
        """Return the program for a size, if it has all these kinds, once it is finished; None if it has not been begun."""
        with self._changed:
            self._waiting.pop(size, None)
            while self._covers(size, kinds):
                self._changed.wait()
            program = self._finished.pop(size, None)
            return program if program is not None and kinds <= program.kinds else None

    def stop(self) -> None:
        """Compile nothing more; what has been begun is given up."""
        self._stopped = True

    def settle(self) -> None:
        """Wait until everything that was asked for is finished."""
        with self._changed:
            self._changed.wait_for(lambda: self._thread is None)

    def _covers(self, size: int, kinds: Kinds) -> bool:
        return size in self._begun and kinds <= self._begun[size]

    def _given_up(self) -> bool:
        # the interpreter waits for this thread before it ends
        return self._stopped or not threading.main_thread().is_alive()

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._waiting or self._given_up():
                    self._waiting.clear()
                    self._thread = None
                    self._changed.notify_all()
                    return
                size = next(iter(self._waiting))
                self._begun = {size: self._waiting.pop(size)}
            program = None
            try:
                program = self._compile(size, self._begun[size], self._given_up)
            except (CompilerError, UnsupportedOperatorError):
                pass  # whoever needs it compiles it then, and meets the error
            finally:
                with self._changed:
                    self._begun = {}
                    if program is not None:
                        self._finished[size] = program
                    self._changed.notify_all()
