"""A study's files when they are damaged, copied or written by two: one sentence each, and nothing mixed."""

import copy
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from vistok.errors import UserError
from vistok.files import owned
from vistok.recipes import find_recipe
from vistok.study.findings.table import collect, read_table
from vistok.study.run.record import StudyFolder
from vistok.study.run.wanted import asked_for

RESULTS = Path(__file__).parent.parent / "results" / "openmoji"
WRONG = (None, [], {}, "x", 1e400, -1, True, [[]], {"a": {}})


@pytest.fixture(scope="module")
def study():
    return find_recipe("openmoji_study", "study")


@pytest.fixture
def folder(tmp_path) -> StudyFolder:
    """One tokenizer and one of its generators, of the committed records."""
    committed = StudyFolder(RESULTS)
    generator = next(record for record in committed.records() if "tokenizer_run" in record["row"])
    place = StudyFolder(tmp_path / "results")
    (place.path / "records").mkdir(parents=True)
    for run in (generator["run"], generator["row"]["tokenizer_run"]):
        shutil.copy(committed.record_file(run), place.record_file(run))
    return place


def damaged(record: dict, depth: int = 1):
    """Yield the record with every other one of its upper values missing, and the others of another kind."""

    def places(value, path=()):
        if isinstance(value, dict) and len(path) <= depth:
            for key, below in value.items():
                yield (*path, key)
                yield from places(below, (*path, key))

    for number, path in enumerate(places(record)):
        changed = copy.deepcopy(record)
        holder = changed
        for key in path[:-1]:
            holder = holder[key]
        if number % 2:
            del holder[path[-1]]
        else:
            holder[path[-1]] = WRONG[number // 2 % len(WRONG)]
        yield path, changed


def test_a_damaged_record_is_a_sentence_that_names_it(study, folder):
    """Nothing but a UserError, whatever is missing or of another kind; what is not read may be anything."""
    assert len(collect(folder, study)[0]) == 2
    refused = []
    for file in sorted((folder.path / "records").iterdir()):
        whole = file.read_text()
        for path, changed in damaged(json.loads(whole)):
            file.write_text(json.dumps(changed))
            try:
                # The table reads rows alone.
                collect(folder, study) if path[0] == "row" else asked_for(study, folder.records(), folder.path)
            except UserError as error:
                assert str(folder.path) in str(error), (path, str(error))
                refused.append(path)
        for text in ("", "{", "[]", "[" * 50_000, "\0\0", '{"schema_version": 1}'):
            file.write_text(text)
            with pytest.raises(UserError, match=f"{file.name}.*delete it and repeat vistok study run"):
                collect(folder, study)
        file.write_text(whole)
    assert {("row",), ("row", "gfmd"), ("row", "by_position"), ("config",), ("detail",)} <= set(refused)


def test_a_copy_of_a_record_does_not_count_twice(study, folder):
    file = next((folder.path / "records").glob("m-*.json"))
    shutil.copy(file, file.with_name(f"{file.stem} (copy).json"))
    with pytest.raises(UserError, match="a copy would count twice"):
        collect(folder, study)


def test_costs_measured_afterwards_are_those_of_a_quiet_machine(study, folder):
    without, _ = collect(folder, study)
    pair = without[without.kind == "generator"].iloc[0]
    header = "tokenizer_choice,choice,image_size,ms_per_image,flops_per_image"
    costs = folder.path / "image_costs.csv"
    costs.write_text(f"{header}\n{pair.tokenizer_choice},{pair.choice},{pair.image_size},5.5,1e8\nother,x,28,1,1\n")
    table, _ = collect(folder, study)
    generator, tokenizer = (table[table.kind == kind] for kind in ("generator", "tokenizer"))
    assert list(generator.ms_per_image) == [5.5] and list(generator.flops_per_image) == [1e8]
    assert tokenizer.ms_per_image.isna().all()
    # What a run recorded on a busy machine: its FLOPs stay, with its own guidance, and say what it would take on a quiet one.
    file = next((folder.path / "records").glob("m-*.json"))
    record = json.loads(file.read_text())
    record["row"] |= {"ms_per_image": 40.0, "flops_per_image": 2e8}
    file.write_text(json.dumps(record))
    table, _ = collect(folder, study)
    generator, tokenizer = (table[table.kind == kind] for kind in ("generator", "tokenizer"))
    assert list(generator.ms_per_image) == [11.0] and list(generator.flops_per_image) == [2e8]
    assert tokenizer.ms_per_image.isna().all()
    costs.write_text("nonsense\n")
    with pytest.raises(UserError, match=r"image_costs.csv.*delete it, or repeat benchmarks/study_costs.py"):
        collect(folder, study)


def test_a_damaged_table_is_a_sentence(tmp_path):
    whole = (RESULTS / "runs.csv").read_text()
    for text in (
        "",
        "\0",
        whole.replace("tokenizer,", '"tokenizer,', 1),
        whole[: len(whole) // 3] + ",,,\n,,,,,,",
        "kind\n",
    ):
        (tmp_path / "runs.csv").write_text(text)
        with pytest.raises(UserError, match=r"runs\.csv.*repeat vistok study report"):
            read_table(tmp_path / "runs.csv")
    rows = whole.splitlines()
    header, first = rows[0].split(","), rows[1].split(",")
    first[header.index("psnr")] = "much"
    (tmp_path / "runs.csv").write_text("\n".join([rows[0], ",".join(first), *rows[2:]]))
    with pytest.raises(UserError, match="the column psnr holds values that are not numbers"):
        read_table(tmp_path / "runs.csv")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"kind": "tokenizer"}', '{"color": 1}'])
def test_a_damaged_order_is_a_sentence(tmp_path, text):
    from vistok.study.run.order import Order

    (tmp_path / "order.json").write_text(text)
    with pytest.raises(UserError, match=r"order .*order\.json: damaged.*vistok study run writes it again"):
        Order.read(tmp_path / "order.json")


def test_a_damaged_link_to_a_trunk_is_a_sentence(tmp_path):
    from vistok.study.run.worker import _branch

    order = SimpleNamespace(trunk="long", run="short", runs=str(tmp_path), branch_step=4)
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "long.json").write_text("{")
    with pytest.raises(UserError, match=r"link .*long\.json: damaged.*delete it, and repeat vistok study run"):
        _branch(order, tmp_path / "run")


def test_a_second_call_on_the_same_runs_or_records_is_refused_at_once(study, tmp_path, quiet):
    from vistok.study.run import scheduler as run

    folder = StudyFolder(tmp_path / "results")
    for place in (tmp_path / "runs" / study.name, folder.path):
        with (
            owned(place),
            pytest.raises(UserError, match=f"{place}: another process is writing it; wait for it or stop it"),
        ):
            run.run_study(study, tmp_path / "runs", folder, None, 1, quiet)


def test_choosing_records_needs_no_network_library():
    code = (
        "import sys; from pathlib import Path; from vistok.recipes import find_recipe\n"
        "from vistok.study.run.record import StudyFolder; from vistok.study.findings.table import collect\n"
        f"collect(StudyFolder(Path({str(RESULTS)!r})), find_recipe('openmoji_study')); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
