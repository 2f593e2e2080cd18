"""Federated training over a radio link: data, learners, links, schemes, engine, comparison.

NumPy alone for softmax regression and MLPs; every random number comes from a named stream.
"""

from rralloc.fl import compress, partition, trajectories
from rralloc.fl.air_link import AirLink
from rralloc.fl.cnn import CNN
from rralloc.fl.compare import TrainingComparison, compare, tune
from rralloc.fl.data import Dataset, load_digits
from rralloc.fl.divergence import Divergence
from rralloc.fl.engine import train
from rralloc.fl.history import History
from rralloc.fl.images import load_cifar10, load_fashion_mnist, load_idx, load_mnist5k
from rralloc.fl.learners import MLP, MLPRegression, SoftmaxRegression
from rralloc.fl.link import Link
from rralloc.fl.mobile_link import MobileLink
from rralloc.fl.observers import Exchange, Log
from rralloc.fl.scheduling import TopGradient
from rralloc.fl.schemes import (
    DGC,
    AnalogCompressed,
    Compressed,
    DigitalDSGD,
    DigitalPacket,
    ErrorFree,
    OverTheAir,
    SharedMask,
    SignModulus,
    SparseUpload,
    communication_gain,
)
from rralloc.fl.statistics import Interval, mean_interval, paired_difference
from rralloc.fl.streams import Streams
from rralloc.fl.task import Task
from rralloc.fl.trajectories import Trajectories, load_vessels
from rralloc.fl.updates import Updates

__all__ = [
    "CNN",
    "DGC",
    "MLP",
    "AirLink",
    "AnalogCompressed",
    "Compressed",
    "Dataset",
    "DigitalDSGD",
    "DigitalPacket",
    "Divergence",
    "ErrorFree",
    "Exchange",
    "History",
    "Interval",
    "Link",
    "Log",
    "MLPRegression",
    "MobileLink",
    "OverTheAir",
    "SharedMask",
    "SignModulus",
    "SoftmaxRegression",
    "SparseUpload",
    "Streams",
    "Task",
    "TopGradient",
    "TrainingComparison",
    "Trajectories",
    "Updates",
    "communication_gain",
    "compare",
    "compress",
    "load_cifar10",
    "load_digits",
    "load_fashion_mnist",
    "load_idx",
    "load_mnist5k",
    "load_vessels",
    "mean_interval",
    "paired_difference",
    "partition",
    "train",
    "trajectories",
    "tune",
]
