"""Nothing good is lost: failing disks, damaged and diverged checkpoints, run directories that go away, other code."""

import errno
import json
import os
import shutil

import pytest
import torch
from PIL import Image

from vistok.config import Config, override
from vistok.engine import checkpoint as checkpoints
from vistok.engine import provenance as made
from vistok.engine.checkpoint import find_and_set_aside, load_latest, save_checkpoint
from vistok.engine.distributed import ALONE
from vistok.engine.divergence import exploded, last_good
from vistok.engine.log import MetricsLog, read_rows
from vistok.engine.run_dir import RunDir
from vistok.engine.weights import load_weights, save_weights
from vistok.errors import UserError
from vistok.files import sweep, write_atomic
from vistok.overview.page import verdict
from vistok.overview.record import RunRecord
from vistok.recipes import find_recipe
from vistok.runs.initial import initial_weights, with_network_of
from vistok.runs.pictures import save_png
from vistok.verbs import train_tokenizer


def state(value):
    return {"phases": {"weight": torch.full((3,), float(value))}}


def save(folder, *steps, keep=5):
    for step in steps:
        save_checkpoint(folder, step, state(step), keep=keep)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def pair(step):
    return [f"step-{step:08d}.json", f"step-{step:08d}.safetensors"]


def flip(path):
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)


def find(folder):
    """Look for a checkpoint as a resumed run does."""
    return find_and_set_aside(folder, checkpoints.named_tensors(state(0)))


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.ESTALE, errno.ENOMEM])
@pytest.mark.parametrize("read", ["file", "voucher", "folder"])
def test_what_the_machine_cannot_read_stops_the_run_and_changes_nothing(number, read, tmp_path, monkeypatch):
    save(tmp_path, 18, 19)
    before = names(tmp_path)

    def fail(path, *rest):
        raise OSError(number, os.strerror(number), str(path))

    with monkeypatch.context() as patch:
        if read == "file":
            patch.setattr(checkpoints, "sha256_of", fail)
        elif read == "voucher":
            patch.setattr("pathlib.Path.read_bytes", fail)
        else:
            patch.setattr(os, "listdir", fail)
        with pytest.raises((UserError, OSError)) as error:
            find(tmp_path)
    assert os.strerror(number) in str(error.value) and (str(tmp_path) in str(error.value))
    if read != "folder":
        assert "says nothing about the file" in str(error.value)
    assert names(tmp_path) == before
    assert find(tmp_path)[0] == tmp_path / "step-00000019.safetensors"


def test_a_damaged_newer_checkpoint_is_set_aside_and_the_sound_ones_are_kept(tmp_path):
    save(tmp_path, 17, 18, 19, keep=2)
    flip(tmp_path / "step-00000019.safetensors")
    path, warnings = find(tmp_path)
    assert path == tmp_path / "step-00000018.safetensors"
    assert warnings == [
        "checkpoint step-00000019.safetensors is damaged (checksum differs) and is skipped; "
        f"it is kept in {tmp_path / 'set-aside-1'}"
    ]
    assert names(tmp_path / "set-aside-1") == pair(19)
    save(tmp_path, 19, keep=2)
    assert names(tmp_path) == ["set-aside-1", *pair(18), *pair(19)]
    flip(tmp_path / "step-00000019.safetensors")
    find(tmp_path)
    assert names(tmp_path / "set-aside-2") == pair(19)


def test_a_kill_while_a_pair_is_set_aside_leaves_it_together(tmp_path, monkeypatch):
    save(tmp_path, 1, 2)
    flip(tmp_path / "step-00000002.safetensors")
    plain = checkpoints.replace_synced

    def killed(source, target):
        plain(source, target)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "replace_synced", killed)
        with pytest.raises(KeyboardInterrupt):
            find(tmp_path)
    assert find(tmp_path)[0] == tmp_path / "step-00000001.safetensors"
    assert names(tmp_path) == ["set-aside-1", *pair(1)] and names(tmp_path / "set-aside-1") == pair(2)


def test_later_checkpoints_are_set_aside_by_a_run_that_passed_them_over(tmp_path):
    save(tmp_path, 100, 200)
    save(tmp_path, 150, keep=1)
    assert names(tmp_path) == ["set-aside-1", *pair(150)] and names(tmp_path / "set-aside-1") == pair(200)


def test_what_a_killed_save_left_takes_no_sound_ones_place(tmp_path):
    save(tmp_path, 18, 19)
    (tmp_path / "step-00000019.json").unlink()
    path, warnings = find(tmp_path)
    assert path == tmp_path / "step-00000018.safetensors" and "was not finished" in warnings[0]
    save(tmp_path, 20, keep=2)
    assert names(tmp_path) == [*pair(18), *pair(20)]


def test_a_changed_number_in_the_json_is_damage(tmp_path):
    save(tmp_path, 1, 2)
    file = tmp_path / "step-00000002.json"
    file.write_text(file.read_text().replace('"step": 2', '"step": 3'))
    assert find(tmp_path)[0] == tmp_path / "step-00000001.safetensors"
    file = tmp_path / "step-00000001.json"  # of an earlier version: no checksum of its own
    voucher = json.loads(file.read_text())
    del voucher["checksum"]
    file.write_text(json.dumps(voucher))
    assert find(tmp_path)[0] == tmp_path / "step-00000001.safetensors"


def test_rows_that_cannot_be_read_are_not_dropped(tmp_path, monkeypatch):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"kind": "train", "step": 1}\n' + "[" * 10_000 + "\n")
    assert [row["step"] for row in read_rows(path)] == [1]

    def fail(self):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.read_bytes", fail)
        with pytest.raises(OSError, match=r"metrics\.jsonl"):
            MetricsLog(path, 1)
    assert path.read_text().startswith('{"kind": "train", "step": 1}\n')


@pytest.mark.parametrize("away", ["renamed", "removed", "replaced"])
@pytest.mark.parametrize("when", ["before", "while"])
def test_a_run_directory_that_goes_away_stops_the_run(away, when, tmp_path):
    def go_away():
        if away == "removed":
            shutil.rmtree(run.path)
        else:
            run.path.rename(tmp_path / "elsewhere")
        if away == "replaced":
            run.path.mkdir()

    with RunDir(tmp_path / "run") as run:
        with run.writing():
            save(run.checkpoints, 1)
        if when == "before":
            go_away()
        with pytest.raises(UserError, match=r"run was moved or removed .*move it back and repeat"), run.writing():
            if when == "while":
                go_away()
            save(run.checkpoints, 2)
        if away != "replaced":
            assert not run.path.exists()
    if away != "removed":
        assert names(tmp_path / "elsewhere" / "checkpoints") == pair(1)


def test_a_run_that_goes_away_in_the_middle_of_a_save_is_not_made_anew(tmp_path, monkeypatch):
    plain = checkpoints.write_atomic

    def late(path, *rest, **options):
        run.path.rename(tmp_path / "elsewhere")
        plain(path, *rest, **options)

    monkeypatch.setattr(checkpoints, "write_atomic", late)
    with RunDir(tmp_path / "run") as run:
        with pytest.raises(UserError, match="was moved or removed"), run.writing():
            save(run.checkpoints, 1)
        assert not run.path.exists()


@pytest.mark.parametrize("kind", ["sheet", "weights"])
def test_no_folder_is_made_where_a_run_was(tmp_path, kind):
    """It would be in the way of the run that is moved back."""
    with RunDir(tmp_path / "run") as run:
        folder = run.samples if kind == "sheet" else run.export().parent
        with pytest.raises(UserError, match="was moved or removed"), run.writing(folder):
            run.path.rename(tmp_path / "elsewhere")
            if kind == "sheet":
                save_png(run.samples / "x.png", Image.new("L", (4, 4)), make_folder=False)
            else:
                save_weights(run.export(), {"a": torch.zeros(2)}, {}, make_folder=False)
        assert not run.path.exists()


class Toy(Config):
    """A config."""

    name: str = "toy"


def sit(run, monkeypatch, step, **changes):
    now = {"torch": "2", "numpy": "2", "cpu": "x", "threads": 1, "vistok": "1", "commit": "a" * 40,
           "uncommitted_changes": False, "code": "c" * 64, "command": ["vistok", str(step)]}  # fmt: skip
    monkeypatch.setattr("vistok.engine.run_dir.provenance", lambda: {**now, **changes})
    with run:
        warnings = run.start(Toy(), {})
        run.goes_on_from(step)
    return warnings


def test_every_sitting_is_recorded_and_other_code_is_told(tmp_path, monkeypatch):
    run = RunDir(tmp_path / "run")
    assert sit(run, monkeypatch, 0) == []
    assert sit(run, monkeypatch, 5) == []
    (said,) = sit(run, monkeypatch, 7, commit="b" * 40, code="d" * 64)
    assert said == (
        "the run began with vistok aaaaaaaaaaaa and resumes with bbbbbbbbbbbb: the result may differ"
    )  # fmt: skip
    assert sit(run, monkeypatch, 8, commit="b" * 40) == []  # another commit of the same code
    (said,) = sit(run, monkeypatch, 9, uncommitted_changes=True, code="e" * 64)
    assert "resumes with aaaaaaaaaaaa and uncommitted changes (eeeeeeee)" in said
    record = run.read("provenance.json")
    assert record["command"] == ["vistok", "0"] and record["commit"] == "a" * 40
    assert [(sitting["from_step"], sitting["commit"][0]) for sitting in record["sittings"]] == [
        (0, "a"), (5, "a"), (7, "b"), (8, "b"), (9, "a")
    ]  # fmt: skip


def test_provenance_of_earlier_versions_is_read(tmp_path, monkeypatch):
    run = RunDir(tmp_path / "run")
    run.path.mkdir()
    old = {"schema_version": 1, "torch": "2", "numpy": "2", "cpu": "x", "threads": 1, "processes": 1, "vistok": "1",
           "commit": "a" * 40, "uncommitted_changes": False}  # fmt: skip
    (run.path / "provenance.json").write_text(json.dumps(old))
    assert sit(run, monkeypatch, 5) == []
    (said,) = sit(run, monkeypatch, 6, commit="b" * 40)
    assert "resumes with bbbbbbbbbbbb" in said
    record = run.read("provenance.json")
    assert {name: record[name] for name in old} == old
    assert [sitting["from_step"] for sitting in record["sittings"]] == [0, 5, 6]


def test_a_checkout_around_an_installed_package_says_nothing_of_it(tmp_path, monkeypatch):
    import subprocess

    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    monkeypatch.setattr(made, "__file__", str(tmp_path / "provenance.py"))
    assert made._git("status", "--porcelain") is None


@pytest.mark.parametrize("content", [b"[1]", b'{"a": ', b"\xff\xfe", b"[" * 100_000])
def test_damaged_json_of_a_run_is_a_sentence(content, tmp_path):
    (tmp_path / "provenance.json").write_bytes(content)
    with pytest.raises(UserError, match=r"provenance\.json: damaged.*delete the file and repeat"):
        RunDir(tmp_path).read("provenance.json")


def test_weights_that_exploded_are_told_from_large_ones():
    def found(weight, moment=0.0):
        tensors = {"w": torch.tensor([1.0, weight]), "count": torch.tensor(3), "empty": torch.empty(0)}
        return exploded({"modules": [tensors], "optimizer": {"exp_avg_sq": torch.tensor([moment])}}, ALONE)

    assert found(1e10) == found(-1e15, 1e25) == []
    assert found(1e29) == ["modules/0/w (up to 1e+29)"]
    assert found(float("nan")) == ["modules/0/w (up to nan)"] and found(float("-inf"))
    assert found(1.0, float("inf")) == ["optimizer/exp_avg_sq (up to inf)"]


def test_a_checkpoint_whose_own_step_diverges_is_not_the_last_good_one(tmp_path):
    save(tmp_path, 3, 4)
    for _ in range(2):  # repeating the command comes to the same place
        save(tmp_path, 5)
        assert last_good(tmp_path, 5, ALONE) == tmp_path / "step-00000004.safetensors"
        assert names(tmp_path) == ["diverged", *pair(3), *pair(4)] and names(tmp_path / "diverged") == pair(5)
    assert find(tmp_path) == (tmp_path / "step-00000004.safetensors", [])
    assert last_good(tmp_path / "none", 5, ALONE) is None


def toy(fashion_root, *settings):
    common = [f'data.root="{fashion_root}"', "data.max_images=60", "execution.tensorboard=false"]
    return override(find_recipe("debug_vq"), [*common, *settings])


def test_a_run_that_diverges_can_go_on_from_its_last_good_checkpoint(fashion_root, tmp_path, quiet):
    often = ("execution.checkpoint_minutes=1e-6", "optimizer.warmup=10 steps", "optimizer.warmup_start=0")
    job = train_tokenizer.prepare(toy(fashion_root, *often, "optimizer.lr=1e30"), tmp_path)
    good = job.run_dir.checkpoints / "step-00000001.safetensors"  # before the first step of a rate above zero
    for _ in range(2):
        with pytest.raises(UserError) as error:
            job.train(quiet)
        assert "step 2: training diverged" in str(error.value) and "These weights were not saved" in str(error.value)
        assert f"--init-from {good} --set optimizer.lr=1e+29" in str(error.value)
        assert names(job.run_dir.checkpoints) == pair(1)

    config = with_network_of(toy(fashion_root), str(good))
    assert config.tokenizer == job.config.tokenizer
    weights = initial_weights(config).state
    (_, saved), _ = load_latest(job.run_dir.checkpoints)
    assert all(torch.equal(weights[name], value) for name, value in saved["emas"]["tokenizer"].items())
    flip(good)
    with pytest.raises(UserError, match=r"checkpoint .*step-00000001.safetensors is damaged"):
        initial_weights(config)


# The milestone is what restores lost weights: without it, a finished run keeps no checkpoint.
TWO = ("length=2 steps", "execution.milestones=[2]")


@pytest.fixture(scope="module")
def finished_run(fashion_root, quiet, tmp_path_factory):
    return train_tokenizer.prepare(toy(fashion_root, *TWO), tmp_path_factory.mktemp("runs")).train(quiet).path


@pytest.fixture
def finished_job(finished_run, fashion_root, tmp_path):
    """A copy of a finished run, and how to prepare it again."""
    run = shutil.copytree(finished_run, tmp_path / finished_run.name)

    def prepare(*settings):
        return train_tokenizer.prepare(toy(fashion_root, *TWO, *settings), tmp_path)

    assert prepare().run_dir.path == run and prepare().finished
    return prepare


def test_a_finished_run_whose_weights_are_gone_is_not_finished(finished_job, quiet, monkeypatch):
    said = []
    monkeypatch.setattr(type(quiet), "say", lambda self, text: said.append(text))
    job = finished_job()
    file = job.run_dir.export()
    before, _ = load_weights(file)
    file.unlink()
    assert not job.finished
    job.train(quiet)
    assert any(f"{file} is gone or damaged: restoring it from a checkpoint" in line for line in said)
    after, _ = load_weights(file)
    assert job.finished and all(torch.equal(before[name], after[name]) for name in before)
    job.run_dir.export("raw").unlink()  # someone made room: what every verb takes is there
    assert job.finished
    damage = next(job.run_dir.checkpoints.glob("step-*.safetensors"))
    damage.write_bytes(damage.read_bytes()[:-1])
    file.rename(file.with_suffix(".kept"))
    with pytest.raises(UserError, match=r"is finished, but its weights are gone .*no sound final checkpoint"):
        job.train(quiet)  # and does not train again from step 0
    file.with_suffix(".kept").rename(file)
    file.unlink()
    shutil.rmtree(job.run_dir.checkpoints)
    with pytest.raises(UserError, match=r"is finished, but its weights are gone .*no sound final checkpoint is left"):
        job.train(quiet)


@pytest.mark.parametrize("damage", [None, "", "{}", '{"schema_version": 1, "digests": 3}'])
def test_a_lost_record_of_the_end_is_written_anew_from_the_weights(damage, finished_job, quiet):
    """To train once more would have thrown hours of work away, as messages advised."""
    job = finished_job()
    record, file = job.run_dir.path / "finished.json", job.run_dir.export()
    before, bytes_before = json.loads(record.read_text()), file.read_bytes()
    shutil.rmtree(job.run_dir.checkpoints)
    record.unlink() if damage is None else record.write_text(damage)
    again = finished_job() if damage is None else job
    assert again.finished and (record.read_text() if record.exists() else None) == damage  # asking writes nothing
    again.train(quiet)
    assert file.read_bytes() == bytes_before and again.finished
    assert json.loads(record.read_text()) == before
    (job.run_dir.path / "config.json").write_text("")
    again.train(quiet)
    assert job.run_dir.read_config()["seed"] == job.config.seed


def test_alarms_outlive_the_rows_that_raised_them(finished_job):
    run = finished_job().run_dir
    weights, header = load_weights(run.export())
    alarm = {"name": "blind", "value": 0.0, "found": "all alike", "advice": "longer", "dead": True}
    save_weights(run.export(), weights, header | {"health": {"alarms": [alarm], "validation": {}}})
    run.metrics.write_bytes(run.metrics.read_bytes()[:40])
    assert [alarm.name for alarm in RunRecord(run.path).alarms] == ["blind"]
    assert verdict(RunRecord(run.path))[0] == "bad"


def test_damaged_weights_are_not_a_finished_run(finished_job, quiet):
    job = finished_job()
    shutil.rmtree(job.run_dir.checkpoints)
    file = job.run_dir.export()
    file.write_bytes(file.read_bytes()[:-1000])
    assert not job.finished
    with pytest.raises(UserError, match="weights are gone or damaged"):
        job.train(quiet)
    (job.run_dir.path / "finished.json").write_text("")
    with pytest.raises(UserError, match="finished.json"):
        job.train(quiet)


def test_a_finished_run_keeps_no_checkpoint_but_its_milestones(fashion_root, tmp_path, quiet):
    job = train_tokenizer.prepare(toy(fashion_root, "length=3 steps", "execution.milestones=[1]"), tmp_path)
    job.train(quiet)
    assert names(job.run_dir.checkpoints) == pair(1)
    assert job.finished


def test_a_longer_run_is_said_to_be_a_new_one(finished_job):
    job, longer = finished_job(), finished_job("length=40 steps")
    said = longer._like_this_one()
    assert said.startswith("this is a new run and starts at step 0") and f"--init-from {job.run_dir.path}" in said
    assert "(2 steps, not 40 steps)" in said
    assert finished_job("length=40 steps", "seed=1")._like_this_one() is None
    assert job._like_this_one() is None
    longer.facts["data_digest"] = "of other images"
    assert longer._like_this_one() is None


def test_what_killed_writers_left_goes_with_the_next_sitting(tmp_path):
    """Temporary names are random: nothing writes over them, and each kill in a save left a whole checkpoint."""
    run = RunDir(tmp_path / "run")
    left = [
        run.path / "config.json.0123456789ab.partial",
        run.checkpoints / "step-00000001.safetensors.0123456789ab.partial",
    ]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    with run:
        assert not any(path.exists() for path in left)


@pytest.mark.parametrize("sittings", [5, ["x"], {"a": 1}])
def test_damaged_sittings_are_a_sentence(tmp_path, sittings):
    run = RunDir(tmp_path / "run")
    run.path.mkdir()
    (run.path / "provenance.json").write_text(json.dumps({"schema_version": 1, "sittings": sittings}))
    with pytest.raises(UserError, match=r"provenance\.json: damaged \(sittings\)"):
        run.goes_on_from(3)


def test_long_names_leave_room_for_a_temporary_one(tmp_path):
    path = tmp_path / ("猫" * 80 + ".png")
    write_atomic(path, b"whole")
    assert path.read_bytes() == b"whole"
    half = path.with_name(os.fsdecode(os.fsencode(path.name)[:200]) + ".0123456789ab.partial")
    half.write_bytes(b"half")
    sweep(tmp_path, of=path.name)
    assert not half.exists() and path.exists()
