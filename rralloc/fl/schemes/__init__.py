"""Schemes: what is transmitted and how the server estimates the aggregate from what it received."""

from rralloc.fl.schemes.packets import DigitalPacket, ErrorFree, Received, Scheme

__all__ = ["DigitalPacket", "ErrorFree", "Received", "Scheme"]
