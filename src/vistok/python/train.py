"""`vistok.train`: images in, a run out; the same steps as the command line's."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vistok.errors import UserError
from vistok.files import whole_path
from vistok.overview.page import write_picture
from vistok.overview.record import RunRecord
from vistok.python.finding import model_path
from vistok.python.progress import live_progress
from vistok.python.run import Run
from vistok.python.settings import Settings, assignments, recipe_config
from vistok.runs.curves import headline
from vistok.runs.find import lasting
from vistok.runs.health.gate import alarms_of, require_alive

if TYPE_CHECKING:
    from vistok.engine.log import Progress
    from vistok.runs.job import Job


def train(
    images: Any = None,
    labels: Any = None,
    recipe: str = "images64_vq",
    set: Settings = None,
    *,
    classes: Sequence[str] | None = None,
    tokenizer: "Run | str | Path | None" = None,
    teacher: "Run | str | Path | None" = None,
    init_from: "Run | str | Path | None" = None,
    proxy: "Run | str | Path | None" = None,
    codes: "Run | str | Path | None" = None,
    views: str | Sequence[str] | None = None,
    image_size: int | None = None,
    runs: str | Path = "runs",
    name: str | None = None,
    anyway: bool = False,
    quiet: bool = False,
) -> Run:
    """Train a tokenizer, a classifier or, with `tokenizer`, a generator, and return its run; a finished one is returned at once.

    `images`: uint8, as an array (count, height, width[, channels]) or a tensor (count, channels, height, width); a list of
    arrays, tensors or Pillow pictures, whose sizes may differ; a torch Dataset of images or (image, label); or a folder of
    image files. A tenth is held out for validation, a tenth for tests. Images from memory are kept once, below `runs` in
    `images-<digest>/images.tar`, so that a run on them can be resumed, cached and scored; the same images get the same run.
    `labels`: class numbers or names, one for each image; `classes`: the names of the numbers.
    `recipe`: vistok recipes lists them. `set`: changed values, as in {"length": "300 steps", "optimizer.lr": 1e-3}, or a list
    of texts as for the command line's --set.
    `tokenizer`: the run whose images and latents a generator learns (images are not given again); they are cached in the
    tokenizer's run, with these `views` ("20-crops" helps where there are few images) and this `image_size` in pixels.
    `teacher`: the generator that a shortcut's recipe starts from; its tokenizer need not be named.
    `init_from`: a run, a file or a shipped name such as "pictures64", whose network and weights training starts from.
    `proxy`, `codes`: the tokenizer whose tokens a line's decoder learns ("fashion_proxy_line"), or a renderer draws ("images64_renderer").
    `runs`: the folder for runs; `name`: the first part of the run's name.
    `anyway`: go on even if the tokenizer's run, or that of `init_from`, ended with an alarm that says it is dead. `quiet`: show no progress.

    Example: `run = vistok.train(images, labels, set={"length": "300 steps"})`. Called again with the same arguments, an
    interrupted run goes on where it stopped. Raises UserError for bad input, in one sentence, and KeyboardInterrupt when it is
    stopped, with its state saved.
    """
    folder, named = Path(runs), {} if name is None else {"name": name}
    grids = (_init(proxy, "tokenizer", folder), _init(codes, "tokenizer", folder))
    config = recipe_config(recipe, set, lambda kind: _init(init_from, kind, folder), *grids).replace(**named)
    if teacher is not None:
        config, tokenizer, image_size = _shortened(config, recipe, set, teacher, tokenizer, folder)
    with live_progress(quiet) as progress:
        if begun_with := getattr(config, "init_from", None):
            require_alive(begun_with, anyway, progress.say)
        if config.kind == "generator":
            _no_images(images, labels, classes)
            path = _tokenizer(tokenizer, recipe, folder)
            require_alive(path, anyway, progress.say)
            job = _generator_job(config, path, _views(views), image_size, images, folder, progress)
        else:
            if tokenizer is not None or views is not None or image_size is not None:
                raise UserError(
                    f"recipe {recipe!r} is for a {config.kind}; tokenizer, views and image_size are for generators' recipes"
                )
            job = _image_job(_on_images(config, recipe, images, labels, classes, folder, progress), folder)
        return _trained(job, progress)


def _trained(job: "Job", progress: "Progress") -> Run:
    """Train to the end, and return the run with its page's picture."""
    finished = job.finished
    job.train(progress)
    run = Run(job.run_dir.path)
    if not finished:
        write_picture(RunRecord(run.path))
        progress.say(_how_it_went(run))
    return run


def _how_it_went(run: Run) -> str:
    alarms = alarms_of(run.path)
    if alarms:
        return f"warning: {run.name} is finished, with alarms: {', '.join(alarm.name for alarm in alarms)}"
    return f"{run.name} is finished: {headline(RunRecord(run.path).rows, run.kind)}"


def _init(init_from: Any, kind: str, runs: Path) -> str | None:
    """Return the run, file or shipped name that training starts from."""
    if init_from is None or isinstance(init_from, Run):
        return None if init_from is None else str(init_from.path)
    return lasting(str(init_from), model_path(init_from, kind, runs), kind)


def _views(views: str | Sequence[str] | None) -> tuple[str, ...] | None:
    return None if views is None else (views,) if isinstance(views, str) else tuple(views)


def _no_images(images: Any, labels: Any, classes: Any) -> None:
    """Raise UserError for images from memory where a generator is trained."""
    if labels is not None or classes is not None or not isinstance(images, str | Path | type(None)):
        raise UserError(
            "a generator learns the images of its tokenizer: leave out images and labels, or give the folder where those images "
            'are now; name the tokenizer\'s run, as in tokenizer="latest"'
        )


def _tokenizer(tokenizer: Any, recipe: str, runs: Path) -> Path:
    if tokenizer is None:
        raise UserError(
            f'recipe {recipe!r} is for a generator: name the run of its tokenizer, as in tokenizer="latest"'
        )
    return model_path(tokenizer, "tokenizer", runs)


def _shortened(
    config: Any, recipe: str, changed: Settings, teacher: Any, tokenizer: Any, runs: Path
) -> tuple[Any, Path, int | None]:
    """Return a shortcut's config set to its teacher, and the tokenizer and the image size of both."""
    from vistok.runs.teacher import image_size_of, require_teachers_network, tokenizer_of, with_teacher

    if config.kind != "generator":
        raise UserError(f"recipe {recipe!r} is for a {config.kind}; only recipes of shortcuts take a teacher")
    require_teachers_network(assignments(changed))
    made = with_teacher(config, str(model_path(teacher, "generator", runs).resolve()))
    given = None if tokenizer is None else model_path(tokenizer, "tokenizer", runs)
    return made, tokenizer_of(made, given), image_size_of(made)


def _generator_job(
    config: Any, tokenizer: Path, views: tuple[str, ...] | None, image_size: int | None, images: Any, runs: Path,
    progress: "Progress",
) -> "Job":  # fmt: skip
    from vistok.verbs.cache_latents import cache_tokens
    from vistok.verbs.train_generator import prepare, require_fits

    require_fits(config, tokenizer, image_size)
    root = None if images is None else str(images)
    train_cache = cache_tokens(tokenizer, "train", progress, root=root, views=views, image_size=image_size)
    validation = cache_tokens(tokenizer, "val", progress, root=root, image_size=image_size)
    return prepare(config, train_cache, validation, tokenizer, runs, root, progress)


def _image_job(config: Any, runs: Path) -> "Job":
    from vistok.verbs import train_classifier, train_tokenizer

    return (train_tokenizer if config.kind == "tokenizer" else train_classifier).prepare(config, runs)


def _on_images(
    config: Any, recipe: str, images: Any, labels: Any, classes: Any, runs: Path, progress: "Progress"
) -> Any:
    """Return a config on the given images: a folder, or what is kept of images from memory."""
    from vistok.python.given import given
    from vistok.python.kept_images import DATASET, keep

    if not hasattr(config, "data"):
        raise UserError(
            f"recipe {recipe!r} is a {config.kind}; vistok.train takes tokenizers, generators and classifiers"
        )
    if images is None or isinstance(images, str | Path):
        if labels is not None or classes is not None:
            raise UserError("labels and classes go with images from memory; a folder's classes are its sub-folders")
        if images is None and config.data.dataset == "folder" and not Path(config.data.root).is_dir():
            raise UserError(
                f"recipe {recipe!r} is for images of your own: give an array, a list, a data set or a folder"
            )
        return config if images is None else config.replace(data=config.data.replace(root=whole_path(str(images))))
    folder = keep(given(images, labels, classes), runs, progress)
    return config.replace(data=config.data.replace(dataset=DATASET, root=str(folder)))
