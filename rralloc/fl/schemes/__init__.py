"""Schemes: what is transmitted and how the server estimates the aggregate from what it received."""

from rralloc.fl.schemes.analog_compressed import AnalogCompressed
from rralloc.fl.schemes.analog_mask import SharedMask
from rralloc.fl.schemes.compensation import Compensation
from rralloc.fl.schemes.compressed import DGC, Compressed, CompressedRun
from rralloc.fl.schemes.digital_dsgd import DigitalDSGD
from rralloc.fl.schemes.estimators import Estimator, Scaling, Statistics, Success, scaling
from rralloc.fl.schemes.over_the_air import OverTheAir
from rralloc.fl.schemes.overhead import communication_gain
from rralloc.fl.schemes.packets import (
    DigitalPacket,
    ErrorFree,
    Received,
    Running,
    Scheme,
    WithMemory,
)
from rralloc.fl.schemes.plan import HEADER_BITS, Fading, PacketPlan, Packets, plan
from rralloc.fl.schemes.reference import Reference, State
from rralloc.fl.schemes.sign_modulus import Session, SignModulus
from rralloc.fl.schemes.sparse_upload import SparseUpload

__all__ = [
    "DGC",
    "HEADER_BITS",
    "AnalogCompressed",
    "Compensation",
    "Compressed",
    "CompressedRun",
    "DigitalDSGD",
    "DigitalPacket",
    "ErrorFree",
    "Estimator",
    "Fading",
    "OverTheAir",
    "PacketPlan",
    "Packets",
    "Received",
    "Reference",
    "Running",
    "Scaling",
    "Scheme",
    "Session",
    "SharedMask",
    "SignModulus",
    "SparseUpload",
    "State",
    "Statistics",
    "Success",
    "WithMemory",
    "communication_gain",
    "plan",
    "scaling",
]
