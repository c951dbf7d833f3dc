"""What a recipe's options add to the stages: tracked correlations, and release to 1 bit."""

from typing import Any

from bitat_tf.config import StudentConfig
from bitat_tf.train.loop import BeforeStep
from bitat_tf.train.release import Release, release_quantizer
from bitat_tf.train.schedule import Schedule
from bitat_tf.train.tracking import Tracking


def option_layers(config: StudentConfig) -> dict[str, str]:
    """Arguments of a backbone's builder that the options ask for, beside the method's.

    Args:
        config: whose options are looked at.

    Returns:
        Keyword arguments; empty where no option is on.
    """
    if not config.release_steps:
        return {}
    return {"kernel_quantizer": release_quantizer(config.release_order)}


def option_steps(
    student: Any, schedule: Schedule, config: StudentConfig, dataset: Any, batches: int
) -> tuple[BeforeStep, ...]:
    """What is to be asked before every step, after the stages.

    Args:
        student: built with `option_layers`.
        schedule: of its stages.
        config: which options are on.
        dataset, batches: calibration images, for `Tracking`.

    Returns:
        In the order in which they are to be asked.
    """
    asked: list[BeforeStep] = []
    if config.refresh_steps:
        asked.append(Tracking(student, dataset, config.refresh_steps, batches=batches))
    if config.release_steps:
        asked.append(Release(student, schedule, config.release_steps))
    return tuple(asked)
