"""The queue as HTML: what waits, runs and is done, with the last line of each and what it made."""

from pathlib import Path

from markupsafe import Markup

from vistok.app.parts import folded, joined, quiet
from vistok.app.queue import DONE, FAILED, RUNNING, STOPPED, WAITING, Job, Queue
from vistok.errors import UserError, printable
from vistok.files import data_uri
from vistok.overview.commands import command_line
from vistok.start.plan import NO_MIRROR, plan_file, seconds_of

_ACTIONS = {
    WAITING: (("stop", "Take out"),),
    RUNNING: (("stop", "Stop and save"),),
    STOPPED: (("again", "Go on"), ("remove", "Forget")),
    FAILED: (("again", "Try again"), ("remove", "Forget")),
    DONE: (("remove", "Forget"),),
}


def queue_list(queue: Queue) -> Markup:
    """Return the jobs, the newest first. Buttons carry `data-job` and `data-do`: stop, again or remove."""
    jobs = queue.jobs
    if not jobs:
        return quiet(
            "Nothing is queued. One training runs at a time; closing this page stops none, closing the app saves and stops it."
        )
    return joined([_job(job, queue) for job in jobs])


def _job(job: Job, queue: Queue) -> Markup:
    lines = [line for line in queue.log(job.number) if line.strip()] if job.state != WAITING else []
    buttons = joined([
        Markup('<button type="button" data-job="{}" data-do="{}">{}</button>').format(job.number, action, words)
        for action, words in _ACTIONS[job.state]
    ])  # fmt: skip
    facts = joined([
        Markup("<span>{}</span>").format(f"number {job.number}"),
        Markup('<span class="state {0}">{0}</span>').format(job.state),
        Markup("<b>{}</b>").format(printable(job.title)),
        quiet_span(job.lasted),
    ])  # fmt: skip
    command = command_line(["vistok", *job.words])
    parts = [Markup('<div class="line">{}{}</div>').format(facts, buttons)]
    if job.state == STOPPED:
        begun = "A training has saved; it goes on exactly where it was."
        parts.append(quiet(f"Stopped. {begun}" if job.began else "Stopped before it began."))
    elif lines and job.state != DONE:
        parts.append(quiet(lines[-1].strip()))
    if job.state == DONE and (overview := overview_of(job)):
        parts.append(
            Markup('<figure><img class="pixels" src="{}" alt="pictures"><figcaption>{}</figcaption></figure>').format(
                data_uri(overview.read_bytes()), "Held-out pictures, what the tokens keep of them, and samples"
            )
        )
    said = Markup("<pre>{}</pre>").format(printable("\n".join(lines))) if lines else quiet("It has said nothing yet.")
    parts.append(folded(f"Command and output of number {job.number}", Markup("<pre>{}</pre>").format(command), said))
    return Markup('<div class="job">{}</div>').format(joined(parts))


def quiet_span(text: str) -> Markup:
    """Return a remark within a line."""
    return Markup('<span class="quiet">{}</span>').format(text) if text else Markup("")


def overview_of(job: Job) -> Path | None:
    """Return the picture that `vistok start --go` has drawn at its end, if this job is one and it is there."""
    words = list(job.words)
    try:
        folder, go, runs = words[1], words[words.index("--go") + 1], words[words.index("--runs") + 1]
        picture = plan_file(Path(runs), folder, seconds_of(go), NO_MIRROR not in words).with_name("overview.png")
    except (ValueError, IndexError, UserError):
        return None
    return picture if words[0] == "start" and picture.is_file() else None
