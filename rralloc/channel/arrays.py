"""Antenna arrays: what a uniform linear array receives from a direction.

The response of N antennas half a wavelength apart to a plane wave from angle theta off broadside is

    a_n(theta) = exp(j pi n sin theta),  n = 0..N-1

and with K-factor kappa, direct power over scattered power, a channel is

    h = sqrt(kappa/(kappa+1)) e^{j phi} a(theta) + sqrt(1/(kappa+1)) CN(0, I),  phi uniform.

Source: A. Goldsmith, "Wireless Communications", Cambridge, 2005, sections 3.2 and 10.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rralloc.channel._check import require_generator, require_k_factor
from rralloc.channel.fading import rayleigh_coefficients
from rralloc.errors import InvalidProblem


def array_response(angle_rad: npt.ArrayLike, antennas: int) -> npt.NDArray[np.complex128]:
    """a(theta) ``(..., N, K)`` for angles ``(..., K)``, rad off broadside; entries of modulus 1.

    Raises InvalidProblem: no antenna, or an angle that is not finite.

    Choose this when beams are drawn over angles, or channels have a direction.
    """
    angle = np.atleast_1d(np.asarray(angle_rad, dtype=float))
    if antennas < 1 or not np.isfinite(angle).all():
        raise InvalidProblem(f"array_response: {antennas} antennas; give >= 1 and finite angles")
    turn = np.arange(antennas)[:, None] * np.sin(angle)[..., None, :]
    return np.asarray(np.exp(1j * np.pi * turn))


def rician_array(
    angle_rad: npt.ArrayLike,
    antennas: int,
    rng: np.random.Generator,
    *,
    k_factor: npt.ArrayLike,
) -> npt.NDArray[np.complex128]:
    """Channels ``(..., N, K)`` of mean power 1 an antenna from devices at angles ``(..., K)``.

    k_factor: kappa >= 0, linear, one number or one for each device; 0 is Rayleigh fading.

    Choose this when devices are seen directly: neighbours in angle then have like channels.
    """
    kappa = require_k_factor(k_factor)
    direct = array_response(angle_rad, antennas)
    size = direct.shape[:-2] + direct.shape[-1:]
    phase = np.exp(2j * np.pi * require_generator(rng).uniform(size=size))
    scattered = rayleigh_coefficients(direct.shape, rng)
    share = np.broadcast_to(kappa / (kappa + 1), phase.shape)[..., None, :]
    straight = np.sqrt(share) * phase[..., None, :] * direct
    return np.asarray(straight + np.sqrt(1 - share) * scattered)
