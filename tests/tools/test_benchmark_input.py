"""The figures of the input benchmark are of what they say they are."""

import sys
import time

import numpy as np
import pytest

from bitat_tf._keras import tf

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")


@pytest.fixture(scope="module")
def tool(load_tool):
    return load_tool("benchmark_input")


def test_a_rate_counts_images_from_the_second_batch_on(tool):
    batches = tf.data.Dataset.from_tensor_slices(np.zeros((4, 10, 2), np.float32))

    def wait(batch):
        time.sleep(0.05)
        return batch

    slow = batches.map(lambda batch: (tf.numpy_function(wait, [batch], tf.float32), 0))
    measured = tool.rate(slow, seconds=60)
    # 10 images in 0.05 s, and what the machine adds.
    assert 20 < measured <= 201


def test_memory_is_of_this_process_and_in_mebibytes(tool):
    before = tool.resident_mib()
    held = np.ones(2**26, np.uint8)
    assert tool.resident_mib() - before == pytest.approx(64, abs=16)
    assert held.nbytes == 2**26


def test_an_epoch_of_large_images_is_read_whole(tool, tmp_path):
    memory = tool.epoch_memory(tmp_path, 130)
    assert memory["images"] == 128  # one of 130 is for validation, and batches are of 64
    assert memory["most MiB"] >= max(memory["first MiB"], memory["last MiB"]) > 0
    assert len(list((tmp_path / "train").glob("*/*.jpg"))) == 130


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_page_has_a_row_for_every_choice_and_training_never_waits(tool, tmp_path):
    assert tool.main(["--out", str(tmp_path), "--large", "640", "--seconds", "3"]) == 0
    page = (tmp_path / "input-pipeline.md").read_text(encoding="utf-8")
    rows = {
        cells[1]: cells[2:-1]
        for line in page.splitlines()
        if (cells := [cell.strip() for cell in line.split("|")])[0] == "" and len(cells) > 3
    }
    for name in tool.VARIANTS:
        assert float(rows[name][0].replace(",", "")) > 0
    assert float(rows["crop and flip (cifar10-nano)"][1]) >= 3
    assert "RandomCropAndResize" in rows
