"""Training: the closed-form calibration, the methods, and the two loops that obey them."""

from bitat_tf.train.annealing import Annealing
from bitat_tf.train.batchnorm import recompute_batchnorm
from bitat_tf.train.calibrate import calibrate
from bitat_tf.train.callbacks import BitatCallback
from bitat_tf.train.checkpoint import Checkpoint
from bitat_tf.train.display import Display, layer_display
from bitat_tf.train.distill import Distilled
from bitat_tf.train.evaluate import accuracy
from bitat_tf.train.events import Events
from bitat_tf.train.flips import Flips
from bitat_tf.train.keeper import Keeper, Remembering, damage, kept
from bitat_tf.train.loop import BeforeStep, InTurn, cosine_adam, train
from bitat_tf.train.methods import METHODS, Method, method
from bitat_tf.train.monitor import Monitor, TrainingError
from bitat_tf.train.options import option_layers, option_steps
from bitat_tf.train.release import Release
from bitat_tf.train.schedule import Schedule, Stage
from bitat_tf.train.stages import Stages
from bitat_tf.train.tracking import Tracking
from bitat_tf.train.transfer import copy_float_weights

__all__ = [
    "METHODS",
    "Annealing",
    "BeforeStep",
    "BitatCallback",
    "Checkpoint",
    "Display",
    "Distilled",
    "Events",
    "Flips",
    "InTurn",
    "Keeper",
    "Method",
    "Monitor",
    "Release",
    "Remembering",
    "Schedule",
    "Stage",
    "Stages",
    "Tracking",
    "TrainingError",
    "accuracy",
    "calibrate",
    "copy_float_weights",
    "cosine_adam",
    "damage",
    "kept",
    "layer_display",
    "method",
    "option_layers",
    "option_steps",
    "recompute_batchnorm",
    "train",
]
