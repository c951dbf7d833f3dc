"""Systems of linear equations between vectors, added one by one and refused on contradiction."""

from collections.abc import Hashable, Mapping
from typing import Generic, TypeVar

import numpy as np

V = TypeVar("V", bound=Hashable)

# Coefficients are small integers; the sides are sums of a few float64 constants of order 1.
_TOLERANCE = 1e-9


class LinearSystem(Generic[V]):
    """Equations sum_i coefficient_i * x_i = side, solved for one unknown each.

    Every unknown and side is a vector; the vectors within one equation have the same length.
    Rows are kept in Gauss-Jordan form: an unknown that a row is solved for stands in no other
    row, so a new equation is either independent, a repetition or a contradiction, and it shows
    at once which.
    """

    def __init__(self) -> None:
        self._rows: dict[V, tuple[dict[V, float], np.ndarray]] = {}

    def copy(self) -> "LinearSystem[V]":
        """A system with the same equations."""
        other: LinearSystem[V] = LinearSystem()
        other._rows = dict(self._rows)
        return other

    def add(self, coefficients: Mapping[V, float], side: np.ndarray, last: frozenset[V]) -> bool:
        """Take an equation, if it does not contradict those that are there.

        Args:
            coefficients: unknown -> factor.
            side: the right-hand side.
            last: unknowns to solve for only where there are no others.

        Returns:
            Whether it holds now.
        """
        row, side = self._reduced(coefficients, side)
        if not row:
            return bool(np.all(np.abs(side) <= _TOLERANCE))
        pivot = next((unknown for unknown in row if unknown not in last), next(iter(row)))
        factor = row.pop(pivot)
        rest, side = {unknown: value / factor for unknown, value in row.items()}, side / factor
        for unknown, (other, value) in self._rows.items():
            if pivot in other:
                share = other[pivot]
                merged = {key: number for key, number in other.items() if key != pivot}
                for key, number in rest.items():
                    merged[key] = merged.get(key, 0.0) - share * number
                merged = {key: number for key, number in merged.items() if number}
                self._rows[unknown] = merged, value - share * side
        self._rows[pivot] = rest, side
        return True

    def solution(self) -> dict[V, np.ndarray]:
        """The unknowns that equations were solved for, where all others are 0."""
        return {unknown: side for unknown, (_, side) in self._rows.items()}

    def _reduced(
        self, coefficients: Mapping[V, float], side: np.ndarray
    ) -> tuple[dict[V, float], np.ndarray]:
        row: dict[V, float] = {}
        for unknown, factor in coefficients.items():
            terms, value = self._rows.get(unknown, ({unknown: -1.0}, 0.0))
            side = side - factor * value
            for key, number in terms.items():
                row[key] = row.get(key, 0.0) - factor * number
        return {key: number for key, number in row.items() if number}, side
