"""Trainings in a queue, one at a time: commands of vistok in processes of their own. The queue is a file that outlives them."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from vistok.engine.pace import in_words
from vistok.engine.processes import environment
from vistok.errors import UserError, damage_is_a_mistake
from vistok.files import read_json, write_json
from vistok.overview.record import TRAINING, RunRecord

WAITING, RUNNING, DONE, STOPPED, FAILED = "waiting", "running", "done", "stopped", "failed"
FOLDER = "app-queue"
STOPPED_CODE = 130  # of a command that was asked to stop and saved
PATIENCE = 120.0  # seconds that a training has for saving when the app is closed
TAIL = 40


@dataclass(frozen=True)
class Job:
    """A command: its number, what it is for, its words after `vistok`, its state, its process, when it began and ended."""

    number: int
    title: str
    words: tuple[str, ...]
    state: str = WAITING
    process: int | None = None
    began: float | None = None
    ended: float | None = None

    @property
    def lasted(self) -> str:
        """How long it has run, in words."""
        return "" if self.began is None else in_words((self.ended or time.time()) - self.began)


class Queue:
    """The jobs of a folder of runs. Reads those of earlier sittings, none of which starts again by itself.

    `start` begins to work; `close` stops the running training as Ctrl-C does. Raises UserError if the file is damaged.
    """

    def __init__(self, runs: Path) -> None:
        self.folder = runs / FOLDER
        self._changed, self._closing = threading.Condition(), False
        self._jobs = {job.number: job for job in self._read()}
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = False
        self._worker = threading.Thread(target=self._work, name="vistok queue", daemon=True)

    @property
    def file(self) -> Path:
        """The file that holds the jobs."""
        return self.folder / "queue.json"

    def _read(self) -> list[Job]:
        if not self.file.is_file():
            return []
        what, advice = f"queue {self.file}", "delete the file; runs and their logs stay"
        content = read_json(self.file, what, advice)
        with damage_is_a_mistake(what, advice):
            jobs = [Job(**{**job, "words": tuple(job["words"])}) for job in content["jobs"]]
        left = (WAITING, RUNNING)
        return [replace(job, state=STOPPED, process=None) if job.state in left else job for job in jobs]

    def _write(self, jobs: dict[int, Job]) -> None:
        write_json(self.file, {"jobs": [asdict(job) for job in jobs.values()]}, make_folder=True)
        self._jobs = jobs

    def start(self) -> None:
        """Begin to work through the queue."""
        self._worker.start()

    @property
    def jobs(self) -> list[Job]:
        """All jobs, the newest first."""
        with self._changed:
            return sorted(self._jobs.values(), key=lambda job: -job.number)

    def add(self, title: str, words: Sequence[str]) -> Job:
        """Put a command at the end of the queue. Raises UserError if the same command waits or runs already."""
        with self._changed:
            for job in self._jobs.values():
                if job.words == tuple(words) and job.state in (WAITING, RUNNING):
                    raise UserError(f"this is {job.state} already, as number {job.number} in the queue")
            job = Job(max(self._jobs, default=0) + 1, title, tuple(words))
            self._set(job)
            return job

    def again(self, number: int) -> None:
        """Let a job that ended wait for its turn again; a training goes on where it was."""
        with self._changed:
            job = self._job(number)
            if job.state in (WAITING, RUNNING):
                raise UserError(f"number {number} is {job.state} already")
            self._set(replace(job, state=WAITING, process=None, began=None, ended=None))

    def stop(self, number: int) -> None:
        """Ask a running training to save and stop; take one that waits out of its turn."""
        with self._changed:
            job = self._job(number)
            if job.state == WAITING:
                self._set(replace(job, state=STOPPED))
            elif job.state == RUNNING and self._process is not None:
                self._stopping = True
                self._process.send_signal(signal.SIGTERM)
            else:
                raise UserError(f"number {number} does not run; it is {job.state}")

    def remove(self, number: int) -> None:
        """Forget a job that does not run, and its log; what it trained stays."""
        with self._changed:
            if self._job(number).state == RUNNING:
                raise UserError(f"number {number} runs; stop it first")
            self._write({other: job for other, job in self._jobs.items() if other != number})
        self.log_file(number).unlink(missing_ok=True)

    def log_file(self, number: int) -> Path:
        """The file with what a job has printed."""
        return self.folder / f"{number}.log"

    def log(self, number: int) -> list[str]:
        """Return the last lines that a job has printed."""
        try:
            return self.log_file(number).read_text(errors="replace").strip().splitlines()[-TAIL:]
        except OSError:
            return []

    def training(self, run: Path) -> Job | None:
        """Return the job whose process trains a run now; None if no process does, or one that is not ours."""
        running = next((job for job in self.jobs if job.state == RUNNING), None)
        if running is None or running.process is None:
            return None
        record = RunRecord(run)
        sittings = record.provenance.get("sittings") or [{}]
        ours = isinstance(sittings[-1], dict) and sittings[-1].get("process") == running.process
        return running if ours and record.state == TRAINING else None

    def close(self) -> None:
        """Stop the running training, which saves first, and wait for it."""
        with self._changed:
            self._closing = True
            process = self._process
            if process is not None:
                self._stopping = True
                process.send_signal(signal.SIGTERM)
            self._changed.notify_all()
        if self._worker.is_alive():
            self._worker.join(PATIENCE)
        if process is not None and process.poll() is None:
            process.kill()

    def _job(self, number: int) -> Job:
        if number not in self._jobs:
            raise UserError(f"there is no number {number} in the queue any more")
        return self._jobs[number]

    def _set(self, job: Job) -> None:
        self._write({**self._jobs, job.number: job})
        self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._closing and self._next() is None:
                    self._changed.wait()
                job = self._next()
                if self._closing or job is None:
                    return
                try:
                    process = _begun(job, self.log_file(job.number))
                except OSError as error:  # no memory or disk for a process: the others still have their turns
                    with suppress(OSError):
                        self.log_file(job.number).write_text(f"could not be started: {error}\n")
                    now = time.time()
                    self._note(replace(job, state=FAILED, began=now, ended=now))
                    continue
                self._process, self._stopping = process, False
                self._note(replace(job, state=RUNNING, process=process.pid, began=time.time()))
            code = process.wait()
            with self._changed:
                self._process = None
                job = self._jobs[job.number]
                self._note(replace(job, state=_ended(code, self._stopping), process=None, ended=time.time()))

    def _note(self, job: Job) -> None:
        """Change a job, whether or not that can be written down: the training goes on."""
        try:
            self._set(job)
        except (OSError, UserError):
            self._jobs = {**self._jobs, job.number: job}

    def _next(self) -> Job | None:
        return next((job for _, job in sorted(self._jobs.items()) if job.state == WAITING), None)


def _begun(job: Job, log: Path) -> "subprocess.Popen[bytes]":
    """Start a job's process. It is in a session of its own, so that a Ctrl-C at the app's terminal reaches it only once."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "vistok", *job.words], stdin=subprocess.DEVNULL, stdout=file, stderr=file,
            start_new_session=True, env={**environment(None), "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip


def _ended(code: int, stopping: bool) -> str:
    if code == 0:
        return DONE
    return STOPPED if code == STOPPED_CODE or stopping else FAILED
