"""What the app's pages show and do, without a browser."""

import json
import shlex
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from tiny_networks import write_pair
from vistok.app import queue as queue_module
from vistok.app import queue_view, runs_view
from vistok.app.advice_applied import advised_settings, again_with, settings_in
from vistok.app.drawing import draw
from vistok.app.neighbours import nearest_training_images
from vistok.app.networks import Networks
from vistok.app.pages.generate import SOLVERS, _range, wishes
from vistok.app.pages.run import shown, stop_run
from vistok.app.pages.train import train_folder
from vistok.app.parts import page, table
from vistok.app.place import Place
from vistok.app.queue import DONE, FAILED, RUNNING, STOPPED, WAITING, Queue
from vistok.app.style import colours, css
from vistok.app.wish import Wish, class_text, command_of
from vistok.cli import app
from vistok.config import override
from vistok.engine.run_dir import RunDir
from vistok.errors import UserError
from vistok.generator.flow.config import FlowConfig
from vistok.generator.flow.generator import FlowGenerator
from vistok.generator.masked.config import MaskedConfig
from vistok.generator.masked.generator import MaskedGenerator
from vistok.overview.record import RunRecord
from vistok.recipes import find_recipe
from vistok.runs.drawing import usual_sampling
from vistok.runs.shipped import shipped_network
from vistok.space import Vectors, grid, token_grid
from vistok.start.plan import Stage, StartPlan, plan_file

REPOSITORY = Path(__file__).resolve().parent.parent
ALARM = 'codes collapsed. Train it again with --set "optimizer.warmup=5 percent" (the 50 % don\'t fit)'


@pytest.fixture
def place(tmp_path) -> Place:
    return Place(tmp_path / "runs", tmp_path / "results")


def run_at(folder: Path, recipe: str, rows=(), command=(), settings=()) -> RunRecord:
    """A run directory as training leaves it, without training."""
    config = override(find_recipe(recipe), list(settings))
    run = RunDir(folder)
    folder.mkdir(parents=True)
    run.start(config, {"steps": 100})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if command:
        written = json.loads((folder / "provenance.json").read_text())
        (folder / "provenance.json").write_text(json.dumps({**written, "command": list(command)}))
    return RunRecord(folder)


def validation(step, **values):
    return {"kind": "validation", "step": step, **values}


# Runs


def test_curves_of_runs_lie_over_one_another(place):
    rows = [[validation(step, psnr=10.0 + step / scale) for step in (0, 10, 20)] for scale in (2, 4)]
    first, second = (run_at(place.runs / f"r{i}", "debug_vq", row) for i, row in enumerate(rows))
    other = run_at(place.runs / "g", "debug_ar", [validation(0, nats_per_token=2.0)])
    assert runs_view.quantities([first, other]) == ["PSNR of held-out images (dB)", "Nats per token"]
    chart = runs_view.overlaid([first, other, second], "PSNR of held-out images (dB)")
    assert [(line.label, list(line.ys), line.colour) for line in chart.series] == [
        ("r0", [10, 15, 20], 0), ("r1", [10, 12.5, 15], 2),
    ]  # fmt: skip
    assert runs_view.overlaid([other], "PSNR of held-out images (dB)") is None


def test_the_table_is_read_again_only_where_a_run_changed(place, monkeypatch):
    for name in ("a", "b"):
        run_at(place.runs / name, "debug_vq", [validation(0, psnr=9.0)])
    rows = runs_view.RunRows(place.runs)
    assert {row.name: row.score.value for row in rows.read()} == {"a": 9.0, "b": 9.0}
    read = []
    original = runs_view.RunRecord
    monkeypatch.setattr(runs_view, "RunRecord", lambda path: read.append(path.name) or original(path))
    time.sleep(0.02)
    with open(place.runs / "b" / "metrics.jsonl", "a") as file:
        file.write(json.dumps(validation(5, psnr=11.0)) + "\n")
    assert {row.name: row.score.value for row in rows.read()} == {"a": 9.0, "b": 11.0} and read == ["b"]


EVIL = "<img src=x onerror=alert(1)>"


def test_names_from_outside_are_text(place):
    record = run_at(place.runs / EVIL, "debug_vq", settings=[f'data.root="{EVIL}"'])
    html = [
        page(runs_view.runs_table(runs_view.RunRows(place.runs).read(), [EVIL], place.runs)),
        shown(record),
        page(table(["a"], [[EVIL]])),
    ]
    queue = Queue(place.runs)
    queue.add(EVIL, ["train", "tokenizer", EVIL])
    html.append(page(queue_view.queue_list(queue)))
    assert not [text for text in html if "<img src=x" in text] and all("&lt;img" in text for text in html)


def test_styles_stay_inside_and_follow_dark_mode():
    light, dark = colours()
    text = css()
    assert light["paper"] != dark["paper"] and f"--paper: {dark['paper']}" in text.split(".dark &")[1]
    assert ":root" not in text and "\nbody" not in text and "prefers-color-scheme" not in text


# Advice and stopping


def test_advice_names_its_settings():
    assert settings_in(ALARM) == ["optimizer.warmup=5 percent"]
    assert settings_in("Train it again with --set crt.weight=0.5 (a weight of 4)") == ["crt.weight=0.5"]
    assert settings_in("Start from a trained tokenizer: --init-from RUN") == []


def test_advice_becomes_the_command_that_made_the_run_with_one_more_setting(place):
    alarm = {"kind": "alarm", "step": 5, "alarm": "collapsed", "value": 0.1, "advice": ALARM}
    command = ["vistok", "train", "tokenizer", "debug_vq", "--runs", "elsewhere", "--set", "seed=3"]
    record = run_at(place.runs / "r", "debug_vq", [alarm], command)
    assert advised_settings(record) == ["optimizer.warmup=5 percent"]
    words = ["train", "tokenizer", "debug_vq", "--set", "seed=3", "--runs", str(place.runs), "--set", "crt.weight=1"]
    assert again_with(record, "crt.weight=1") == words
    unknown = run_at(place.runs / "x", "debug_vq", command=["python", "mine.py"])
    with pytest.raises(UserError, match="cannot be repeated from here; add --set 'seed=1'"):
        again_with(unknown, "seed=1")


def test_advice_on_a_run_of_vistok_start_repeats_its_stage(place):
    plan = StartPlan("photos", 32, 64, 32, Stage("images32_crt", ("data.channels=1",), 70, 1.0),
                     Stage("images64_ar_small", (), 80, 1.0), "pictures64", 1800.0)  # fmt: skip
    file = plan_file(place.runs, "photos", 1800)
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(plan.to_json()))
    record = run_at(place.runs / "r", "images32_crt", command=["__main__.py", "start", "photos", "--go", "30m"])
    whole = file.read_text()
    file.write_text("{}")
    with pytest.raises(UserError, match="cannot be repeated from here"):
        again_with(record, "seed=1")
    file.write_text(whole)
    assert shlex.join(again_with(record, "seed=1")) == (
        "train tokenizer images32_crt --data photos --init-from pictures64 --set data.channels=1 --set 'length=\"70 steps\"' "
        f"--runs {place.runs} --set seed=1"
    )


def test_only_what_the_app_trains_is_stopped(place):
    queue = Queue(place.runs)
    run_at(place.runs / "r", "debug_vq")
    with pytest.raises(UserError, match="does not train now: it is not begun"):
        stop_run(place, queue, "r")
    with RunDir(place.runs / "r"), pytest.raises(UserError, match="by a process that this app did not start"):
        stop_run(place, queue, "r")


# The queue


def until(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "took too long"
        time.sleep(0.05)


def test_jobs_run_one_after_another_and_their_end_is_told(place):
    queue = Queue(place.runs)
    for words in (["recipes"], ["recipes", "no_such"], ["recipes", "--json"]):
        queue.add(" ".join(words), words)
    with pytest.raises(UserError, match="this is waiting already, as number 1"):
        queue.add("again", ["recipes"])
    queue.stop(3)
    queue.start()
    most = 0

    def ended():
        nonlocal most
        states = [job.state for job in queue.jobs]
        most = max(most, states.count(RUNNING))
        return not {WAITING, RUNNING} & set(states)

    try:
        until(ended)
    finally:
        queue.close()
    assert most == 1 and {job.number: job.state for job in queue.jobs} == {1: DONE, 2: FAILED, 3: STOPPED}
    assert "no_such" in queue.log(2)[-1]
    html = queue_view.queue_list(queue)
    assert 'data-job="2" data-do="again"' in html and "Did you mean" not in queue.jobs[0].title
    again = Queue(place.runs)  # after the app was closed
    again.again(3)
    assert [job.state for job in again.jobs] == [WAITING, FAILED, DONE]
    assert [job.state for job in Queue(place.runs).jobs] == [STOPPED, FAILED, DONE]  # none begins by itself
    again.remove(2)
    assert [job.number for job in again.jobs] == [3, 1] and again.log(2) == []


def test_a_process_that_cannot_be_started_leaves_the_others_their_turns(place, monkeypatch):
    """The thread that works on the queue ended, and what waited waited for ever."""
    begin, begun = queue_module._begun, []

    def failing(job, log):
        begun.append(job.number)
        if job.number == 1:
            raise OSError(28, "No space left on device")
        return begin(job, log)

    monkeypatch.setattr(queue_module, "_begun", failing)
    queue = Queue(place.runs)
    queue.add("first", ["recipes"])
    queue.add("second", ["recipes", "--json"])
    queue.add("third", ["recipes", "debug_vq"])
    queue.stop(3)
    queue.start()
    try:
        until(lambda: queue.jobs[0].state == DONE or queue.jobs[1].state == DONE)
    finally:
        queue.close()
    assert {job.number: job.state for job in queue.jobs} == {1: FAILED, 2: DONE, 3: STOPPED}
    assert "No space left" in queue.log(1)[-1] and "Stopped before it began." in queue_view.queue_list(queue)


@pytest.mark.slow
def test_closing_saves_and_stops_and_the_run_goes_on(place, fashion_root):
    words = ["train", "tokenizer", "debug_vq", "--data", str(fashion_root), "--runs", str(place.runs)]
    words += ["--set", 'length="100000 steps"', "--set", "data.max_images=200"]

    def training():
        runs = list(place.runs.glob("debug-vq-*"))
        return bool(runs and (runs[0] / "metrics.jsonl").is_file() and RunRecord(runs[0]).step > 0)

    queue = Queue(place.runs)
    queue.add("long", words)
    queue.start()
    try:
        until(training, 120)
        (run,) = place.runs.glob("debug-vq-*")
        assert queue.training(run).number == 1 and Queue(place.runs).training(run) is None
    finally:
        queue.close()
    record = RunRecord(run)
    assert record.state == "stopped" and queue.jobs[0].state == STOPPED and record.step > 0
    assert "repeat the command" in queue.log(1)[-1]
    again = Queue(place.runs)
    again.again(1)
    again.start()
    try:
        until(lambda: RunRecord(run).step > record.step, 120)
        stop_run(place, again, run.name)
        until(lambda: again.jobs[0].state == STOPPED, 120)
    finally:
        again.close()
    assert RunRecord(run).provenance["sittings"][-1]["from_step"] == record.step


def test_a_folder_is_queued_as_a_command(place, tmp_path):
    queue = Queue(place.runs)
    (tmp_path / "photos").mkdir()
    job = train_folder(queue, place, f" {tmp_path}/photos ", "30m")
    assert job.words == ("start", f"{tmp_path}/photos", "--go", "30m", "--runs", str(place.runs))
    with pytest.raises(UserError, match="no such folder"):
        train_folder(queue, place, str(tmp_path / "other"), "30m")
    with pytest.raises(UserError, match="at least a minute"):
        train_folder(queue, place, str(tmp_path / "photos"), "soon")


# Drawing


def drawn_by_command(command: str, folder: Path, monkeypatch) -> np.ndarray:
    monkeypatch.chdir(folder)
    done = CliRunner().invoke(app, shlex.split(command)[1:])
    assert done.exit_code == 0, done.output
    with Image.open(folder / "samples.png") as picture:
        return np.asarray(picture.convert("RGB"))


def drawn_by_python(program: str) -> torch.Tensor:
    names: dict = {}
    exec(program, names)
    images = names["images"]
    return images.pixels if "run" in names else ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def test_a_generator_is_drawn_by_its_own_solver_and_steps_until_told_otherwise():
    """Shortcuts were drawn with the solver of ordinary flows, and mean flows not at all."""
    generator = Networks().generator(shipped_network("fashion-flow", "generator"))
    usual = usual_sampling(generator)
    assert (usual.steps, usual.guidance_scale) == (6, 1.75)
    assert _range(generator, "steps")["value"] == 6 and _range(generator, "solver") == {"value": ""}
    assert SOLVERS[0][1] == "" and ("renoise", "renoise") in SOLVERS
    (wish,) = wishes("fashion-flow", None, [], 4, 0, 1.75, 1.0, 0, 1.0, 6, "")
    assert usual_sampling(generator, wish.sampling("flow")) == usual
    assert "--solver" not in command_of(wish, "flow", ())


def require_same_pictures(wish: Wish, path: Path, folder: Path, monkeypatch):
    found = draw(wish, path, Networks())
    (folder / "app.png").write_bytes(found.sheet())
    with Image.open(folder / "app.png") as picture:
        assert np.array_equal(
            np.asarray(picture.convert("RGB")), drawn_by_command(found.command(), folder, monkeypatch)
        )
    assert torch.equal(found.images, drawn_by_python(found.python()))
    return found


@pytest.mark.parametrize("classes", [(), (9, 5)])
def test_the_command_and_the_python_draw_what_the_page_shows(classes, place, tmp_path, monkeypatch):
    options = {"temperature": 0.9, "top_k": 50, "top_p": 0.95, "steps": 7, "solver": "euler"}
    wish = Wish("fashion-crt", classes, 12, 4, 1.5, options)
    found = require_same_pictures(wish, place.find("fashion-crt", "generator"), tmp_path, monkeypatch)
    assert "--steps" not in found.command() and "--top-k 50" in found.command()
    assert ("'Ankle boot'" in found.command()) == bool(classes) and len(found.images) == 12


def test_flows_are_drawn_with_what_flows_have(flow_pair, tmp_path, monkeypatch):
    options = {"temperature": 0.9, "top_k": 50, "top_p": 0.95, "steps": 7, "solver": "euler"}
    found = require_same_pictures(Wish(str(flow_pair), (1,), 6, 2, 1.0, options), flow_pair, tmp_path, monkeypatch)
    assert "--steps 7 --solver euler" in found.command() and "--temperature" not in found.command()


@pytest.fixture
def flow_pair(tmp_path) -> Path:
    """A generator of vectors with its tokenizer, without training."""
    from tiny_networks import TOKENIZER, tokenizer_parts
    from vistok.generator.flow.config import FlowConfig
    from vistok.generator.flow.generator import FlowGenerator
    from vistok.interop.imported import write_finished
    from vistok.runs.config import GeneratorRun
    from vistok.space import Vectors, grid
    from vistok.tokenizer.bottlenecks.config import KLConfig
    from vistok.tokenizer.networks.conv import ConvTokenizer

    run, _, metadata = tokenizer_parts()
    network = TOKENIZER.replace(quantizer=KLConfig(dim=2))
    run = run.replace(tokenizer=network)
    torch.manual_seed(0)
    state = ConvTokenizer(network).state_dict()
    config = json.loads(run.to_json())
    tokenizer = tmp_path / "kl"
    digest = write_finished(
        tokenizer, run, state, {"digest": "x"}, {**metadata, "config": config["tokenizer"], "run_config": config}
    )
    space, network = Vectors(layout=grid(4, 4), dim=2), FlowConfig(width=16, depth=1, num_heads=2)
    run = GeneratorRun(name="tiny-flow", generator=network)
    config = json.loads(run.to_json())
    facts = {
        "tokenizer": {"digest": digest, "path": str(tokenizer)},
        "space": json.loads(space.to_json()),
        "num_classes": 2,
    }
    state = FlowGenerator(network, space, 2).state_dict()
    generator = tmp_path / "flow"
    write_finished(generator, run, state, {"digest": "y"}, {
        **metadata, "model": "generator", "recipe": run.name, "config": config["generator"], "run_config": config, **facts,
    })  # fmt: skip
    return generator


def test_classes_are_named_where_names_are_unique():
    names = ["cat", "Dog", "dog", " "]
    assert [class_text(number, names) for number in range(4)] == ["cat", "1", "2", "3"]
    assert "--class cat --class 2" in command_of(Wish("r", (0, 2)), "autoregressive", names)


def test_two_generators_share_everything_but_their_name():
    one, other = wishes("a", "b", [1], 8, None, 1.25, 1, 0, 1.0, 20, "euler")
    assert (one.run, other.run) == ("a", "b") and one.count == other.count == 8 and one.seed == other.seed == 0
    assert one.options == {"temperature": 1.0, "top_k": None, "top_p": None, "steps": 20, "solver": "euler"}
    with pytest.raises(UserError, match="choose a generator first"):
        wishes(None, "b", [], 8, 0, 1, 1, 0, 1, 20, "euler")


def test_steps_are_offered_as_far_as_a_generator_goes():
    masked = MaskedGenerator(MaskedConfig(width=8, depth=1, num_heads=1), token_grid(3, 4, 8), 2)
    flow = FlowGenerator(FlowConfig(width=8, depth=1, num_heads=1), Vectors(layout=grid(3, 4), dim=2), 2)
    assert _range(masked, "steps") == {"value": 8, "maximum": 12}
    assert _range(flow, "steps") == {"value": 20, "maximum": 250}
    assert _range(masked, "top_k") == {} and _range(flow, "solver") == {"value": ""}


def test_a_generator_is_refused_where_the_command_refuses_it(tmp_path):
    _, generator = write_pair(tmp_path)
    with pytest.raises(UserError, match="give 1 to 200"):
        draw(Wish(str(generator), (), 201), generator, Networks())
    with pytest.raises(UserError, match="no class number 5"):
        draw(Wish(str(generator), (5,)), generator, Networks())


def test_the_nearest_training_image_of_a_training_image_is_itself(place, fashion_root, monkeypatch):
    from dataclasses import replace

    from vistok.data.images.fashion_mnist import load

    monkeypatch.chdir(fashion_root.parent)
    monkeypatch.setattr("vistok.scoring.evaluate_generator.MEMORIZATION_TRAIN", 3000)
    path, networks = place.find("fashion-crt", "generator"), Networks()
    found = draw(Wish("fashion-crt", (), 2), path, networks)
    from vistok.rng import stable_choice

    train = load(fashion_root, "train")
    searched = stable_choice(0, "memorization train", len(train), 3000)
    images = torch.from_numpy(np.stack([train.read(int(searched[i])) for i in (7, 2500)])).permute(0, 3, 1, 2)
    near = nearest_training_images(replace(found, images=images), networks)
    assert (
        near.searched == 3000 and near.distances == pytest.approx([0, 0], abs=1e-3) and torch.equal(near.images, images)
    )


def test_training_images_that_are_not_here_are_not_fetched(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    networks = Networks()
    found = draw(Wish("fashion-crt", (), 2), place.find("fashion-crt", "generator"), networks)
    with pytest.raises(UserError, match="fashion_mnist is not in data"):
        nearest_training_images(found, networks)
    found = draw(Wish("pictures64", (), 1), place.find("pictures64", "generator"), networks)
    with pytest.raises(UserError, match="these cannot be opened: .*free-pictures"):
        nearest_training_images(found, networks)
    assert not (tmp_path / "data").exists()
