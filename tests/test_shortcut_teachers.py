"""Which generators shortcuts can be made from, and what is said of those that they cannot."""

import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from vistok.cli import app
from vistok.config import override
from vistok.engine.distributed import ALONE
from vistok.errors import UserError
from vistok.generator.flow.config import FlowConfig
from vistok.origin import ShortcutOf
from vistok.recipes import find_recipe
from vistok.runs.load import load_generator, load_tokenizer
from vistok.runs.teacher import ink, read_teacher, require_classes, tokenizer_of, with_teacher
from vistok.shortcut.config import SHORTCUTS
from vistok.shortcut.teachers import require_teacher
from vistok.verbs import train_generator, train_tokenizer
from vistok.verbs.cache_latents import cache_tokens

CPU = torch.device("cpu")
PLAIN = FlowConfig(width=16, depth=2, num_heads=2)
KINDS = [kind for kind in SHORTCUTS if SHORTCUTS[kind].teacher]


def shortcut(kind, *settings):
    return override(find_recipe(f"debug_{kind}"), list(settings)).shortcut


def made_by(kind, *settings):
    """Return a student's network and the record of how it was made."""
    config = shortcut(kind, *settings)
    network = config.network(PLAIN)
    calls = int(network.usual_sampling().get("steps", 1))
    return network, ShortcutOf(kind=kind, path="" if kind == "mean_flow" else "runs/first", calls=calls)


def refused(kind, teacher, *settings):
    """Return what is said of a teacher, or nothing if it is taken."""
    try:
        require_teacher(shortcut(kind, *settings), *teacher, "runs/teacher")
    except UserError as error:
        assert "runs/teacher" in str(error)
        return str(error)
    return ""


@pytest.mark.parametrize("kind", KINDS)
def test_a_flow_is_a_teacher_for_all_and_a_one_call_generator_for_none(kind):
    assert not refused(kind, (PLAIN, None))
    for other in ("self_cooperative", "score"):
        assert "no longer follows the flow" in refused(kind, made_by(other))
        assert "its own teacher, runs/first" in refused(kind, made_by(other))
    assert "such as a run of fashion_flow" in refused(kind, made_by("mean_flow"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_guided_generator_is_shortened_further_and_guided_once(kind):
    said = refused(kind, made_by("guided"))
    assert bool(said) == (kind in ("guided", "adaptation"))
    assert not said or "guidance is inside this generator already, at scales from 1 to 5" in said


def test_halving_goes_on_at_steps_that_the_teacher_takes():
    halved = made_by("progressive")  # 2 steps
    assert "--set shortcut.from_steps=2" in refused("progressive", halved)
    assert not refused("progressive", halved, "shortcut.from_steps=2", "shortcut.to_steps=1")
    assert refused("progressive", halved, "shortcut.from_steps=4", "shortcut.to_steps=1")
    assert "--init-from" in refused("score", halved)
    # It has learned steps of that length and sampler alone: those of four steps, or of twice the length, would be others.
    four = made_by("progressive", "shortcut.to_steps=4")
    further = ["shortcut.from_steps=4", "shortcut.to_steps=1"]
    assert not refused("progressive", four, *further)
    assert refused("progressive", four, "shortcut.from_steps=2", "shortcut.to_steps=1")
    assert 'shortcut.sampler="deterministic"' in refused("progressive", four, *further, 'shortcut.sampler="stochastic"')


@pytest.mark.parametrize("kind", KINDS)
def test_predicted_noise_is_no_beginning_for_few_calls(kind):
    said = refused(kind, (PLAIN.replace(predicts="noise", path="ddpm"), None))
    assert bool(said) == (kind not in ("guided", "adaptation"))
    assert not said or "vistok shorten fashion_adaptation" in said


def test_guidance_is_asked_of_those_who_can_give_it():
    without = (PLAIN.replace(label_dropout=0.0), None)
    assert "trained without label dropout, so it cannot be guided at scale 5" in refused("guided", without)
    assert not refused("progressive", without) and not refused("score", without)
    for kind in ("progressive", "score"):
        assert "--set shortcut.guidance_scale=1" in refused(kind, without, "shortcut.guidance_scale=2")
    assert "at scales from 1 to 5, but it would be asked for 7" in refused(
        "score", made_by("guided"), "shortcut.guidance_scale=7"
    )
    above = made_by("guided", "shortcut.scales=[2,5]")
    assert not refused("score", above, "shortcut.guidance_scale=3")
    assert refused("score", above, "shortcut.guidance_scale=3", "shortcut.guidance=out")  # which asks for 1, too
    assert "from 2 to 5, but it would be asked for 1; take another teacher" in refused("self_cooperative", above)


def test_scales_of_guidance_are_a_range_in_order():
    for wrong in ("[3,1]", "[1,1]", "[-1,2]"):
        with pytest.raises(UserError, match="scales must be two numbers in order"):
            shortcut("guided", f"shortcut.scales={wrong}")


# --- with real runs


@pytest.fixture(scope="module")
def taught(fashion_root, tmp_path_factory, quiet):
    """Two tokenizers, a third that is the first one with its decoder trained further, and a teacher of the first."""
    runs = tmp_path_factory.mktemp("teachers")
    small = [f'data.root="{fashion_root}"', "data.max_images=60", "length=2 steps", "losses.perceptual=null"]

    def tokenizer(*settings):
        config = override(find_recipe("debug_kl"), [*small, *settings])
        return train_tokenizer.prepare(config, runs).train(quiet).path

    first, other = tokenizer(), tokenizer("seed=9")
    further = tokenizer('trains="decoder"', f'init_from="{first}"')
    caches = [cache_tokens(first, split, quiet) for split in ("train", "val")]
    config = override(find_recipe("debug_flow"), ["length=2 steps"])
    return runs, first, other, further, train_generator.prepare(config, *caches, first, runs).train(quiet).path


def said(*arguments):
    done = CliRunner().invoke(app, [str(part) for part in arguments])
    return done.exit_code, str(done.exception) if isinstance(done.exception, UserError) else done.output


def pictures(folder, *names, side=28):
    """Return a folder of a few coloured squares in classes."""
    for number, name in enumerate(names * 6):
        (folder / name).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (side, side), (40 * (number % 6), 90, 200)).save(folder / name / f"{number}.png")
    return folder


def tokenizer_of_colours(folder, runs, quiet):
    """Return a toy tokenizer to vectors, of 28 pixels."""
    sizes = [f"{part}=3" for part in ("data.channels", "tokenizer.in_channels")]
    of_folder = [f'data.root="{folder}"', 'data.dataset="folder"', "data.max_images=null", *sizes]
    config = override(find_recipe("debug_kl"), [*of_folder, "length=2 steps", "losses.perceptual=null"])
    return train_tokenizer.prepare(config, runs).train(quiet).path


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_another_tokenizer_is_refused_before_anything_is_encoded(taught, more):
    runs, _, other, _, teacher = taught
    code, words = said(
        "shorten", "debug_guided", "--teacher", teacher, "--tokenizer", other.name, "--runs", runs, *more
    )
    assert code != 0 and "latents of another tokenizer" in words and not (other / "tokens").exists()


def test_a_decoder_that_was_trained_further_is_taken(taught, quiet):
    runs, first, _, further, teacher = taught
    short = ["--set", 'length="2 steps"', "--set", "execution.tensorboard=false"]
    code, words = said(
        "shorten", "debug_progressive", "--teacher", teacher, "--tokenizer", further, "--runs", runs, *short
    )
    assert code == 0, words
    (student,) = runs.glob("debug-progressive-*")
    assert load_generator(student).info.tokenizer.path == str(further.resolve())


def test_a_tokenizer_beside_the_teachers_file_is_found(taught, tmp_path):
    _, first, _, _, teacher = taught
    there = shutil.copy(teacher / "export" / "model.safetensors", tmp_path / "teacher.safetensors")
    config = with_teacher(find_recipe("debug_guided"), str(there))
    assert tokenizer_of(config) == first
    beside = Path(shutil.copy(first / "export" / "model.safetensors", tmp_path / first.name))
    assert tokenizer_of(config) == beside
    assert load_generator(there).info.tokenizer.path == str(beside)


def test_what_would_be_ignored_or_fail_later_is_refused_at_once(taught):
    runs, _, _, _, teacher = taught
    of = ["--teacher", teacher, "--runs", runs, "--dry-run"]
    code, words = said("shorten", "debug_guided", *of, "--set", "generator.width=64")
    assert code != 0 and "generator.width: a shortened generator has its teacher's network" in words
    code, words = said("shorten", "debug_progressive", *of, "--set", 'length="1 steps"')
    assert code != 0 and "1 steps of training for 2 rounds" in words
    code, words = said("shorten", "debug_mean_flow", *of)
    assert code != 0 and "vistok train generator debug_mean_flow --tokenizer RUN" in words


def test_images_of_other_classes_are_refused_before_any_is_encoded(tmp_path, quiet):
    first, second = pictures(tmp_path / "two", "cat", "dog"), pictures(tmp_path / "other", "cat", "cow")
    tokenizer = tokenizer_of_colours(first, tmp_path, quiet)
    caches = [cache_tokens(tokenizer, split, quiet) for split in ("train", "val")]
    config = override(find_recipe("debug_flow"), ["length=2 steps"])
    teacher = train_generator.prepare(config, *caches, tokenizer, tmp_path).train(quiet).path
    shutil.rmtree(tokenizer / "tokens")
    for more in ([], ["--dry-run"]):
        code, words = said("shorten", "debug_guided", "--teacher", teacher, "--data", second, "--runs", tmp_path, *more)
        assert code != 0 and "'cow' among them" in words and not (tokenizer / "tokens").exists()
    assert said("shorten", "debug_guided", "--teacher", teacher, "--data", first, "--dry-run")[0] == 0


def test_other_names_of_classes_are_refused(taught):
    teacher = read_teacher(str(taught[4]))
    names = teacher.header.class_names
    require_classes(teacher, names)
    for wrong in (names[:3], names[::-1], (*names[:9], "glove")):
        with pytest.raises(UserError, match="give a folder with the teacher's classes"):
            require_classes(teacher, wrong)


def test_weights_to_begin_with_are_told_what_the_student_is(taught, quiet):
    runs, first, _, _, teacher = taught
    caches = [cache_tokens(first, split, quiet) for split in ("train", "val")]
    config = override(find_recipe("debug_guided"), ["length=2 steps", "execution.tensorboard=false"])
    guided = train_generator.prepare(with_teacher(config, str(teacher)), *caches, first, runs).train(quiet).path
    with pytest.raises(UserError, match="told the guidance scale besides time and class.*nothing"):
        with_teacher(find_recipe("debug_score").replace(init_from=str(guided)), str(teacher))
    assert with_teacher(find_recipe("debug_score").replace(init_from=str(guided)), str(guided)).init_from


def test_weights_to_begin_with_mean_what_the_students_do(taught, quiet):
    """A network of another path has weights of the same shapes, so nothing else would notice."""
    runs, first, _, _, teacher = taught
    caches = [cache_tokens(first, split, quiet) for split in ("train", "val")]
    config = override(find_recipe("debug_flow"), ["length=1 steps", 'generator.path="cosine"'])
    other = train_generator.prepare(config, *caches, first, runs).train(quiet).path
    with pytest.raises(UserError, match="path 'cosine'.*'linear'; give a generator that was made from this teacher"):
        with_teacher(find_recipe("debug_score").replace(init_from=str(other)), str(teacher))
    with pytest.raises(UserError, match="autoregressive weights, but a shortcut's are a flow generator's"):
        with_teacher(find_recipe("debug_score").replace(init_from="fashion-crt"), str(teacher))


@pytest.mark.slow
def test_a_student_sees_latents_as_its_teacher_does_whatever_it_begins_with(taught, quiet):
    runs, first, other, _, teacher = taught
    short = ["length=1 steps", "execution.tensorboard=false"]
    caches = {
        tokenizer: [cache_tokens(tokenizer, split, quiet) for split in ("train", "val")] for tokenizer in (first, other)
    }
    config = override(find_recipe("debug_flow"), short)
    begun = train_generator.prepare(config, *caches[other], other, runs).train(quiet).path
    config = with_teacher(override(find_recipe("debug_score"), short).replace(init_from=str(begun)), str(teacher))
    student = train_generator.prepare(config, *caches[first], first, runs).objective(CPU, ALONE).networks["generator"]
    theirs, initial = load_generator(teacher), load_generator(begun)
    assert torch.equal(student.network.out.weight, initial.network.out.weight)
    assert torch.equal(student.mean, theirs.mean) and torch.equal(student.deviation, theirs.deviation)
    assert not torch.equal(initial.mean, theirs.mean)
    shutil.rmtree(other / "tokens")


@pytest.mark.slow
def test_a_reward_sees_images_of_the_teachers_size(tmp_path, quiet):
    tokenizer = tokenizer_of_colours(pictures(tmp_path / "two", "cat", "dog", side=56), tmp_path, quiet)
    caches = [cache_tokens(tokenizer, split, quiet, image_size=56) for split in ("train", "val")]
    short = ["length=1 steps", "execution.tensorboard=false"]
    flow = override(find_recipe("debug_flow"), short)
    teacher = train_generator.prepare(flow, *caches, tokenizer, tmp_path).train(quiet).path
    rewarded = override(find_recipe("debug_score"), [*short, 'shortcut.reward={"kind": "ink", "weight": 1}'])
    student = train_generator.prepare(with_teacher(rewarded, str(teacher)), *caches, tokenizer, tmp_path)
    space = load_generator(teacher).space
    latents = torch.randn(2, *space.shape, generator=torch.Generator().manual_seed(0))
    found = student.objective(CPU, ALONE).reward(latents, torch.zeros(2, dtype=torch.int64))
    images = load_tokenizer(tokenizer).resized(56).decode(latents).clamp(-1, 1)
    torch.testing.assert_close(found, ink(images, torch.zeros(2)))
