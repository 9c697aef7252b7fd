"""What is killed and started again: every kind of run, small, each in a process of its own."""

import builtins
import io
import os
import signal
from collections.abc import Callable
from pathlib import Path

import torch

from vistok.config import override
from vistok.data.latents.cache import LatentCache
from vistok.engine.log import Progress
from vistok.recipes import find_recipe
from vistok.verbs import train_classifier, train_generator, train_tokenizer
from vistok.verbs.cache_latents import cache_tokens

ROOT = Path(__file__).resolve().parent.parent / "data"
# A checkpoint after every step: most of the time a file is being written. The last one is kept, to be compared.
OFTEN = ["execution.checkpoint_minutes=1e-6", "execution.log_every=1", "execution.tensorboard=false",
         "execution.evaluate_every=5", "execution.milestones=[12]"]  # fmt: skip
GAN = ["losses.adversarial.weight=0.5", "losses.adversarial.start=3 steps", "losses.adversarial.ramp=3 steps",
       "losses.adversarial.channels=8", "losses.adversarial.num_layers=2", "tokenizer.quantizer.restart_after=4"]  # fmt: skip


def image_settings(count: int) -> list[str]:
    return [f'data.root="{ROOT}"', f"data.max_images={count}", *OFTEN]


def tokenizer_config():
    return override(find_recipe("debug_crt"), [*image_settings(60), *GAN, "length=12 steps"])


def tokenizer(given: Path, runs: Path) -> None:
    train_tokenizer.prepare(tokenizer_config(), runs).train(Progress(quiet=True))


def classifier(given: Path, runs: Path) -> None:
    config = override(find_recipe("debug_classifier"), [*image_settings(60), "length=12 steps"])
    train_classifier.prepare(config, runs).train(Progress(quiet=True))


def generator(given: Path, runs: Path) -> None:
    caches = [LatentCache(given / "tokens" / split) for split in ("train", "val")]
    config = override(find_recipe("debug_ar"), [*OFTEN, "generator.dropout=0.2", "length=12 steps"])
    train_generator.prepare(config, *caches, given, runs).train(Progress(quiet=True))


def cache(given: Path, runs: Path) -> None:
    from vistok.verbs import cache_latents as task

    task.BATCH = 20  # many pieces
    cache_tokens(given, "train", Progress(quiet=True), out=runs / "train")


JOBS: dict[str, Callable[[Path, Path], None]] = {
    "tokenizer": tokenizer, "generator": generator, "classifier": classifier, "cache": cache
}  # fmt: skip


class Saboteur:
    """Counts file operations (half of every write is one of its own) and kills this process at a given one."""

    def __init__(self, report: Path, fatal: int | None) -> None:
        self.report, self.fatal, self.count = report, fatal, 0

    def operation(self, name: str, path: object) -> None:
        self.count += 1
        if self.count == self.fatal:
            self.report.write_bytes(f"{name} {Path(str(path)).name}".encode())
            os.kill(os.getpid(), signal.SIGKILL)

    def install(self) -> None:
        plain_open, plain_replace, plain_fsync, plain_unlink = builtins.open, os.replace, os.fsync, os.unlink
        saboteur = self

        class Halves:
            """A file whose writes come in two halves."""

            def __init__(self, file, path):
                self.file, self.path = file, path

            def write(self, data):
                half = len(data) // 2
                saboteur.operation("before writing", self.path)
                self.file.write(data[:half])
                self.file.flush()
                saboteur.operation("in the middle of writing", self.path)
                return half + self.file.write(data[half:])

            def __getattr__(self, name):
                return getattr(self.file, name)

            def __enter__(self):
                return self

            def __exit__(self, *error):
                self.file.close()

        def opened(path, mode="r", *args, **kwargs):
            file = plain_open(path, mode, *args, **kwargs)
            return Halves(file, path) if set(mode) & set("wax") and path != saboteur.report else file

        def replace(source, target, **kwargs):
            saboteur.operation("before renaming", target)
            plain_replace(source, target, **kwargs)
            saboteur.operation("after renaming", target)

        def fsync(handle):
            saboteur.operation("before syncing", "a file")
            plain_fsync(handle)

        def unlink(path, **kwargs):
            saboteur.operation("before deleting", path)
            plain_unlink(path, **kwargs)

        builtins.open = io.open = opened
        os.replace, os.fsync, os.unlink = replace, fsync, unlink


def work(name: str, given: Path, runs: Path, report: Path, fatal: int | None) -> None:
    """Do a job; with `fatal`, die at that file operation. Writes the number of operations where it lives."""
    torch.set_num_threads(1)
    saboteur = Saboteur(report, fatal)
    saboteur.install()
    JOBS[name](given, runs)
    report.write_bytes(str(saboteur.count).encode())


# Children are forked from a process that has imported this: counting FLOPs once is enough.
train_tokenizer.plan(tokenizer_config(), 60)
