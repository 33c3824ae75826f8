"""One measured figure beside its peer's."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """
    What was measured, for this package and for a peer, in one run.

    :param what: the thing measured.
    :param unit: of both numbers.
    :param ours: this package's.
    :param peer: the peer's name.
    :param theirs: the peer's number.
    :param aim: what it is meant to be, in words.
    :param holds: whether it is.
    """

    what: str
    unit: str
    ours: float
    peer: str
    theirs: float
    aim: str
    holds: bool

    @property
    def ratio(self) -> float:
        """Ours over theirs."""
        return self.ours / self.theirs
