"""Federated training over a radio link: data, learners, links, schemes, engine, comparison.

NumPy alone for softmax regression and MLPs; every random number comes from a named stream.
"""

from rralloc.fl import partition
from rralloc.fl.compare import TrainingComparison, compare, tune
from rralloc.fl.data import Dataset, load_digits
from rralloc.fl.engine import train
from rralloc.fl.history import History
from rralloc.fl.learners import MLP, SoftmaxRegression
from rralloc.fl.link import Link
from rralloc.fl.scheduling import TopGradient
from rralloc.fl.schemes import DigitalPacket, ErrorFree, SignModulus
from rralloc.fl.statistics import Interval, mean_interval, paired_difference
from rralloc.fl.streams import Streams
from rralloc.fl.task import Task

__all__ = [
    "MLP",
    "Dataset",
    "DigitalPacket",
    "ErrorFree",
    "History",
    "Interval",
    "Link",
    "SignModulus",
    "SoftmaxRegression",
    "Streams",
    "Task",
    "TopGradient",
    "TrainingComparison",
    "compare",
    "load_digits",
    "mean_interval",
    "paired_difference",
    "partition",
    "train",
    "tune",
]
