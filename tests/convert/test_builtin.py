"""The int8 twin is int8 throughout and computes nearly what the float one does."""

import numpy as np
import pytest

from bitat_tf.convert import audit, export_float, export_int8
from bitat_tf.runtime import Runner


@pytest.mark.parametrize("io", ["float32", "int8"])
def test_an_int8_twin_computes_in_int8(tiny_teacher, images, io):
    calibration, test = images[:64], images[64:128]
    flatbuffer = export_int8(tiny_teacher, calibration, io=io)
    report = audit(flatbuffer)
    assert (report.input_type, report.output_type) == (io.upper(), io.upper())
    inner = {op.output_type for op in report.ops if op.type not in ("QUANTIZE", "DEQUANTIZE")}
    assert inner == {"INT8"}
    expected = Runner(export_float(tiny_teacher)).predict(test)
    found = Runner(flatbuffer).predict(test)
    scale = np.abs(expected).max()
    assert np.isfinite(found).all()
    # 8 bits a tensor through a dozen layers; a wrong range would be off by far more.
    assert np.median(np.abs(found - expected)) < 0.05 * scale
    assert len(flatbuffer) < len(export_float(tiny_teacher))


def test_the_same_images_give_the_same_bytes(tiny_teacher, images):
    first, again = (export_int8(tiny_teacher, images[:8]) for _ in range(2))
    assert first == again


def test_what_cannot_be_int8_is_refused(tiny_teacher, tiny_student, images):
    with pytest.raises(ValueError, match="has binary convolutions"):
        export_int8(tiny_student, images)
    with pytest.raises(ValueError, match="`calibration_images` must have shape"):
        export_int8(tiny_teacher, images[:, :4])
    with pytest.raises(ValueError, match="`calibration_images` must be finite"):
        export_int8(tiny_teacher, np.full_like(images, np.nan))
    with pytest.raises(ValueError, match="`io` must be"):
        export_int8(tiny_teacher, images, io="int16")
