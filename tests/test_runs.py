"""Runs read back: found by what a person types, listed, and shown on their pages."""

import fcntl
import json
import os
import re
import shutil
import time
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from typer.testing import CliRunner

from vistok.cli import app, options
from vistok.cli.train import initial
from vistok.config import override
from vistok.engine.log import Progress
from vistok.errors import UserError
from vistok.overview import table
from vistok.overview.commands import next_commands
from vistok.overview.page import RunPage, page_of, write_page, write_picture
from vistok.overview.record import RunRecord
from vistok.recipes import find_recipe
from vistok.runs.find import find_run, run_folders
from vistok.runs.shipped import shipped_network
from vistok.runs.weights_file import weights_file
from vistok.verbs import train_tokenizer
from vistok.verbs.compare import scores_of
from vistok.verbs.dry_run import count_images


def make_run(runs, name, kind="tokenizer", rows=(), finished=None, age=0, **config):
    """Write a run directory by hand: config, rows, and how it ended."""
    run = runs / name
    (run / "samples").mkdir(parents=True)
    content = {"schema_version": 1, "kind": kind, "name": name.rpartition("-")[0], **config}
    (run / "config.json").write_text(json.dumps(content))
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (run / "resolved.json").write_text(json.dumps({"schema_version": 1, "steps": 100, "params": {"encoder": 7}}))
    if finished:
        (run / "finished.json").write_text(json.dumps({"schema_version": 1, **finished}))
    elif rows:
        (run / "checkpoints").mkdir()
        for suffix in ("safetensors", "json"):
            (run / "checkpoints" / f"step-{max(row['step'] for row in rows):08d}.{suffix}").write_text("")
    os.utime(run / "metrics.jsonl", (time.time() - age, time.time() - age))
    return run


def row(kind, step, **values):
    return {"kind": kind, "step": step, "images": 10 * step, "flops": 5.0 * step, "seconds": 0.1 * step, **values}


@pytest.fixture(scope="module")
def tokenizer_run(tmp_path_factory, fashion_root):
    """A run that the command line made in a few steps."""
    runs = tmp_path_factory.mktemp("trained")
    shared = ["--data", str(fashion_root), "--runs", str(runs), "--set", 'length="4 steps"']
    result = CliRunner().invoke(app, ["train", "tokenizer", "debug-vq", "--name", "shoes", *shared])
    assert result.exit_code == 0, result.output
    last = result.output.strip().splitlines()[-1]
    (run,) = runs.glob("shoes-*")
    assert last.startswith("It ") and last.endswith(f"Its page: {run}/page.html")
    return run


@pytest.fixture
def three(tmp_path):
    runs = tmp_path / "runs"
    make_run(runs, "images64-crt-aaaaaaaaaa", age=30)
    make_run(runs, "images64-vq-bbbbbbbbbb", age=20)
    make_run(runs, "cats-cccccccccc", kind="generator", age=10)
    return runs


def test_a_run_is_found_by_path_name_part_or_latest(three):
    crt = three / "images64-crt-aaaaaaaaaa"
    assert find_run(crt, runs=three) == crt
    for text in ("images64-crt-aaaaaaaaaa", "images64_crt", "crt", "aaaa"):
        assert find_run(text, runs=three) == crt
    assert find_run("latest", runs=three).name == "cats-cccccccccc"
    assert find_run("latest", "tokenizer", runs=three).name == "images64-vq-bbbbbbbbbb"
    assert [run.name[:4] for run in run_folders(three)] == ["cats", "imag", "imag"]


def test_a_run_that_is_called_as_a_folder_of_pictures_is_found(three, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cats").mkdir()
    assert find_run("cats", runs=three).name == "cats-cccccccccc"
    assert str(initial("cats", "generator", three)).endswith("cats-cccccccccc")
    (tmp_path / "dogs").mkdir()
    assert find_run("dogs", runs=three) == Path("dogs")  # whoever opens it says that it is no run


def test_a_name_that_fits_several_runs_or_none_is_refused_with_the_names(three):
    with pytest.raises(UserError, match="2 runs .*images64-vq-bbbbbbbbbb.*images64-crt-aaaaaaaaaa.*type more"):
        find_run("images64", runs=three)
    with pytest.raises(UserError, match="no tokenizer 'cats'.*images64-vq-bbbbbbbbbb.*pictures64"):
        find_run("cats", "tokenizer", runs=three)
    with pytest.raises(UserError, match="Did you mean 'cats-cccccccccc'"):
        find_run("cast-cccccccccc", "generator", runs=three)
    with pytest.raises(UserError, match="There is no run in"):
        find_run("latest", runs=three / "nowhere")


def test_an_exact_name_wins_over_longer_ones_and_runs_over_shipped_networks(three):
    make_run(three, "images64-crt-aaaaaaaaaa-more-dddddddddd")
    assert find_run("images64-crt-aaaaaaaaaa", runs=three).name == "images64-crt-aaaaaaaaaa"
    assert find_run("fashion_crt", "generator", runs=three) == shipped_network("fashion-crt", "generator")
    mine = make_run(three, "fashion-crt-eeeeeeeeee", kind="generator")
    assert find_run("fashion-crt", "generator", runs=three) == mine


def test_a_shipped_pair_can_be_named_wherever_a_run_can(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["sample", "fashion-crt", "--count", "2", "--out", "drawn.png"])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "drawn.png").is_file()


ROWS = [
    row("validation", 0, psnr=8.0, codebook_usage=0.1),
    row("train", 50, **{"autoencoder/loss": 0.5, "autoencoder/pixel_loss": 0.4, "lr": 1e-3}),
    {"kind": "alarm", "step": 50, "alarm": "codes_unused", "value": 0.01, "advice": "Few codes. Set <this> & that"},
    {"kind": "alarm", "step": 60, "alarm": "blind", "value": 0.0, "advice": "Grey. Train longer", "dead": True},
    {"kind": "alarm", "step": 80, "alarm": "codes_unused", "ended": True},
    row("train", 100, **{"autoencoder/loss": 0.3, "autoencoder/pixel_loss": 0.2, "lr": 1e-4}),
    row("validation", 100, psnr=19.5, codebook_usage=0.6),
]


def test_the_state_of_a_run(tmp_path):
    assert RunRecord(make_run(tmp_path, "a-1")).state == "not begun"
    stopped = make_run(tmp_path, "b-2", rows=ROWS)
    assert RunRecord(stopped).state == "stopped" and RunRecord(stopped).step == 100
    with open(stopped / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert RunRecord(stopped).state == "training"
    assert RunRecord(stopped).state == "stopped"
    assert RunRecord(make_run(tmp_path, "c-3", finished={"steps": 100})).state == "finished"
    with pytest.raises(UserError, match="not a run directory"):
        RunRecord(tmp_path)


def test_a_stopped_run_is_where_it_goes_on(tmp_path):
    """Not where its last row was written: rows are rarer than checkpoints, and one cannot go on from a row."""
    run = make_run(tmp_path, "a-1", rows=ROWS)
    for file in (run / "checkpoints").iterdir():
        file.rename(file.with_name(file.name.replace("100", "117")))
    record = RunRecord(run)
    assert record.step == 117
    shutil.rmtree(run / "checkpoints")
    # What asked for the record before goes on from there: two questions to one record have one answer.
    assert record.step == 117
    assert RunRecord(run).step == 0 and table.RunRow.of(RunRecord(run)).position == "stopped 0/100"


EDITS = {
    "resolved.json": ({"steps": "forty"}, {"params": [1]}, {"params": {"e": "x"}}),
    "finished.json": ({"steps": "x"}, {"steps": 100, "seconds": []}),
    "provenance.json": ({"sittings": 3},),
}


@pytest.mark.parametrize(("file", "content"), [(file, edit) for file, edits in EDITS.items() for edit in edits])
def test_an_edited_file_is_a_mistake_and_keeps_no_other_run_from_being_listed(tmp_path, file, content):
    """One of them ended vistok runs, and the app's list, with "this is a bug in vistok"."""
    run = make_run(tmp_path, "a-1", rows=ROWS)
    make_run(tmp_path, "b-2", rows=ROWS)
    (run / file).write_text(json.dumps({"schema_version": 1, **content}))
    with pytest.raises(UserError, match=rf"a-1/{file}: .* put the file back"):
        page_of(RunRecord(run))
    assert "b-2" in [row.name for row in table.run_rows(tmp_path)]


def test_an_edited_evaluation_is_left_out_and_named(tmp_path):
    run = make_run(tmp_path, "a-1", rows=ROWS)
    (run / "evaluations").mkdir()
    for number, edit in enumerate(({"value": "x"}, {"protocol": None}, {"low": "y"})):
        score = {"value": 1.0, "low": None, "high": None, "protocol": {"metric": "rFMD"}} | edit
        (run / "evaluations" / f"tokenizer-{number}.json").write_text(json.dumps({"kind": "tokenizer", "rfmd": score}))
    record = RunRecord(run)
    assert record.main_score.value == 19.5 and len(record.left_out) == 3
    for command in (["show", str(run)], ["runs", str(tmp_path)]):
        said = CliRunner().invoke(app, command)
        assert said.exit_code == 0 and "left out: " in said.output and "tokenizer-0.json" in said.output


def test_the_score_on_test_images_stands_for_a_run_whatever_was_written_last(tmp_path):
    """A copied run had another main score: the times of its files decided."""
    run = make_run(tmp_path, "a-1", rows=ROWS)
    (run / "evaluations").mkdir()
    for age, (split, value) in enumerate((("train", 3.0), ("val", 2.0), ("test", 1.0))):
        score = {
            "value": value,
            "low": None,
            "high": None,
            "protocol": {"metric": "rFMD", "reference": f"folder {split}"},
        }
        file = run / "evaluations" / f"tokenizer-{split}.json"
        file.write_text(json.dumps({"kind": "tokenizer", "rfmd": score}))
        os.utime(file, (time.time() - age, time.time() - age))
    assert RunRecord(run).main_score.value == 1.0


def test_a_run_that_trains_says_so_wherever_it_is_asked_for(tmp_path):
    run = make_run(tmp_path, "a-1", rows=ROWS)
    (run / "provenance.json").write_text(json.dumps({"schema_version": 1, "command": ["vistok", "train", "x"]}))
    assert next_commands(RunRecord(run))
    with open(run / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert next_commands(RunRecord(run)) == []
        with pytest.raises(UserError, match="is being trained by another process; wait"):
            weights_file(run)
    with pytest.raises(UserError, match="is not finished"):
        scores_of(run)


def test_a_dead_run_is_not_followed_by_what_would_be_refused(tmp_path):
    """Every verb that builds on it asks for --anyway."""
    dead = make_run(tmp_path, "a-1", rows=ROWS, finished={"steps": 100})
    assert any(alarm.dead for alarm in RunRecord(dead).alarms) and next_commands(RunRecord(dead)) == []
    alive = [row for row in ROWS if row["kind"] != "alarm"]
    assert next_commands(RunRecord(make_run(tmp_path, "b-2", rows=alive, finished={"steps": 100})))


def test_runs_of_several_folders_can_be_told_apart(tmp_path):
    run = make_run(tmp_path, "a-1", rows=ROWS, data={"dataset": "folder", "root": "/somewhere/cats"})
    assert table.RunRow.of(RunRecord(run)).changes.startswith("cats/")
    assert ",cats," in table.as_csv(table.run_rows(tmp_path))
    assert "pictures of /somewhere/cats" in CliRunner().invoke(app, ["show", str(run)]).output


def test_alarms_stand_until_their_end(tmp_path):
    record = RunRecord(make_run(tmp_path, "a-1", rows=ROWS))
    assert [(alarm.name, alarm.dead) for alarm in record.alarms] == [("blind", True)]
    assert [alarm.name for alarm in RunRecord(make_run(tmp_path, "b-2", rows=ROWS[:4])).alarms] == [
        "blind",
        "codes_unused",
    ]


def test_rows_say_what_differs_from_the_recipe(tokenizer_run):
    record = RunRecord(tokenizer_run)
    (found,) = table.run_rows(tokenizer_run.parent)
    assert record.recipe == found.recipe == "debug_vq"
    assert found.differs == {"length": "4 steps"}
    assert found.score is not None and found.score.metric == "PSNR (dB)" and found.state == "finished"


def test_a_part_of_another_kind_is_told_by_its_values(tmp_path):
    """Not by null, too: the recipe's own values of that part are gone, the part is not."""
    changed = override(find_recipe("debug_vq"), ['tokenizer.quantizer={"kind": "simvq", "codebook_size": 32}'])
    run = make_run(tmp_path, "a-1")
    (run / "config.json").write_text(json.dumps({"schema_version": 1, **json.loads(changed.to_json())}))
    differs = RunRecord(run).differs
    assert differs["tokenizer.quantizer.kind"] == "simvq" and "tokenizer.quantizer" not in differs


def test_evaluations_come_before_numbers_of_the_training(tmp_path):
    run = make_run(tmp_path, "a-1", kind="generator", rows=[row("validation", 100, nats_per_token=3.0)])
    assert str(RunRecord(run).main_score) == "nats per token 3"
    protocol = {"metric": "gFMD", "extractor": "an evaluator", "reference": "folder val", "num_samples": 50}
    score = {"value": 4.25, "low": 4.0, "high": 4.5, "protocol": protocol, "treatment": {"guidance_scale": 1.5}}
    (run / "evaluations").mkdir()
    (run / "evaluations" / "generator-1.json").write_text(json.dumps({"kind": "generator", "gfmd": score}))
    main = RunRecord(run).main_score
    assert str(main) == "gFMD 4.25 (4 to 4.5)" and main.evaluator == "an evaluator" and main.treatment == "guidance 1.5"
    # Of few images the score lies outside of the bounds of the corrected one.
    assert str(replace(main, value=5.0)) == "gFMD 5 (bias-corrected 4 to 4.5)"
    text = table.as_csv(table.run_rows(tmp_path))
    assert (
        "metric,value,low,high,evaluator" in text
        and "gFMD,4.25,4.0,4.5,an evaluator,folder val,50,guidance 1.5" in text
    )
    (listed,) = json.loads(CliRunner().invoke(app, ["runs", str(tmp_path), "--json"]).output)
    assert listed["score"]["value"] == 4.25 and listed["step"] == 100


def test_a_table_of_runs_never_cuts_a_name(three):
    long = make_run(three, "a" * 60 + "-ffffffffff")
    output = CliRunner().invoke(app, ["runs", str(three)]).output
    assert all(run.name in output for run in [long, *run_folders(three)])
    assert "cats" not in CliRunner().invoke(app, ["runs", str(three), "--kind", "tokenizer"]).output


class Page(HTMLParser):
    """Collects what a page would fetch, its tags, and its text."""

    def __init__(self, text):
        super().__init__()
        self.fetched, self.tags, self.words = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.fetched += [
            value for name, value in attributes if name in ("src", "href") and not value.startswith("data:")
        ]

    def handle_data(self, data):
        self.words += data


def test_a_page_holds_everything_and_escapes_what_it_shows(tmp_path):
    run = make_run(tmp_path, "x<script>alert(1)-1", rows=ROWS[:4])
    page = Page(write_page(run).read_text())
    assert page.fetched == [] and page.tags.count("script") == 1
    assert "x<script>alert(1)-1" in page.words and "Few codes. Set <this> & that" in page.words
    assert page.words.index("Bad: stopped at step 60 of 100") < page.words.index("PSNR of held-out images")


def test_a_page_follows_the_run(tmp_path):
    run = make_run(tmp_path, "a-1", rows=ROWS[:2])
    training = write_page(run, training=True).read_text()
    assert "http-equiv" in training and "training at step 50 of 100" in training
    (run / "finished.json").write_text(json.dumps({"schema_version": 1, "steps": 100, "seconds": 9.0}))
    (run / "metrics.jsonl").write_text("".join(json.dumps(each) + "\n" for each in [*ROWS[:2], *ROWS[5:]]))
    finished = write_page(run).read_text()
    assert "http-equiv" not in finished and "Good: finished after 100 steps, without alarms. PSNR (dB) 19.5" in finished


def test_a_damaged_row_or_evaluation_does_not_keep_a_page_from_being_made(tmp_path):
    run = make_run(tmp_path, "a-1", rows=ROWS)
    with open(run / "metrics.jsonl", "a") as file:
        file.write('{"kind": "train", "ste')
    (run / "evaluations").mkdir()
    (run / "evaluations" / "generator-1.json").write_text("{")
    assert "19.5" in page_of(RunRecord(run))


def test_training_writes_the_page_and_one_that_is_moved_away_is_not_made_again(tokenizer_run, tmp_path):
    page = (tokenizer_run / "page.html").read_text()
    assert "data:image/png;base64," in page and "Reconstructions" in page and "vistok reconstruct" in page
    run = make_run(tmp_path, "a-1", rows=ROWS)
    told = RunPage(RunRecord(run).dir)
    with told.run_dir:
        run.rename(tmp_path / "elsewhere")
        with pytest.raises(UserError, match="moved or removed"):
            told.update()
    told.close()
    assert not run.exists()


def test_pages_take_little_of_a_runs_time(tmp_path, monkeypatch):
    now, made = [100.0], []
    monkeypatch.setattr("vistok.overview.page.time.monotonic", lambda: now[0])

    def slow(path, training):
        made.append(now[0])
        now[0] += 2.0

    monkeypatch.setattr("vistok.overview.page.write_page", slow)
    told = RunPage(RunRecord(make_run(tmp_path, "a-1")).dir)
    for _ in range(100):
        told.update()
        now[0] += 1.0
    assert made == [100.0, 162.0]


def test_a_picture_of_the_curves(tokenizer_run):
    assert write_picture(RunRecord(tokenizer_run)).read_bytes().startswith(b"\x89PNG")


def test_show_prints_a_run_in_short_and_commands_that_can_be_pasted(tokenizer_run):
    output = CliRunner().invoke(app, ["show", str(tokenizer_run)]).output
    assert "finished after 4 steps" in output and f"page: {tokenizer_run}/page.html" in output
    command = re.search(r"to score it: vistok (.*)", output)[1]
    assert command == f"evaluate tokenizer {tokenizer_run}"


def test_a_run_of_another_kind_is_named_as_such(tmp_path):
    (tmp_path / "base-cl-12").mkdir()
    (tmp_path / "base-cl-12" / "config.json").write_text('{"kind": "classifier"}')
    with pytest.raises(
        UserError, match=r"no generator 'base-cl': it fits only base-cl-12 \(classifier\).*no generator in"
    ):
        find_run("base-cl", "generator", tmp_path)


def test_damaged_runs_are_not_passed_over_in_silence(tmp_path):
    (tmp_path / "runs" / "broken-1").mkdir(parents=True)
    (tmp_path / "runs" / "broken-1" / "config.json").write_text("")
    done = CliRunner().invoke(app, ["runs", str(tmp_path / "runs")])
    assert done.exit_code == 0 and "left out: " in done.stderr and "broken-1/config.json: damaged" in done.stderr
    with pytest.raises(UserError, match="as in vistok runs FOLDER"):
        table.run_rows(tmp_path / "nowhere")


def test_a_run_too_short_for_codes_is_not_advised_in_a_circle():
    with pytest.raises(UserError, match="begin sooner: --set tokenizer.quantizer.start_after=1"):
        train_tokenizer._codes_begin(find_recipe("images64_vq"), 15)
    with pytest.raises(UserError, match="train longer") as refused:
        train_tokenizer._codes_begin(find_recipe("images64_vq"), 1)
    assert "sooner" not in str(refused.value)


def test_numbers_that_are_too_large_for_json_are_refused():
    for text in ("optimizer.lr=1e400", "optimizer.weight_decay=1e999", "seed=" + "[" * 3000):
        with pytest.raises(UserError, match="optimizer|seed"):
            override(find_recipe("debug_vq"), [text])


def test_a_dry_run_of_imagenet_needs_no_imagenet(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = override(find_recipe("imagenet256_vavae"), ["data.root=nowhere"])
    assert count_images(config.data, "train") == (
        1_271_167,
        "as ImageNet has; name its folder with --data (it is not in nowhere)",
    )
    with pytest.raises(UserError, match="ImageNet nowhere: no such folder"):
        train_tokenizer.prepare(config, tmp_path)


def test_a_dry_run_refuses_what_training_would(tmp_path, fashion_root):
    for settings in (["length=20 steps", "tokenizer.quantizer.start_after=20"], ["execution.micro_batch_size=7"]):
        words = [word for text in settings for word in ("--set", text)]
        command = ["train", "tokenizer", "debug_vq", "--data", str(fashion_root), "--runs", str(tmp_path), *words]
        refused = [CliRunner().invoke(app, [*command, *more]) for more in ([], ["--dry-run"])]
        assert [str(done.exception) for done in refused][0] == str(refused[1].exception) and refused[0].exit_code


def test_a_dry_run_neither_writes_nor_fetches(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("vistok.data.images.fashion_mnist._fetch", lambda folder: pytest.fail("fetched"))
    result = CliRunner().invoke(app, ["train", "tokenizer", "debug_vq", "--dry-run"])
    assert result.exit_code == 0, result.output
    assert "which are not here yet" in result.output and "on this machine" in result.output
    assert list(tmp_path.iterdir()) == []


def test_lines_off_a_terminal_have_all_figures(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("vistok.engine.log.time.monotonic", lambda: now[0])
    with Progress().task("a run", 100) as bar:
        for step in range(100):
            now[0] += 1.0
            bar.advance(1, "loss 0.5, PSNR 18.20 dB, 80 images/s" if step % 20 == 5 else "")
    lines = [line for line in capsys.readouterr().err.splitlines() if " of 100" in line]
    assert 8 <= len(lines) <= 10
    assert all("PSNR 18.20 dB" in line and "left" in line for line in lines[1:])


def test_what_is_refused_while_networks_are_built_leaves_no_run(tmp_path, fashion_root, quiet):
    """The refused run kept its name's beginning, and the next command found two runs of that name."""
    settings = [
        f"data.root={json.dumps(str(fashion_root))}",
        'regularizers.alignment.features="dinov2"',
        "length=2 steps",
    ]
    job = train_tokenizer.prepare(override(find_recipe("debug_kl"), settings), tmp_path)
    with pytest.raises(UserError, match="dinov2_vitl14_pretrain.pth"):
        job.train(quiet)
    assert list(tmp_path.iterdir()) == []


def test_a_name_of_a_run_and_of_what_comes_with_vistok(tmp_path, monkeypatch, capsys):
    """`--teacher fashion-flow` took a run of that recipe without a word, where the README meant the flow that comes with vistok."""
    shipped = shipped_network("fashion-flow", "generator")
    mine = tmp_path / "runs" / "fashion-flow-0123456789"
    mine.mkdir(parents=True)
    (mine / "config.json").write_text('{"kind": "generator"}')
    monkeypatch.chdir(tmp_path)
    assert options.found_run("fashion_flow", "generator") == Path("runs") / mine.name
    assert "a run of yours; shipped:fashion-flow is the generator that comes with vistok" in capsys.readouterr().err
    assert options.found_run("shipped:fashion-flow", "generator") == shipped
    assert options.found_run("fashion-crt", "generator") == shipped_network("fashion-crt", "generator")
    assert initial("shipped:fashion-flow", "generator", Path("runs")) == "fashion-flow"  # which holds on other machines
    assert initial("fashion-flow", "generator", Path("runs")) == str(Path("runs") / mine.name)
    assert capsys.readouterr().err.count("a run of yours") == 1
    with pytest.raises(
        UserError, match="shipped:fashion-flow-0123456789: with vistok come fashion-baseline, fashion-crt"
    ):
        find_run("shipped:fashion-flow-0123456789", "generator")


@pytest.mark.parametrize("text", ["shipped:fashion-flow", "fashion_flow"])
@pytest.mark.parametrize("kind", [None, "classifier"])
def test_what_comes_with_vistok_is_no_run(tmp_path, text, kind):
    """`vistok show shipped:fashion-flow` said that with vistok come no Nones."""
    if kind and not text.startswith("shipped:"):
        match = "no classifier 'fashion_flow'"
    else:
        match = f"no {kind or 'run'} with a record. vistok sample --from fashion-flow draws"
    with pytest.raises(UserError, match=match):
        find_run(text, kind, tmp_path)
    with pytest.raises(UserError, match="with vistok come fashion-baseline, fashion-crt, fashion-flow, pictures64"):
        find_run("shipped:none", kind, tmp_path)
