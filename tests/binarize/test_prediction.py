"""What the report predicts is what the converter makes: every operator with weights, and the size.

Small inputs keep it quick; the big networks are slow all the same.
"""

from collections import Counter

import pytest
from networks import examples, shifted, trained

import bitat_tf as bitat
from bitat_tf import convert
from bitat_tf._keras import keras

SIZE_TOLERANCE = 0.1

application = keras.applications
IMAGE = {"input_shape": (32, 32, 3)}
FRESH = {**IMAGE, "weights": None, "classes": 10}


def keras_cv(name, **arguments):
    # Not a preset, which would be downloaded: the class itself.
    import keras_cv

    return getattr(keras_cv.models, name)(include_rescaling=True, **IMAGE, **arguments)


def keras_cv_resnet():
    return keras_cv(
        "ResNetV2Backbone",
        stackwise_filters=[64, 128],
        stackwise_blocks=[2, 2],  # with a single one KerasCV gives two layers one name
        stackwise_strides=[1, 2],
        stackwise_dilations=[1, 1],
        block_type="block",
    )


def keras_cv_mobilenet():
    return keras_cv(
        "MobileNetV3Backbone",
        stackwise_expansion=[1, 4],
        stackwise_filters=[16, 24],
        stackwise_kernel_size=[3, 5],
        stackwise_stride=[2, 2],
        stackwise_se_ratio=[0.25, 0.25],
        stackwise_activation=["relu", "hard_swish"],
    )


MODELS = {
    "mobilenet": (lambda: application.MobileNet(alpha=0.25, **FRESH), 13),
    "mobilenet_v2": (lambda: application.MobileNetV2(alpha=0.35, **FRESH), 34),
    "keras_cv_resnet": (keras_cv_resnet, 13),
    "keras_cv_mobilenet": (keras_cv_mobilenet, 3),
    "resnet50": (lambda: application.ResNet50(**FRESH), 52),
    "efficientnet_b0": (lambda: application.EfficientNetB0(**FRESH), 32),
    "densenet121": (lambda: application.DenseNet121(**FRESH), 119),
}
SLOW = {"resnet50", "efficientnet_b0", "densenet121"}


def check_prediction(model):
    student, report = bitat.binarize(model)
    flatbuffer = convert.export(shifted(student))
    intended = convert.binary_kernels(convert.strip(student))
    audit = convert.audit(flatbuffer, intended)
    assert audit.missing == ()
    assert set(intended) == set(report.binary_layers)
    # The fold writes some average pools as depthwise convolutions; the audit knows them.
    kernels = [op for op in audit.ops if op.kernel_shape and not op.pooling]
    found = Counter((op.type, op.kernel_shape, op.macs) for op in kernels)
    predicted = Counter((op.type, op.kernel_shape, op.macs) for op in report.operators)
    assert found == predicted
    assert (audit.binary_macs, audit.float_macs) == (report.binary_macs, report.float_macs)
    assert report.predicted_size_bytes == pytest.approx(len(flatbuffer), rel=SIZE_TOLERANCE)
    return student, report, flatbuffer


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in MODELS]
)
def test_public_models(name):
    build, binary = MODELS[name]
    _, report, _ = check_prediction(trained(build()))
    assert len(report.binary_layers) == binary
    for layer in report.layers:
        # no float convolution without a word
        assert layer.binary or not layer.operators or layer.reason
    assert report.suggestions


def test_hand_written_models(network):
    student, _, flatbuffer = check_prediction(network)
    if len(network.inputs) == 1:
        parity = convert.check_parity(student, flatbuffer, examples(network, count=32))
        assert parity.error_median < 1e-3
