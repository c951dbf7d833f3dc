import dataclasses
import re
from importlib import resources

import pytest

from bitat_tf import config, records
from bitat_tf.recipe_files import differences, load_recipe, recipe_names, save_recipe


@pytest.mark.parametrize("name", recipe_names())
def test_packaged_recipes_load_and_are_named_like_their_file(name):
    assert load_recipe(name).name == name


@pytest.mark.parametrize("name", recipe_names())
def test_a_packaged_recipe_says_what_it_is_and_what_it_costs(name):
    packaged = resources.files("bitat_tf") / "recipes" / f"{name}.yaml"
    header = packaged.read_text(encoding="utf-8").partition(f"name: {name}")[0]
    labels = re.findall(r"^# ([A-Z][a-z]+):", header, re.MULTILINE)
    assert {"Paper", "Method"} & set(labels)
    assert {"Command", "Cost", "Result"} <= set(labels)


def test_the_published_schedules_are_whole_epochs_of_imagenet():
    # 1,281,167 train images, 1 % of them for validation.
    for name in recipe_names():
        recipe = load_recipe(name)
        if recipe.data.dataset == "imagenet2012":
            train = 1_281_167 - round(recipe.data.validation_fraction * 1_281_167)
            epoch = train // recipe.student.batch_size
            assert recipe.student.steps == 128 * epoch


def test_data_options_are_off_unless_a_recipe_asks_for_them():
    plain = config.DataConfig()
    assert not plain.soft_labels
    assert not plain.mixes
    assert config.DataConfig(label_smoothing=0.1).soft_labels
    assert config.DataConfig(mixup=0.2).mixes
    assert not config.DataConfig(cutmix=1.0, augment=False).soft_labels


def test_a_recipe_survives_saving(tmp_path):
    recipe = load_recipe("digits-demo", ["student.steps=77", "model.arguments.width=0.5"])
    save_recipe(recipe, tmp_path / "recipe.yaml")
    assert load_recipe(str(tmp_path / "recipe.yaml")) == recipe
    assert recipe.student.steps == 77
    assert recipe.model.arguments["width"] == 0.5


def test_differences_name_what_would_change_the_result():
    one = load_recipe("digits-demo")
    same = ["checkpoint.steps=7", "checkpoint.best=false", "data.data_dir=/elsewhere"]
    assert differences(one, load_recipe("digits-demo", same)) == []
    other = load_recipe("digits-demo", ["seed=3", "model.arguments.stem_channels=8"])
    text = "; ".join(differences(one, other))
    assert text.startswith("seed is 3 and was 0; model.arguments is {'stem_channels': 8, ")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("checkpoint.keep=0", "`checkpoint.keep` must be at least 1"),
        ("checkpoint.steps=-1", "`checkpoint.steps` must be at least 0"),
        ("checkpoint.every=5", "Unknown key `checkpoint.every`"),
        ("student.stepz=3", "Unknown key `student.stepz`.*Known here: .*steps"),
        ("wrong=3", "Unknown key `wrong`"),
        ("student.steps=many", "`student.steps` must be of type int"),
        ("student.steps=true", "`student.steps` must be of type int"),
        ("student.steps=0", "`student.steps` must be at least 1"),
        ("student.progressive_steps=1600", "below student.steps"),
        ("student.refresh_steps=-1", "`student.refresh_steps` must be at least 0"),
        ("student.quantization_loss=-0.1", "`student.quantization_loss` must be at least 0"),
        ("student.release_steps=1600", r"progressive_steps \+ release_steps are below"),
        ("student.release_order=random", "one of 'most_first', 'least_first'"),
        ("student.learning_rate=fast", "`student.learning_rate` must be a number"),
        ("calibration.threshold=mean", "one of 'lloyd_max', 'median', 'zero'"),
        ("data.validation_fraction=1.5", "between 0 and 1"),
        ("student=3", "`student.` must be a mapping"),
        ("data.augment=1", "of type bool"),
        ("data.image_size=-1", "`data.image_size` must be at least 0"),
        ("data.center_share=0", "`data.center_share` must be above 0"),
        ("data.crop=zoom", "one of 'pad', 'resized'"),
        ("data.crop=resized", "`data.crop` must be pad where data.image_size is 0"),
        ("data.rand_augment=1.5", r"`data.rand_augment` must be in \[0, 1\]"),
        ("data.rand_augment_layers=0", "`data.rand_augment_layers` must be at least 1"),
        ("data.mixup=0.01", "`data.mixup` must be 0, or at least 0.05"),
        ("data.cutmix=-1", "`data.cutmix` must be 0, or at least 0.05"),
        ("data.label_smoothing=1", "`data.label_smoothing` must be at least 0 and below 1"),
        ("data.statistics_images=-1", "`data.statistics_images` must be at least 0"),
        ("data.max_corrupt=3", "`data.max_corrupt` must be 0 where data.image_size is 0"),
        ("no equals sign", "must read key=value"),
        ("student.steps=[", "not valid YAML"),
    ],
)
def test_a_bad_setting_is_one_clear_line(setting, message):
    with pytest.raises(ValueError, match=message) as caught:
        load_recipe("cifar10-nano", [setting])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("option", ["refresh_steps", "quantization_loss", "release_steps"])
def test_what_needs_a_transform_is_of_bitat_only(option):
    assert getattr(config.StudentConfig(**{option: 5}), option) == 5
    with pytest.raises(ValueError, match=rf"`student.{option}` must be 0 with .*=ste"):
        config.StudentConfig(method="ste", **{option: 5})


def test_scientific_notation_that_yaml_reads_as_text_is_a_number():
    assert load_recipe("cifar10-nano", ["student.learning_rate=1e-4"]).student.learning_rate == 1e-4


@pytest.mark.parametrize(
    ("content", "message"),
    [("a: [", "not valid YAML"), ("- 1", "must be a mapping"), ("seed: 1", "`name` is missing")],
)
def test_a_bad_file_is_named(tmp_path, content, message):
    path = tmp_path / "bad.yaml"
    path.write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        load_recipe(str(path))
    assert str(path) in str(caught.value)


def test_an_unknown_recipe_lists_the_known():
    with pytest.raises(ValueError, match=r"Packaged recipes: .*cifar10-nano, .*digits-demo"):
        load_recipe("nothing-like-this")


@dataclasses.dataclass(frozen=True)
class Inner:
    value: float


@dataclasses.dataclass(frozen=True)
class Outer:
    items: tuple[Inner, ...]
    pair: tuple[int, str] | None = None


def test_records_go_through_json_and_back():
    record = Outer((Inner(0.5), Inner(1.0)), (3, "x"))
    assert records.from_json(Outer, records.to_json(record)) == record


def test_nan_does_not_reach_a_file():
    with pytest.raises(ValueError, match="not JSON compliant"):
        records.to_json(Outer((Inner(float("nan")),)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "Not valid JSON"),
        ('{"items": 3}', "`items` must be a list"),
        ('{"items": [{"value": "x"}]}', r"`items\[0\].value` must be a number"),
        ('{"items": [], "pair": [1]}', "of another length"),
    ],
)
def test_a_damaged_record_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        records.from_json(Outer, text)
