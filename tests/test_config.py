import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vistok.config import fingerprint, override
from vistok.errors import UserError
from vistok.recipes import all_recipes, find_recipe, recipe_kinds
from vistok.tokenizer.bottlenecks.config import KLConfig, SimVQConfig
from vistok.tokenizer.config import AdversarialConfig, ConvTokenizerConfig
from vistok.tokenizer.discriminator import PatchDiscriminator
from vistok.units import Duration, Scale, steps_for_flops, total_flops


@pytest.mark.parametrize("name", sorted(all_recipes()))
def test_every_recipe_round_trips_and_says_its_command(name):
    config = find_recipe(name)
    assert type(config).from_json(config.to_json()) == config
    doc = all_recipes()[name].__doc__
    command = {"study": "study run", "shortcut": "shorten"}.get(recipe_kinds()[name], f"train {config.kind}")
    assert f"vistok {command} {name}" in doc


def test_override_changes_nested_values_and_types_stay_strict():
    config = find_recipe("debug_crt")
    changed = override(
        config, ["tokenizer.quantizer.codebook_size=32", "crt.weight=1.5", "length=7 steps", "losses.perceptual=null"]
    )
    assert changed.tokenizer.quantizer.codebook_size == 32
    assert changed.regularizer("causal").weight == 1.5
    assert changed.length == Duration(value=7, unit="steps")
    assert changed.losses.perceptual is None
    assert config.tokenizer.quantizer.codebook_size == 64


def test_override_switches_on_a_part_that_is_off():
    changed = override(find_recipe("debug_vq"), ["losses.adversarial.weight=0.25"])
    assert changed.losses.adversarial.weight == 0.25


def test_override_switches_the_quantizer():
    changed = override(find_recipe("debug_vq"), ['tokenizer.quantizer={"kind": "fsq", "levels": [4, 4]}'])
    assert changed.tokenizer.quantizer.codebook_size == 16


def test_lists_are_changed_item_by_item():
    study = find_recipe("debug_study")
    changed = override(
        study, ['grids.0.lengths=["5 steps"]', "grids.main.seeds.1=7", "grids.0.tokenizers.none.name=plain"]
    )
    (grid,) = changed.grids
    assert grid.lengths == (Duration(value=5, unit="steps"),) and grid.seeds == (0, 7)
    assert [choice.name for choice in grid.tokenizers] == ["plain", "l2-pre-w4"]
    assert override(study, ["scoring.scales.2=4"]).scoring.scales == (1.0, 2.0, 4.0)  # one more
    assert (
        override(study, ["tokenizer.crt.weight=3"]).tokenizer.regularizer("causal").weight == 3
    )  # a former path, inside
    for assignment, words in (
        ("grids.3.seeds=[1]", "'grids' has no item '3'; it has 1, counted from 0 or named main, and grids.1 adds one"),
        ("grids.0.lenghts=[1]", "Did you mean 'grids.0.lengths'?"),
        ("lengths=[1]", "Did you mean 'grids.0.lengths'?"),
        ("grids.0.lengths.0=soon", "config field grids.0.lengths.0: 'soon' is not a duration"),
    ):
        with pytest.raises(UserError) as error:
            override(study, [assignment])
        assert words in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("tokeniser.image_size=28", ["Did you mean 'tokenizer.image_size'?"]),
        ("lr=1", ["'lr'", "Did you mean 'optimizer.lr'?"]),
        ("optimizer.learning_rate=1", ["Did you mean 'optimizer.lr'?"]),
        ("epochs=3", ["Did you mean 'length'?"]),
        ("codebok_size=64", ["Did you mean 'tokenizer.quantizer.codebook_size'?"]),
        ("crt.weigth=1", ["Did you mean 'crt.weight'?"]),
        ("length=1 hour", ["'1 hour' is a time", "steps, images, epochs", "vistok start FOLDER --for 1h"]),
        ("length=1,5 epochs", ["'1,5' in the duration"]),
        ("optimizer.betas.3=0.5", ["it has 2, counted from 0"]),
        ("optimizer.learning_rate=1", ["learning_rate", "lr"]),
        ("seed=one", ["seed", "'one'"]),
        ("seed=true", ["seed", "True"]),
        ("batch_size=1.5", ["batch_size", "1.5"]),
        ("length=5 parsecs", ["length", "parsecs", "steps, images"]),
        ("length=-1 steps", ["length"]),
        ("tokenizer.image_size=32", ["image_size", "data.image_size and tokenizer.image_size"]),
        ("optimizer.lr=NaN", ["optimizer.lr"]),
        ("seed", ["path=value"]),
        ("length=50 percent", ["length", "not in percent"]),
        ("length=0 steps", ["length", "above 0"]),
        ("losses.adversarial.channels=10", ["channels", "multiple of 4"]),
        ("losses.adversarial.channels=3", ["channels", "multiple of 4", "found 3"]),
        ("name=../../x", ["name", "becomes a file name", "'../../x'"]),
        ("name=.x", ["name", "must begin with a letter or digit"]),
        ('name=""', ["name", "must begin with a letter or digit"]),
        ("name=a\tb", ["name", "'a\\tb'"]),
        ("seed.x=1", ["seed", "has no fields"]),
        ('tokenizer.quantizer={"kind": "vqq"}', ["quantizer", "vq"]),
    ],
)
def test_errors_name_the_field_and_what_to_do(assignment, words):
    with pytest.raises(UserError) as error:
        override(find_recipe("debug_vq"), [assignment])
    for word in words:
        assert word in str(error.value)


def test_configs_built_from_values_raise_the_same_sentences():
    tokenizer = find_recipe("debug_vq").tokenizer
    with pytest.raises(UserError, match=r"config field image_size: .* greater than or equal to 4 \(found 2\)\."):
        tokenizer.replace(image_size=2)
    with pytest.raises(UserError, match="config field image_sise: .*Did you mean 'image_size'"):
        ConvTokenizerConfig(image_sise=32)
    with pytest.raises(
        ValueError, match="ConvTokenizerConfig: downsampling 8 is more than"
    ):  # as other mistakes in a config
        ConvTokenizerConfig(image_size=4, encoder=tokenizer.encoder.replace(multipliers=(1,) * 4),
                        decoder=tokenizer.decoder.replace(multipliers=(1,) * 4))  # fmt: skip


def test_a_part_of_another_kind_keeps_what_both_kinds_have():
    tokenizer = ["tokenizer.quantizer.codebook_size=48", "tokenizer.quantizer.restart_after=5"]
    changed = override(find_recipe("debug_vq"), [*tokenizer, "tokenizer.quantizer.kind=simvq"])
    assert changed.tokenizer.quantizer == SimVQConfig(codebook_size=48, code_dim=find_recipe("debug_vq").tokenizer.quantizer.code_dim)  # fmt: skip
    assert override(changed, ["tokenizer.quantizer.kind=kl", "tokenizer.quantizer.dim=3"]).tokenizer.quantizer == KLConfig(dim=3)  # fmt: skip
    for assignments, words in (
        (["tokenizer.quantizer.kind=vqq"], "kind 'vqq' is not one of vq, fsq, simvq, kmeans, kl"),
        (["tokenizer.quantizer.kind=[1]"], "is not one of vq"),
        (["losses.perceptual.kind=vq"], "losses.perceptual.kind"),
        (["tokenizer.quantizer.kind=simvq", "tokenizer.quantizer.restart_after=5"], "'restart_after' is not one of kind, codebook_size"),
    ):  # fmt: skip
        with pytest.raises(UserError) as error:
            override(find_recipe("debug_vq"), assignments)
        assert words in str(error.value) and "Did you mean" not in str(error.value)


@pytest.mark.parametrize("channels", range(1, 13))
@pytest.mark.parametrize("num_layers", [1, 2, 4])
def test_a_discriminator_that_is_allowed_can_be_built(channels, num_layers):
    try:
        config = AdversarialConfig(channels=channels, num_layers=num_layers)
    except UserError:
        assert channels % 4 and channels > 2
        return
    with torch.device("meta"):
        PatchDiscriminator(config, 1)


@pytest.mark.parametrize("recipe", ["images64_crt", "debug_crt"])
def test_a_part_of_a_list_is_called_as_it_was_written(recipe):
    with pytest.raises(UserError, match=r"config field regularizers\.causal\.weight: .*\(found 'nan'\)"):
        override(find_recipe(recipe), ["regularizers.causal.weight=nan"])


def test_unknown_recipe_suggests_the_nearest():
    with pytest.raises(UserError, match="Did you mean 'fashion_crt', 'fashion_") as error:
        find_recipe("fashion_crtt")
    assert len(str(error.value)) < 200 and "vistok recipes lists all" in str(error.value)
    with pytest.raises(UserError, match="is for a generator, not a tokenizer.*Did you mean 'fashion_") as error:
        find_recipe("fashion_ar", "tokenizer")
    assert "fashion_flow" not in str(error.value)  # of the kind that was asked for
    with pytest.raises(UserError, match="Did you mean 'images64_crt'"):
        find_recipe("Images64-crt")
    with pytest.raises(UserError, match=r"unknown recipe 'zzz'\. vistok recipes lists"):
        find_recipe("zzz")


def test_kinds_of_recipes_are_read_from_their_text():
    """Completion must not build configs."""
    kinds = {name: build().kind for name, build in all_recipes().items()}
    shortened = {name for name, build in all_recipes().items() if "vistok shorten" in build.__doc__}
    assert recipe_kinds() == kinds | dict.fromkeys(shortened, "shortcut") and "fashion_guided" in shortened


def test_fingerprint_is_of_the_science_only():
    config = find_recipe("debug_vq")
    same = override(config, ["execution.log_every=1", "execution.micro_batch_size=4", "name=other", 'data.root="/x"'])
    assert fingerprint(same) == fingerprint(config)
    for change in ("seed=1", "optimizer.lr=0.5", "tokenizer.quantizer.code_dim=4", "length=21 steps"):
        assert fingerprint(override(config, [change])) != fingerprint(config)
    assert fingerprint(config, data="a") != fingerprint(config, data="b")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda x: st.lists(x) | st.dictionaries(st.text(), x),
    ),
    st.sampled_from(["seed", "tokenizer", "crt", "losses.perceptual", "length", "data.dataset", "optimizer.betas"]),
)
def test_any_value_is_taken_or_refused_with_a_sentence(value, path):
    try:
        override(find_recipe("debug_vq"), [f"{path}={json.dumps(value)}"])
    except UserError as error:
        assert path.split(".")[0] in str(error)


def test_durations():
    scale = Scale(batch_size=10, num_images=95, tokens_per_image=4, total_steps=200)
    for text, expected in (
        ("7 steps", 7),
        ("70 images", 7),
        ("71 images", 8),
        ("2 epochs", 19),
        ("400 tokens", 10),
        ("10 percent", 20),
    ):
        assert Duration.model_validate(text).to_steps(scale) == expected, text
    assert str(Duration.model_validate("1e15 flops")) == "1e+15 flops"
    for typed, meant in (
        ("10", "10 steps"), (10, "10 steps"), ("5epochs", "5 epochs"), ("1 Epoch", "1 epochs"), ("10k steps", "10000 steps"),
        ("2k", "2000 steps"), ("1,500 steps", "1500 steps"), ("5%", "5 percent"), ("1e3 iterations", "1000 steps"),
    ):  # fmt: skip
        assert str(Duration.model_validate(typed)) == meant, typed


@given(st.integers(0, 500), st.integers(1, 200), st.floats(1, 1e15), st.floats(0.1, 10))
def test_flops_and_steps_are_inverse(count, change, before, ratio):
    costs = [(0, before), (change, before * ratio)]
    spent = total_flops(count, costs)
    assert steps_for_flops(spent, costs) == count
    assert steps_for_flops(float(f"{spent:.10g}"), costs) == count  # as a duration's text keeps it
    assert steps_for_flops(spent + 0.5 * before * min(1, ratio), costs) == count


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(UserError, match="width / num_heads must be a multiple of 4"):
        override(find_recipe("debug_crt"), ["crt.width=30"])
    with pytest.raises(UserError, match="data.channels and classifier.in_channels"):
        override(find_recipe("images64_evaluator"), ["data.channels=1"])


@pytest.mark.parametrize("setting", ["crt.ramp=1e12 flops", "optimizer.warmup=1e12 flops"])
def test_parts_of_a_run_may_be_given_in_flops(setting):
    from vistok.verbs import train_tokenizer

    assert train_tokenizer.plan(override(find_recipe("debug_crt"), [setting]), 1000).total_steps == 20
