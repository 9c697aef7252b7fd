"""A study run for real: only what is missing, failures that stop nothing, lost disks, shared trunks, Ray."""

import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import redirect_stderr
from pathlib import Path

import pandas as pd
import pytest
import torch

from vistok.config import override
from vistok.data.images import openmoji
from vistok.engine.log import Progress
from vistok.engine.weights import load_weights
from vistok.errors import UserError
from vistok.recipes import find_recipe
from vistok.runs.load import load_generator, load_tokenizer, load_tokenizer_of
from vistok.study.config import Choice, Grid
from vistok.study.findings.pair import write_pair
from vistok.study.findings.report import write_report
from vistok.study.findings.table import COLUMNS, collect, read_table
from vistok.study.run.executor import PoolExecutor
from vistok.study.run.grid import CacheTask, GeneratorTask, TokenizerTask, expand
from vistok.study.run.order import make_order
from vistok.study.run.record import StudyFolder
from vistok.study.run.scheduler import missing, run_study
from vistok.study.run.standing import read_standing
from vistok.study.run.worker import perform
from vistok.units import steps


@pytest.fixture(scope="module")
def study(fashion_root):
    """One toy tokenizer, one generator for two lengths, and one generator that cannot be trained."""
    config = override(
        find_recipe("debug_study", "study"),
        [f'tokenizer.data.root="{fashion_root}"', "tokenizer.data.max_images=400", "tokenizer.length=5 steps"],
    )
    main = config.grids[0].replace(
        tokenizers=(Choice(name="none"),),
        generators=(Choice(name="s", set=("generator.width=16",)), Choice(name="broken", set=("optimizer.lr=1e30",))),
        lengths=(steps(6), steps(12)),
        seeds=(0,),
    )
    return config.replace(grids=(main,))


class MostlyHere(PoolExecutor):
    """Processes for the runs that fail; the others are made in this process, which has loaded torch already."""

    def __init__(self, processes):
        super().__init__(processes)
        self.ended = []

    def submit(self, order):
        if order.choice == "broken":
            super().submit(order)
        else:
            order.write()
            with open(order.log, "a") as log, redirect_stderr(log):
                perform(order)
            self.ended.append((order.run, None))

    def wait(self):
        ended, self.ended = self.ended, []
        return ended or super().wait()


@pytest.fixture(scope="module")
def finished(study, tmp_path_factory, quiet):
    """The study after its first call: (runs, folder, outcome)."""
    root = tmp_path_factory.mktemp("study")
    folder = StudyFolder(root / "results")
    outcome = run_study(study, root / "runs", folder, MostlyHere(2), 1, quiet)
    return root / "runs", folder, outcome


def test_expansion_makes_each_run_once_after_what_it_needs(study):
    again = Grid(name="again", tokenizers=study.grids[0].tokenizers, seeds=(0, 1))
    tasks = expand(study.replace(grids=(*study.grids, again)))
    assert len({task.run for task in tasks}) == len(tasks)
    assert [type(task) for task in tasks[:2]] == [TokenizerTask, CacheTask]
    assert sum(isinstance(task, TokenizerTask) for task in tasks) == 2
    generators = [task for task in tasks if isinstance(task, GeneratorTask) and task.choice == "s"]
    long, short = sorted(generators, key=lambda task: -task.steps)
    assert short.trunk == long.run and long.milestones == (short.branch_step,) == (4,)
    assert short.needs == (short.cache, long.run) and long.needs == (long.cache,)


def test_runs_branch_where_the_decay_begins_in_whatever_unit(study):
    """Epochs, tokens and FLOPs were converted as if there were one image, and other schedules had a decay, too."""
    steps = {}
    for decay, schedule in (("3 steps", "wsd"), ("1 epochs", "wsd"), ("1e8 flops", "wsd"), ("20 percent", "cosine")):
        generator = override(study.generator, [f"optimizer.decay={decay}", f"optimizer.schedule={schedule}"])
        tasks = expand(study.replace(generator=generator))
        (task, *_) = (task for task in tasks if isinstance(task, GeneratorTask))
        steps[decay] = (task.steps - task.branch_step, task)
    each = {decay: count for decay, (count, _) in steps.items()}
    task = steps["1e8 flops"][1]
    assert each["3 steps"] == 3 and each["20 percent"] == 0
    assert each["1 epochs"] == -(-study.tokenizer.data.max_images // task.config.batch_size)
    assert each["1e8 flops"] == int(1e8 / (task.flops / task.steps))


def test_seeds_config_and_scoring_decide_a_runs_name(study):
    def names(config):
        return {task.run for task in expand(config)}

    other = study.replace(scoring=study.scoring.replace(samples=200))
    shared = names(study) & names(other)
    assert all("-tokens" in name or name.startswith("none-s0") for name in shared) and len(shared) == 2
    louder = study.replace(tokenizer=study.tokenizer.replace(name="other"), name="elsewhere")
    assert names(louder) == names(study)


@pytest.fixture
def resolutions(tmp_path, monkeypatch):
    """A study of OpenMoji's every thirtieth picture: a toy tokenizer at its own size and at 48 pixels."""
    _, folder = openmoji.package()
    (tmp_path / "svg").mkdir()
    for file in sorted(folder.glob("*.svg"))[::30]:
        shutil.copy(file, tmp_path / "svg")
    monkeypatch.setattr(openmoji, "package", lambda: ("0", tmp_path / "svg"))
    data = {"dataset": "openmoji", "root": str(tmp_path), "image_size": 32, "channels": 3}
    config = override(
        find_recipe("debug_study", "study"),
        [
            f"tokenizer.data={json.dumps(data)}",
            "tokenizer.tokenizer.image_size=32",
            "tokenizer.tokenizer.in_channels=3",
            'tokenizer.losses.perceptual={"network": "openmoji"}',
            "tokenizer.length=3 steps",
            'scoring={"scales": [1.0], "search_samples": 40, "samples": 40}',
        ],
    )
    return config.replace(
        grids=(
            Grid(
                name="resolutions",
                tokenizers=(Choice(name="none"), Choice(name="none-48px", of="none", image_size=48)),
                generators=(Choice(name="s", set=("generator.width=16",)),),
                lengths=(steps(6),),
            ),
        )
    )


@pytest.mark.slow
def test_a_tokenizer_is_scored_and_modelled_at_another_size_without_training(resolutions, tmp_path):
    tasks, folder = expand(resolutions), StudyFolder(tmp_path / "results")
    for task in tasks:
        perform(make_order(task, resolutions, tmp_path / "runs", folder.path, 1))
    assert missing(tasks, folder, tmp_path / "runs" / resolutions.name) == []
    table = collect(folder, resolutions)[0].set_index(["kind", "tokenizer_choice"])
    own, larger = table.loc[("tokenizer", "none")], table.loc[("tokenizer", "none-48px")]
    assert (own.num_tokens, larger.num_tokens) == (64, 144) and (own.image_size, larger.image_size) == (32, 48)
    assert larger.train_flops == own.train_flops and larger.psnr != own.psnr and len(larger.by_position.split()) == 144
    generators = table.loc["generator"]
    large = generators.loc["none-48px"]
    assert large.rfmd == larger.rfmd and len(large.by_position.split()) == 144 and large.gfmd > 0
    assert large.train_flops > 2 * generators.loc["none"].train_flops
    assert [file.stem for file in (folder.path / "tokenizers").iterdir()] == [own.run]
    write_pair(resolutions, "vistok study run", folder, tmp_path / "runs", "none-48px", tmp_path, "large")
    generator = load_generator(tmp_path / "large_generator.safetensors")
    tokenizer = load_tokenizer_of(generator, tmp_path / "large_tokenizer.safetensors")
    assert tokenizer.config.image_size == 48 and tokenizer.info.scores["num_tokens"] == 144
    write_report(resolutions, folder)
    assert "| C4.resolution.low |" in (folder.path / "summary.md").read_text()


def test_a_size_without_its_tokenizer_is_refused(resolutions):
    (grid,) = resolutions.grids
    lone = [{"name": "none"}, {"name": "big", "of": "other", "image_size": 48}]
    changed = grid.model_dump(mode="json") | {"tokenizers": lone}
    with pytest.raises(
        UserError, match="'big' is 'other' at another size, but the grid trains no such tokenizer; choose from: none"
    ):
        override(resolutions, [f"grids={json.dumps([changed])}"])
    with pytest.raises(UserError, match="give both `of` .*and no `set`"):
        override(resolutions, ['grids=[{"name": "g", "tokenizers": [{"name": "none", "of": "none"}]}]'])


def test_generators_above_the_grids_compute_are_left_out(study):
    tasks = [task for task in expand(study) if isinstance(task, GeneratorTask) and task.choice == "s"]
    cap = min(task.flops for task in tasks)
    capped = study.replace(grids=(study.grids[0].replace(max_flops=cap),))
    left = [task for task in expand(capped) if isinstance(task, GeneratorTask) and task.choice == "s"]
    assert [task.flops for task in left] == [cap] and {task.run for task in left} < {task.run for task in tasks}


def test_a_warm_up_in_percent_has_no_trunk(study):
    changed = override(study, ["generator.optimizer.warmup=10 percent"])
    assert all(task.trunk is None for task in expand(changed) if isinstance(task, GeneratorTask))


def test_bad_studies_are_refused(study):
    with pytest.raises(UserError, match="generators and lengths go together"):
        override(study, ['grids=[{"name": "main", "tokenizers": [{"name": "none"}], "lengths": ["5 steps"]}]'])
    with pytest.raises(UserError, match="becomes a file name"):
        override(study, ['grids=[{"name": "main", "tokenizers": [{"name": "a/b"}]}]'])
    with pytest.raises(UserError, match="share their images"):
        expand(override(study, ['grids=[{"name": "g", "tokenizers": [{"name": "n", "set": ["data.max_images=50"]}]}]']))


class OneByOne:
    """An executor of two slots whose tasks end in the order of their submission."""

    slots = 2

    def __init__(self) -> None:
        self.orders: list[str] = []

    def submit(self, order) -> None:
        self.orders.append(order.run)
        assert len(self.orders) <= self.slots

    def wait(self) -> list[tuple[str, None]]:
        return [(self.orders.pop(0), None)]

    def close(self) -> None:
        pass


def test_progress_counts_the_tasks_that_took_the_free_places(study, tmp_path, capfd):
    """Two seeds: two tokenizers at once, then as many generators as there are places, until the last one ends."""
    two = study.replace(grids=(study.grids[0].replace(seeds=(0, 1)),))
    outcome = run_study(two, tmp_path, StudyFolder(tmp_path / "r"), OneByOne(), 1, Progress())
    told = [line for line in capfd.readouterr().err.splitlines() if line.startswith("done: ")]
    count = len(outcome.done)
    assert len(told) == count and f"{count} done, 0 running, 0 failed, 0 waiting" in told[-1]
    assert "1 done, 2 running" in told[0] and f"{count - 2} done, 2 running, 0 failed, 0 waiting" in told[-3]


def test_a_study_writes_how_it_stands(study, tmp_path, quiet):
    seen = []

    class Watched(OneByOne):
        def wait(self):
            seen.append(read_standing(tmp_path / study.name))
            return super().wait()

    outcome = run_study(study, tmp_path, StudyFolder(tmp_path / "r"), Watched(), 1, quiet)
    (first, results, alive), (last, _, goes_on) = seen[0], read_standing(tmp_path / study.name)
    assert alive and not goes_on and results == (tmp_path / "r").resolve()
    assert {cell.state for cell in first if not cell.generator} == {"running"}
    assert {cell.state for cell in first if cell.generator} == {"waiting"}
    assert {cell.state for cell in last} == {"done"} and {cell.run for cell in last} <= set(outcome.done)


def test_a_failed_run_is_told_and_stops_nothing(finished):
    _, folder, outcome = finished
    assert sorted(name.split("-")[0] for name in outcome.failed) == ["broken", "broken"]
    assert all("not finite" in text and "log:" in text for text in outcome.failed.values())
    assert outcome.blocked == [] and len(outcome.done) == 4
    assert len(folder.records()) == 3


def test_repeating_does_only_what_is_missing(study, finished, quiet):
    runs, folder, _ = finished
    left = missing(expand(study), folder, runs / study.name)
    assert {task.run.split("-")[0] for task in left} == {"broken"}
    good = study.replace(grids=(study.grids[0].replace(generators=study.grids[0].generators[:1]),))
    before = {file: file.stat().st_mtime_ns for file in folder.path.rglob("*") if file.is_file()}
    outcome = run_study(good, runs, folder, PoolExecutor(2), 1, quiet)
    assert outcome.done == [] and outcome.failed == {}
    assert before == {file: file.stat().st_mtime_ns for file in folder.path.rglob("*") if file.is_file()}


def test_the_best_pair_by_held_out_images_becomes_two_files(study, finished, tmp_path):
    runs, folder, _ = finished
    command = "vistok study run debug_study"
    best = write_pair(study, command, folder, runs, "none", tmp_path, "toy")
    rows = [record["row"] for record in folder.records() if record["row"]["kind"] == "generator"]
    assert best == min(rows, key=lambda row: row["gfmd_val"])["run"]
    generator = load_generator(tmp_path / "toy_generator.safetensors")
    tokenizer = load_tokenizer_of(generator, tmp_path / "toy_tokenizer.safetensors")
    (kept,) = [row for row in rows if row["run"] == best]
    assert generator.info.scores["gfmd"] == kept["gfmd"] and tokenizer.info.scores["psnr"] > 0
    assert generator.info.scores["protocols"]["gfmd"]["metric"] == "gFMD"
    assert generator.info.made_by == {"command": command, "study": study.name, "run": best}
    assert torch.equal(
        *(next(t.parameters()) for t in (tokenizer, load_tokenizer(folder.weights_file(kept["tokenizer_run"]))))
    )
    with pytest.raises(UserError, match="no generators for the tokenizer choice 'other'"):
        write_pair(study, command, folder, runs, "other", tmp_path, "toy")
    with pytest.raises(UserError, match=f"best generator of none is {best}, but its weights are not in"):
        write_pair(study, command, folder, tmp_path / "gone", "none", tmp_path, "toy")


@pytest.mark.slow
def test_records_survive_a_lost_disk_and_a_widened_grid_is_added(study, finished, tmp_path, quiet):
    """Without the runs, a further length needs only the tokens again; its tokenizer's weights lie with the records."""
    runs, folder, _ = finished
    copy = StudyFolder(tmp_path / "results")
    shutil.copytree(folder.path, copy.path)
    grid = study.grids[0].replace(generators=study.grids[0].generators[:1], lengths=(steps(6), steps(12), steps(3)))
    wider = study.replace(grids=(grid,))
    left = missing(expand(wider), copy, tmp_path / "runs" / study.name)
    assert [task.kind for task in left] == ["cache", "generator"]
    outcome = run_study(wider, tmp_path / "runs", copy, PoolExecutor(1), 1, quiet)
    assert len(outcome.done) == 2 and not outcome.failed
    assert len(collect(copy, wider)[0]) == 4


def test_a_branch_equals_the_run_from_step_zero(study, finished, tmp_path):
    """The shorter run began at the trunk's checkpoint; trained on its own it has the same weights, bit for bit."""
    from vistok.data.latents.cache import LatentCache
    from vistok.engine.log import Progress, read_rows
    from vistok.verbs import train_generator

    runs, folder, _ = finished
    short = next(
        task for task in expand(study) if isinstance(task, GeneratorTask) and task.steps == 6 and task.choice == "s"
    )
    branch = runs / study.name / folder.read(folder.record_file(short.run))["directory"]
    place = runs / study.name / "tokens" / short.tokenizer.run
    caches = {split: LatentCache(place / split) for split in ("train", "val")}
    weights = folder.weights_file(short.tokenizer.run)
    whole = train_generator.prepare(short.config, caches["train"], caches["val"], weights, tmp_path).train(
        Progress(quiet=True)
    )
    weights_of = [load_weights(path / "export/model.safetensors")[0] for path in (branch, whole.path)]
    assert all(torch.equal(value, weights_of[1][name]) for name, value in weights_of[0].items())
    log = (runs / study.name / "logs" / f"{short.run}.log").read_text()
    assert "resuming from step 4 of 6" in log
    steps_of = [
        [row["step"] for row in read_rows(path / "metrics.jsonl") if row["kind"] == "train"]
        for path in (branch, whole.path)
    ]
    assert steps_of[0] == steps_of[1]
    sheets = [sorted(sheet.name for sheet in (path / "samples").iterdir()) for path in (branch, whole.path)]
    assert sheets[0] == sheets[1] != []


def test_table_page_and_summary(study, finished, tmp_path):
    _, folder, _ = finished
    page = write_report(study, folder)
    table = read_table(folder.table)
    bounded = [*(f"changed_{level}" for level in (30, 20, 10, 1)), "probe_accuracy"]
    later = {name + end for name in bounded for end in ("", "_low", "_high")}
    later |= {"layout", "probe_layer", "calls", "flops_per_image", "ms_per_image"}
    assert list(table.columns[: len(COLUMNS)]) == list(COLUMNS) and set(table.columns[len(COLUMNS) :]) == later
    assert len(table) == 3
    tokenizer, generators = table[table.kind == "tokenizer"].iloc[0], table[table.kind == "generator"]
    assert set(generators.tokenizer_run) == {tokenizer.run}
    assert (generators.total_flops == generators.train_flops + tokenizer.train_flops).all()
    assert (generators.rfmd == tokenizer.rfmd).all() and (generators.gfmd_low < generators.gfmd).all()
    for _, row in generators.iterrows():
        record = folder.read(folder.record_file(row.run))
        assert row.gfmd == pytest.approx(record["detail"]["gfmd"][f"{row.guidance_scale:g}"]["value"])
        assert len(row.by_position.split()) == row.num_tokens == 49
    html = page.read_text()
    assert html.index('class="answer"') < html.index("<table") < html.index("<details")
    assert "no generators" not in html and html.count("data:image/png") >= 1
    assert (folder.path / "summary.md").read_text().splitlines()[2] in re.sub("</p><p>", " ", html)
    claims = json.loads((folder.path / "claims.json").read_text())
    assert {"claim", "statement", "rule", "effect", "low", "high", "n", "verdict"} <= set(claims[0])
    assert all(claim["verdict"] in ("holds", "fails", "open") for claim in claims)


def test_a_damaged_record_is_named(study, finished, tmp_path):
    _, folder, _ = finished
    copy = StudyFolder(tmp_path / "results")
    shutil.copytree(folder.path, copy.path)
    file = next((copy.path / "records").glob("*.json"))
    file.write_text(file.read_text()[:50])
    with pytest.raises(UserError, match=file.name):
        collect(copy, study)
    with pytest.raises(UserError, match="no records"):
        collect(StudyFolder(tmp_path / "nothing"), study)


def test_orders_are_plain_values(study, tmp_path):
    task = expand(study)[-1]
    order = make_order(task, study, tmp_path / "runs", tmp_path / "results", 1)
    again = json.loads(order.write().read_text())
    assert type(order)(**again).run == task.run


RAY_SCRIPT = Path(__file__).parent / "ray_study.py"


@pytest.mark.slow
def test_a_study_on_ray_survives_the_loss_of_a_node(study, tmp_path):
    """Two nodes in a network namespace with nothing but loopback; the node at work is killed in the middle."""
    pytest.importorskip("ray")
    if subprocess.run(["unshare", "-rn", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no network namespaces here")
    file = tmp_path / "study.json"
    file.write_text(study.to_json())
    done = subprocess.run(
        ["unshare", "-rn", sys.executable, str(RAY_SCRIPT), str(file), str(tmp_path)],
        capture_output=True, text=True, timeout=600, check=False,
        env={**os.environ, "RAY_DISABLE_IMPORT_WARNING": "1", "RAY_USAGE_STATS_ENABLED": "0"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["killed_at_step"] > 0 and found["resumed"] and found["failed"] == []
    table = pd.read_csv(found["table"])
    assert len(table) == 1
