"""Whether training ever waits for its images: pipeline against training step, and its memory.

    python tools/benchmark_input.py [--data-dir DIR] [--out docs/results] [--large 200000]

- Images per second of the training pipeline, alone, for each augmentation that a recipe can
  choose; and of the nano network's training step on a batch that is there already. On CIFAR-10
  where DIR holds it, else on random images of its shape.
- Resident memory while one epoch of 224-pixel images is read, from files whose decoded size is
  larger than this machine's memory (hard links to a few hundred JPEGs: what is decoded is
  different each time, what lies on the disk is not).
- KerasCV's own layers for crop and flip, MixUp, CutMix and RandAugment beside those used here.

The machine should have nothing else to do. Linux only, because of the memory. Takes about ten
minutes on two cores.
"""

import argparse
import dataclasses
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from command_line import shown_command

from bitat_tf import machine, models, train
from bitat_tf._keras import tf
from bitat_tf.config import DataConfig
from bitat_tf.data import ImageData, load
from bitat_tf.data.augment import import_keras_cv
from bitat_tf.data.mixing import smooth
from bitat_tf.files import write_text
from bitat_tf.train.distill import Distilled, optimizer_step

NAME = "input-pipeline"
BATCH = 128
LARGE_BATCH = 64
# Settings of `data` beside those of cifar10-nano, which are crop and flip.
VARIANTS: dict[str, dict[str, Any]] = {
    "none": {"augment": False},
    "crop and flip (cifar10-nano)": {},
    "... label smoothing": {"label_smoothing": 0.1},
    "... MixUp": {"mixup": 0.2},
    "... CutMix": {"cutmix": 1.0},
    "... RandAugment, 2 layers": {"rand_augment": 0.5},
    "... all of these": {
        "label_smoothing": 0.1,
        "mixup": 0.2,
        "cutmix": 1.0,
        "rand_augment": 0.5,
    },
}


def rate(dataset: Any, seconds: float, batches: int = 10**9) -> float:
    """Images per second of a data set of batches, from its second batch on."""
    iterator = iter(dataset)
    next(iterator)
    images, started = 0, time.perf_counter()
    for _ in range(batches):
        batch = next(iterator, None)
        if batch is None:
            break
        images += len(batch[0])
        if time.perf_counter() - started > seconds:
            break
    return images / (time.perf_counter() - started)


def step_rate(images: Any, labels: Any, seconds: float) -> float:
    """Images per second of the nano network's training step, its batch being there."""
    student = models.build("mobilenet_v1_react_nano", classes=10)
    model = Distilled(student)
    optimizer = train.cosine_adam(1e-3, 10**6)

    @tf.function
    def step() -> Any:
        return optimizer_step(model, optimizer, images, labels)[0]

    for _ in range(3):
        step()
    steps, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        float(step())
        steps += 1
    return steps * len(images) / (time.perf_counter() - started)


def random_images(folder: Path, count: int, side: int, links: int = 1) -> Path:
    """An image folder of random smooth JPEGs, each under so many names; two classes."""
    rng = np.random.default_rng(0)
    for split, number in (("train", count), ("test", 4)):
        for index in range(number):
            place = folder / split / f"class{index % 2}"
            place.mkdir(parents=True, exist_ok=True)
            coarse = rng.uniform(0, 255, (side // 8 + 1, side // 8 + 1, 3))
            pixels = tf.cast(tf.image.resize(coarse, [side + index % 32, side]), tf.uint8)
            first = place / f"{index}.jpg"
            first.write_bytes(tf.io.encode_jpeg(pixels, quality=85).numpy())
            for link in range(1, links if split == "train" else 1):
                os.link(first, place / f"{index}-{link}.jpg")
    return folder


def small_set(data_dir: str | None, folder: Path) -> DataConfig:
    """CIFAR-10, or random images of its size."""
    if data_dir is not None:
        return DataConfig(dataset="cifar10", data_dir=data_dir, validation_fraction=0.05)
    import tensorflow_datasets as tfds

    rng = np.random.default_rng(0)
    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(32, 32, 3), encoding_format="png"),
            "label": tfds.features.ClassLabel(num_classes=10),
        }
    )

    def examples(size: int) -> Any:
        pixels = rng.integers(0, 256, (size, 32, 32, 3), dtype=np.uint8)
        return tf.data.Dataset.from_tensor_slices({"image": pixels, "label": np.arange(size) % 10})

    with warnings.catch_warnings():
        # TFDS's writer, which the package does not use, warns of its dependencies' age.
        warnings.simplefilter("ignore")
        tfds.dataset_builders.store_as_tfds_dataset(
            name="random32",
            version="1.0.0",
            features=features,
            split_datasets={"train": examples(10_000), "test": examples(100)},
            data_dir=str(folder),
            disable_shuffling=False,
        )
    return DataConfig(dataset=str(folder / "random32" / "1.0.0"), validation_fraction=0.05)


def keras_cv_rates(data: ImageData, seconds: float) -> dict[str, float]:
    """Images per second of KerasCV's own layers behind the same pipeline without augmentation."""
    layers = import_keras_cv().layers
    side = data.image_shape[0]
    pixels = (0.0, 255.0)
    found = {
        "RandomCropAndResize": layers.RandomCropAndResize(
            (side, side), crop_area_factor=(0.6, 1.0), aspect_ratio_factor=(0.75, 1.33), seed=1
        ),
        "RandomFlip": layers.RandomFlip("horizontal", rate=0.5, seed=1),
        "MixUp": layers.MixUp(0.2, seed=1),
        "CutMix": layers.CutMix(1.0, seed=1),
        "RandAugment, 2 layers": layers.RandAugment(pixels, 2, 0.5, seed=1),
    }

    def applied(layer: Any) -> Callable[[Any, Any], Any]:
        def change(images: Any, labels: Any) -> Any:
            inputs = {"images": images, "labels": smooth(labels, data.classes, 0.0)}
            outputs = layer(inputs, training=True)
            return outputs["images"], outputs["labels"]

        return change

    plain = dataclasses.replace(data, config=dataclasses.replace(data.config, augment=False))
    batches = plain.train(BATCH).map(
        lambda images, labels: (tf.clip_by_value(images * 64.0 + 128.0, *pixels), labels)
    )
    return {
        name: rate(batches.map(applied(layer), tf.data.AUTOTUNE).prefetch(2), seconds)
        for name, layer in found.items()
    }


def resident_mib() -> float:
    """What this process holds in memory."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def memory_gib() -> float:
    """What this machine has."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30


def epoch_memory(folder: Path, count: int) -> dict[str, float]:
    """One epoch of `count` 224-pixel images: images per second, and memory over it."""
    distinct = min(400, count)
    random_images(folder, distinct, 224, links=max(1, count // distinct))
    config = DataConfig(
        dataset=str(folder),
        image_size=224,
        crop="resized",
        statistics_images=500,
        validation_fraction=max(1e-3, 1 / count),
    )
    data = load(config, seed=0)
    steps = data.train_images // LARGE_BATCH
    held: list[float] = []
    started = time.perf_counter()
    for step, _ in enumerate(data.train(LARGE_BATCH).take(steps)):
        # The first batches fill buffers.
        if step >= min(20, steps // 10):
            held.append(resident_mib())
    seconds = time.perf_counter() - started
    return {
        "images": float(steps * LARGE_BATCH),
        "decoded GiB": steps * LARGE_BATCH * 224 * 224 * 3 / 2**30,
        "images per second": steps * LARGE_BATCH / seconds,
        "first MiB": held[0],
        "most MiB": max(held),
        "last MiB": held[-1],
    }


def markdown(
    rates: dict[str, float],
    step: float,
    keras_cv: dict[str, float],
    memory: dict[str, float],
    command: str,
    source: str,
) -> str:
    """The page."""
    rows = [f"| {name} | {value:,.0f} | {value / step:.1f} |" for name, value in rates.items()]
    theirs = [f"| {name} | {value:,.0f} |" for name, value in keras_cv.items()]
    growth = memory["most MiB"] - memory["first MiB"]
    return "\n".join(
        [
            "# The input pipeline",
            "",
            "```",
            command,
            "```",
            "",
            f"Ran on {machine.describe()}. {source}, batches of {BATCH}. The nano network's "
            f"training step takes {step:,.0f} images per second.",
            "",
            "| augmentation | images per second | over the training step |",
            "| --- | ---: | ---: |",
            *rows,
            "",
            "KerasCV's own layers, one at a time, behind the pipeline without augmentation:",
            "",
            "| layer | images per second |",
            "| --- | ---: |",
            *theirs,
            "",
            "## Memory over an epoch of 224-pixel images",
            "",
            f"{memory['images']:,.0f} JPEGs, {memory['decoded GiB']:.1f} GiB decoded, on a machine "
            f"of {memory_gib():.1f} GiB; random resized crops and flips, batches of "
            f"{LARGE_BATCH}, {memory['images per second']:,.0f} images per second. Resident memory "
            f"{memory['first MiB']:,.0f} MiB once the buffers were filled, at most "
            f"{memory['most MiB']:,.0f} MiB (+{growth:,.0f}), {memory['last MiB']:,.0f} MiB at the "
            "end.",
            "",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(description="Input pipeline against training step.")
    parser.add_argument("--data-dir", help="where TFDS has cifar10")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--large", type=int, default=200_000, help="224-pixel images in the epoch")
    parser.add_argument("--seconds", type=float, default=10.0, help="per measurement")
    arguments = parser.parse_args(argv)
    command = shown_command(
        "benchmark_input.py", sys.argv[1:] if argv is None else argv, data_dir=arguments.data_dir
    )
    seconds = arguments.seconds
    with tempfile.TemporaryDirectory() as scratch:
        config = small_set(arguments.data_dir, Path(scratch))
        data = load(config, seed=0)
        rates = {}
        for name, values in VARIANTS.items():
            varied = dataclasses.replace(data, config=dataclasses.replace(config, **values))
            rates[name] = rate(varied.train(BATCH), seconds)
            print(f"{name}: {rates[name]:,.0f} images/s", file=sys.stderr, flush=True)
        images, labels = next(iter(data.train(BATCH)))
        step = step_rate(images, labels, seconds)
        print(f"training step: {step:,.0f} images/s", file=sys.stderr, flush=True)
        keras_cv = keras_cv_rates(data, seconds)
        memory = epoch_memory(Path(scratch) / "large", arguments.large)
    source = f"{data.name}, {data.train_images:,} train images"
    arguments.out.mkdir(parents=True, exist_ok=True)
    page = markdown(rates, step, keras_cv, memory, command, source)
    write_text(arguments.out / f"{NAME}.md", page)
    print(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
