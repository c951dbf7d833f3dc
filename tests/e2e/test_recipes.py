"""Every recipe that cannot be carried out here is known to start, on mock data of true shapes.

TFDS's own mock makes random examples of the data set's features (JPEG files of any size for
ImageNet); only the number of images is ours. Networks, image size, classes and what is done to
the images are the recipe's; batches and steps are few.
"""

import contextlib
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from bitat_tf.cli import main
from bitat_tf.recipe_files import load_recipe, recipe_names

# Name, and splits with their numbers of images; the test split of ImageNet has no labels.
SETS = {
    "cifar10": {"train": 40, "test": 6},
    "cifar100": {"train": 140, "test": 6},
    "imagenet2012": {"train": 40, "validation": 6, "test": 6},
}
# Batches as large as shipped would take most of an hour on two cores.
FEW = (
    "data.validation_fraction=0.1",
    "teacher.epochs=1",
    "teacher.batch_size=8",
    "teacher.warmup_steps=1",
    "calibration.batches=2",
    "calibration.batch_size=8",
    "calibration.sweeps=1",
    "student.steps=2",
    "student.batch_size=4",
    "student.batchnorm_batches=1",
    "student.log_steps=1",
)
HEAVY = [name for name in recipe_names() if name != "digits-demo"]


@contextlib.contextmanager
def mock_sets(folder, sets=SETS):
    """TFDS with mock data sets, each split as long as its description says."""
    import tensorflow_datasets as tfds

    core = tfds.core.dataset_builder.FileReaderBuilder
    for name, sizes in sets.items():
        builder = tfds.builder(name, data_dir=str(folder))
        builder.data_path.mkdir(parents=True)
        splits = [
            tfds.core.SplitInfo(name=split, shard_lengths=[size], num_bytes=size * 10**5)
            for split, size in sizes.items()
        ]
        builder.info.set_splits(tfds.core.splits.SplitDict(splits))
        builder.info.write_to_directory(builder.data_path)

    with tfds.testing.mock_data(num_examples=4, data_dir=str(folder)):
        four = core._as_dataset

        def as_long_as_described(self, split, **options):
            size = self.info.splits[split].num_examples
            return four(self, split=split, **options).repeat().take(size)

        with mock.patch.object(core, "_as_dataset", as_long_as_described):
            yield


@pytest.fixture(scope="module")
def mocked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mock")
    with mock_sets(folder):
        yield folder


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("rival", [False, True], ids=["bitat", "adambnn"])
@pytest.mark.parametrize("name", HEAVY)
def test_a_recipe_starts(name, rival, mocked, tmp_path, capsys):
    settings = [*FEW, *(["student.method=adambnn"] if rival else [])]
    overrides = [part for setting in settings for part in ("--set", setting)]
    arguments = ["train", name, "--data-dir", str(mocked), "--out", str(tmp_path / "run")]
    assert main([*arguments, *overrides]) == 0, capsys.readouterr().err
    assert (tmp_path / "run" / "report.md").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("name", HEAVY)
def test_a_recipes_images_have_its_shape_and_classes(name, mocked):
    from bitat_tf.data import load

    recipe = load_recipe(name, ["data.validation_fraction=0.1", f"data.data_dir={mocked}"])
    data = load(recipe.data, seed=0)
    size = 224 if name.startswith("imagenet") else 32
    classes = {"cifar10": 10, "cifar100": 100, "imagenet2012": 1000}[recipe.data.dataset]
    assert (data.image_shape, data.classes) == ((size, size, 3), classes)
    images, _ = next(data.train(8).as_numpy_iterator())
    assert images.shape == (8, size, size, 3)
    assert np.isfinite(images).all()


PEAK = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_recipes
from bitat_tf.cli import main
folder = Path(sys.argv[2])
with test_recipes.mock_sets(folder / "mock", {"imagenet2012": {"train": 300, "validation": 6}}):
    status = main(["train", "imagenet-reactnet-a", "--data-dir", str(folder / "mock"),
                   "--out", str(folder / "run"), *sys.argv[3:]])
print(status, [line for line in open("/proc/self/status") if line.startswith("VmHWM")][0].strip())
"""


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_reactnet_a_calibrates_as_shipped_within_twelve_gibibytes(tmp_path):
    """The recipe's own calibration on its 256 images, and two steps of batch 16."""
    kept = [s for s in FEW if not s.startswith(("calibration", "student.batch_size"))]
    kept += ["teacher.batch_size=64", "student.batch_size=16"]
    overrides = [part for setting in kept for part in ("--set", setting)]
    # The peak of a process of its own, not of whatever ran before in this one.
    command = [sys.executable, "-c", PEAK, str(Path(__file__).parent), str(tmp_path), *overrides]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    status, _, peak, _ = done.stdout.splitlines()[-1].split()
    assert status == "0", done.stderr
    assert int(peak) < 12 * 2**20  # kB
