"""Each model that cannot be binarized ends in one clear message with the remedy."""

import pytest
from networks import vgg

import bitat_tf as bitat
from bitat_tf._keras import keras

layers = keras.layers


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.conv = layers.Conv2D(4, 3)

    def call(self, inputs):
        return self.conv(inputs)


class Unfinished(layers.Layer):
    """Has an argument that its configuration does not tell."""

    def __init__(self, factor, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, inputs):
        return inputs + 1.0


def built(model):
    model.build((None, 8, 8, 3))
    return model


def simple(**arguments):
    image = keras.Input((8, 8, 3))
    return keras.Model(image, layers.Conv2D(4, 3, **arguments)(image))


def half():
    policy = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        return simple()
    finally:
        keras.mixed_precision.set_global_policy(policy)


def uncloneable():
    image = keras.Input((8, 8, 3))
    return keras.Model(image, layers.Conv2D(4, 3)(Unfinished(object(), name="odd")(image)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: "model.keras", "must be a Keras 2 model.*load_model"),
        (lambda: built(Subclassed()), r"subclassed model Subclassed.*keras.Model\(inputs, outp"),
        (lambda: keras.Sequential([layers.Conv2D(4, 3)]), "no weights yet.*keras.Input"),
        (
            lambda: keras.Sequential([keras.Input((8, 8, 3)), layers.Flatten()]),
            "has no weights: there is nothing to binarize",
        ),
        (lambda: simple(data_format="channels_first"), "channels_first.*channels_last"),
        (half, "computes in float16.*policy float32"),
        (lambda: bitat.binarize(vgg())[0], "1-bit layers already.*Give the float network"),
        (uncloneable, "'odd'.*cannot be made again.*get_config"),
    ],
)
def test_one_line_with_the_remedy(make, message):
    model = make()
    with pytest.raises(ValueError, match=message) as error:
        bitat.binarize(model)
    assert "\n" not in str(error.value)


def test_a_misspelt_layer_in_keep_float_is_named():
    with pytest.raises(ValueError, match=r"`keep_float` must name.*'con9'.*conv0"):
        bitat.binarize(vgg(), keep_float=["con9"])
