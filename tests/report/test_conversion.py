from bitat_tf.report import conversion_rows, render_conversion
from bitat_tf.results import AuditReport, FoldStep, OpRecord, ParityReport


def report(size_bytes, *kinds):
    shape = (1, 4, 4, 8)
    ops = [
        OpRecord(i, kind, kind, shape, "FLOAT32", (), False, 0, 0) for i, kind in enumerate(kinds)
    ]
    return AuditReport(tuple(ops), size_bytes, (1, 4, 4, 3), "FLOAT32", (1, 8), "FLOAT32")


BEFORE = report(2048, "ADD", "ADD", "PRELU", "AVERAGE_POOL_2D")
AFTER = report(1024, "ADD", "PRELU", "DEPTHWISE_CONV_2D")


def test_rows_count_operators_and_values_before_and_after():
    rows = conversion_rows(BEFORE, AFTER)
    assert rows[:2] == [("KiB", "2.0", "1.0"), ("operators", "4", "3")]
    assert rows[2] == ("ADD", "2 (256 values)", "1 (128 values)")
    assert ("AVERAGE_POOL_2D", "1 (128 values)", "none") in rows
    assert ("DEPTHWISE_CONV_2D", "none", "1 (128 values)") in rows


def test_markdown_says_what_each_rewrite_changed_and_what_was_not_checked():
    steps = (FoldStep("move_shifts", ("a_shift", "b_shift")), FoldStep("relu_first", ()))
    text = render_conversion("model.tflite", BEFORE, AFTER, steps, None)
    assert text.startswith("# model.tflite\n")
    assert "- `move_shifts`: a_shift, b_shift" in text
    assert "- `relu_first`: nothing to change" in text
    assert "Not checked" in text
    parity = ParityReport(50, 0.98, 0.97, 1e-6, 1e-6, 1e-6, 1e-6, 10.0)
    text = render_conversion("model.tflite", BEFORE, AFTER, (), parity)
    assert "98.00% of 50 images (asked for: 97.00%)" in text
    assert "Not folded." in text
