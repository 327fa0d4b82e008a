"""Works on batches: each has a thread that checks it, waits for its turn, answers its rows, and
makes its results. One batch at a time is answered, the oldest first.

A batch waits as long as its model is not served here, up to the end of its completion window.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection

from l4cli.batch.files import journal_of
from l4cli.errors import L4Error, OutputError
from l4cli.serve.batches.answering import answer
from l4cli.serve.batches.checking import RefusedInputError, StoppedError, check_input
from l4cli.serve.batches.files import FileStore
from l4cli.serve.batches.records import Batch, Problem, problem
from l4cli.serve.batches.results import End, write_results
from l4cli.serve.batches.sharing import EngineGoneError
from l4cli.serve.batches.store import BatchStore
from l4cli.serve.served import Models, Served

_LOOK = 1.0  # seconds after which a waiting batch looks whether its time is over
RETRY = 30.0  # seconds after which something is written again, when the disk was full
_UNFINISHED = frozenset({"validating", "in_progress", "finalizing", "cancelling"})


class Worker:
    """The threads of all unfinished batches.

    store, files: where batches and files are kept.
    models: the served models.
    lenient: whether unknown fields of requests are ignored.
    note: tells the server's operator something, in one line.
    """

    def __init__(
        self,
        store: BatchStore,
        files: FileStore,
        models: Models,
        *,
        lenient: bool,
        note: Callable[[str], None],
    ) -> None:
        self._store, self._files, self._models = store, files, models
        self._lenient, self._note = lenient, note
        self._changed = threading.Condition()
        self._threads: set[threading.Thread] = set()
        self._answering: str | None = None  # the batch whose turn it is
        self._num_stops = 0  # as `run_rows` has it

    def begin(self, batch_id: str) -> None:
        """Start the thread of an unfinished batch."""
        thread = threading.Thread(
            target=self._work, args=[batch_id], name=f"l4-{batch_id}", daemon=True
        )
        with self._changed:
            self._threads.add(thread)
        thread.start()

    def wake(self) -> None:
        """Have all batches look at their records."""
        with self._changed:
            self._changed.notify_all()

    def drain(self) -> None:
        """Start no further row. Those in flight go on, up to `close`."""
        self._num_stops = max(1, self._num_stops)
        self.wake()

    def close(self) -> None:
        """End all threads. Rows in flight are dropped, and asked again after the next start."""
        self._num_stops = 2
        self.wake()
        for thread in list(self._threads):
            thread.join()

    def _work(self, batch_id: str) -> None:
        try:
            while not self._num_stops and not self._try_to_end(batch_id):
                with self._changed:
                    self._changed.wait(RETRY)
        finally:
            with self._changed:
                self._threads.discard(threading.current_thread())

    def _try_to_end(self, batch_id: str) -> bool:
        """Bring a batch as far as possible. False if it should be tried again later."""
        try:
            self._bring_to_end(batch_id)
        except EngineGoneError:
            pass  # the next server goes on
        except RefusedInputError as error:
            return self._fail(batch_id, error.problems)
        except (OutputError, OSError) as error:
            self._note(f"{batch_id}: {error}; it is tried again in {RETRY:.0f} s")
            return False
        except L4Error as error:
            return self._fail(batch_id, [problem(error.type, str(error))])
        except Exception as error:
            message = f"this is a bug in l4: {type(error).__name__}: {error}"
            return self._fail(batch_id, [problem("bug", message)])
        return True

    def _bring_to_end(self, batch_id: str) -> None:
        batch = self._store.get(batch_id)
        if batch.status == "validating":
            batch = self._checked(batch)
        if batch.status == "in_progress" and self._answer_in_turn(batch):
            batch = self._store.move(batch_id, "finalizing", since=["in_progress"])
        batch = self._store.get(batch_id)
        if batch.status == "finalizing":
            self._finish(batch, "completed")
        elif batch.status == "cancelling":
            self._finish(batch, "cancelled")
        elif not batch.is_over and batch.is_late(time.time()):
            self._finish(batch, "expired")

    def _checked(self, batch: Batch) -> Batch:
        """Check the input of a batch, and find out which model answers it."""
        try:
            found = check_input(
                self._files.path(batch.input_file_id),
                batch.endpoint,
                self._models,
                lenient=self._lenient,
                stopping=lambda: self._stopping(batch.id),
            )
        except StoppedError:
            return self._store.get(batch.id)
        return self._store.move(
            batch.id,
            "in_progress",
            since=["validating"],
            model=found.served.name,
            model_file=found.served.llm.fingerprint,
            total=found.num_rows,
        )

    def _answer_in_turn(self, batch: Batch) -> bool:
        """Answer the rows of a batch when it is its turn; whether all have an answer now."""
        served = self._wait_for_turn(batch)
        if served is None:
            return False
        try:
            return answer(
                batch,
                self._files.path(batch.input_file_id),
                self._store.rows(batch.id),
                served,
                self._models,
                lenient=self._lenient,
                stopping=lambda: self._stopping(batch.id),
                on_count=lambda completed, failed: self._store.count(batch.id, completed, failed),
            )
        finally:
            self._store.keep_counts(batch.id)
            with self._changed:
                self._answering = None
                self._changed.notify_all()

    def _wait_for_turn(self, batch: Batch) -> Served | None:
        """Wait until no older batch can be answered. None if the batch has to end before that."""
        if self._served(batch) is None:
            self._note(f"{batch.id} waits for the model {batch.model}, which is not served here")
        with self._changed:
            while not self._stopping(batch.id):
                served = self._served(batch)
                if served and self._answering is None and self._is_oldest(batch):
                    self._answering = batch.id
                    return served
                self._changed.wait(_LOOK)
        return None

    def _is_oldest(self, batch: Batch) -> bool:
        ready = [
            one
            for one in self._store.all()
            if one.status == "in_progress" and self._served(one) and not one.is_late(time.time())
        ]
        return ready[-1].id == batch.id

    def _served(self, batch: Batch) -> Served | None:
        """Return the model of a batch if it is served here, from the same file."""
        served = self._models.find(batch.model)
        if served is None or served.llm.fingerprint != batch.model_file:
            return None
        return None if served.engine.failure else served

    def _stopping(self, batch_id: str) -> int:
        """How urgently a batch has to stop, as `run_rows` has it."""
        batch = self._store.get(batch_id)
        if batch.status == "cancelling" or batch.is_late(time.time()):
            return 2
        return self._num_stops

    def _finish(self, batch: Batch, end: End) -> None:
        """Make the results of a batch, and then record its end."""
        rows = self._store.rows(batch.id)
        source = self._files.path(batch.input_file_id)
        found = write_results(batch, end, source, rows, self._files)
        made = {batch.output_id: found.completed, batch.error_id: found.failed}
        self._store.move(
            batch.id,
            end,
            since=_UNFINISHED,
            total=found.completed + found.failed,
            completed=found.completed,
            failed=found.failed,
            results=tuple(file_id for file_id, count in made.items() if count),
        )
        for path in (rows, journal_of(rows)):
            path.unlink(missing_ok=True)

    def _fail(self, batch_id: str, problems: Collection[Problem]) -> bool:
        """Record that a batch has failed; False if it cannot be recorded now."""
        try:
            self._store.move(batch_id, "failed", since=_UNFINISHED, errors=tuple(problems))
        except OutputError as error:
            self._note(f"{batch_id}: {error}")
            return False
        return True
