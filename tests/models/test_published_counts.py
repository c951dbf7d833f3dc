"""Parameters and operations of the published networks, and where ours differ.

A layer here has the name that it has in the network, so what we add is told apart by name.
"""

import pytest

from bitat_tf import count, models


def counts_of(name, **arguments):
    # Small transforms: they count nothing, and large ones take long to make.
    return count(models.build(name, **{"classes": 1000, "max_block": 32, **arguments}))


def parameters(counts, *, without):
    """Of all layers in whose names none of these stands."""
    return sum(
        layer.parameters
        for layer in counts.layers
        if not any(part in layer.name for part in without)
    )


def macs(counts, *, without):
    return sum(
        layer.macs for layer in counts.layers if not any(part in layer.name for part in without)
    )


def test_reactnet_a():
    # arXiv 2003.03488, table 1: 4.82 G BOPs, 0.12e8 FLOPs, 0.87e8 OPs; 29.3 M parameters
    # by the authors' code.
    counts = counts_of("mobilenet_v1_react")
    assert counts.parameters == pytest.approx(29.3e6, rel=0.002)
    assert counts.binary_macs == pytest.approx(4.82e9, rel=0.001)
    assert counts.float_macs == pytest.approx(12e6, rel=0.02)
    assert counts.ops == pytest.approx(87e6, rel=0.002)


def test_resnet_18():
    counts = counts_of("resnet18")
    # The float network's number, which Keras and torchvision give; ours has thresholds and
    # slopes besides.
    assert parameters(counts, without=["sign", "rprelu"]) == 11_689_512
    assert counts.parameters == 11_689_512 + 3_392 + 11_520
    # arXiv 1808.00278 has 1.63e8, which is 163.99 M cut off and not rounded.
    assert counts.binary_macs == 1_676_279_808
    assert counts.ops == pytest.approx(163.99e6, rel=1e-4)


def test_resnet_20():
    counts = counts_of("resnet20", classes=10)
    extra = ["sign", "rprelu", "shortcut"]
    # arXiv 1512.03385, table 6: 0.27 M, with shortcuts that have no weights
    assert parameters(counts, without=extra) == 269_722
    assert parameters(counts, without=extra[:2]) == 269_722 + 16 * 32 + 32 * 64 + 2 * (32 + 64)
    assert sum(layer.binary for layer in counts.layers) == 18
    assert counts.binary_macs + counts.float_macs == pytest.approx(40.8e6, rel=0.001)


def test_mobilenet_v2():
    counts = counts_of("mobilenet_v2")
    extra = ["sign", "prelu", "shortcut"]
    # tf_keras.applications.MobileNetV2's trainable parameters; arXiv 1801.04381, table 4, has
    # 3.4 M and 300 M. Ours adds float shortcuts where blocks change their shape, thresholds,
    # and slopes and shifts.
    assert parameters(counts, without=extra) == 3_504_872
    assert macs(counts, without=extra) == pytest.approx(300e6, rel=0.003)
    assert macs(counts, without=[]) == pytest.approx(313.9e6, rel=0.001)
    pointwise = [layer for layer in counts.layers if layer.binary]
    assert len(pointwise) == 17 + 16 + 1  # projections, expansions but for t = 1, the head


@pytest.mark.parametrize(
    ("filters", "blocks", "published", "megabytes"),
    [
        ((64, 128, 256, 512), (4, 4, 4, 4), 13_234_088, 4.17),
        ((32, 64, 256, 512), (4, 4, 4, 4), 12_655_688, 4.00),
        ((64, 128, 256, 512), (6, 8, 12, 6), 23_342_248, 5.40),
    ],
    ids=["QuickNet", "QuickNetSmall", "QuickNetLarge"],
)
def test_quicknet(filters, blocks, published, megabytes):
    # larq-zoo's own numbers; ours adds a threshold per channel in front of each convolution,
    # which can be folded away.
    counts = counts_of("quicknet", sections=tuple(zip(filters, blocks, strict=True)))
    assert parameters(counts, without=["sign"]) == published
    thresholds = sum(n * channels for n, channels in zip(blocks, filters, strict=True))
    assert counts.parameters == published + thresholds
    size = (counts.size_bytes - 4 * thresholds) / 2**20
    assert size == pytest.approx(megabytes, abs=0.005)


def test_mobilenet_v2_nano():
    counts = counts_of("mobilenet_v2_nano", classes=10)
    assert sum(layer.binary for layer in counts.layers) == 13
    assert counts.binary_macs == pytest.approx(6.8e6, rel=0.01)
    assert counts.binary_macs + counts.float_macs == pytest.approx(7.9e6, rel=0.01)
