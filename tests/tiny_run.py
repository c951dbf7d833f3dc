"""A `bitat train` of seconds, for tests of what happens around a training."""

SETTINGS = (
    "model.arguments.stem_channels=8",
    "model.arguments.blocks=[[2, 2]]",
    "teacher.epochs=1",
    "calibration.batches=2",
    "student.steps=12",
    "student.batchnorm_batches=2",
)


def command(out, *more, settings=()):
    """Arguments of `bitat_tf.cli.main`: the run directory, more options, more settings."""
    given = [part for setting in (*SETTINGS, *settings) for part in ("--set", setting)]
    return ["train", "digits-demo", *given, "--out", str(out), *more]
