"""How much channel a scheme needs for one round, against one that sends everything in turn."""

from __future__ import annotations

from rralloc.errors import InvalidProblem


def communication_gain(clients: int, weights: int, uses: int) -> float:
    """K d/uses: uses of K ``clients`` that send d = ``weights`` reals in turn, over ``uses``.

        over the air, uncompressed     uses = d:  K
        compressed over the air        uses = s:  K d/s
        shared mask                    uses = s:  K d/s
        digital DSGD                   uses = s:  K d/s, if its rate lets anything through

    The cost of a compressed scheme is s, not the k entries that a device keeps: "1 % of the
    entries, so a gain of 100" is wrong, since recovery needs s >= 5 |union of the supports| or so,
    which bounds the gain by K d/(5 |union|). It counts channel uses and says nothing of accuracy.
    Source: the overhead ratio of survey figures, spec ota.md §5.

    Choose this when schemes are compared by channel uses; for time use seconds of ``History``.
    """
    if clients < 1 or weights < 1 or uses < 1:
        raise InvalidProblem(
            f"clients = {clients}, weights = {weights}, uses = {uses}: give numbers >= 1"
        )
    return clients * weights / uses
