"""Three ways to refresh V after the correlation has moved, as ratios to one another in one run.

    python tools/benchmark_refresh.py [--sizes 27 108 ...] [--repeats 3] [--out docs/results]

A layer's inputs are signs of smooth patches whose statistics drift, as a student's do in
training. V belongs to the old C; the new one is 0.9 C plus 0.1 of a batch's. Compared:

- *eigh*: an eigendecomposition from nothing (`linalg.basis`);
- *qr*: orthogonal iteration, V <- qr(C V), started from the old V;
- *cayley*: V <- V (I - A/2)^-1 (I + A/2) with A skew, the angles that first-order
  perturbation theory gives for G = V^T C V (Jacobi's, of all pairs at once).

Each of the last two once and four times. Of each, interleaved: time over eigh's (median of
the pairs), off-diagonal energy of V^T C V over what it was before the refresh, and
max |V^T V - I| after five refreshes in float32, the precision the layers hold V in. The table goes
to OUT/refresh.md.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from command_line import shown_command

from bitat_tf import linalg, machine
from bitat_tf.files import write_text
from bitat_tf.report.tables import table

Refresh = Callable[[Any, Any], Any]

NAME = "refresh.md"

TEXT = """# How to refresh V

Written by

```
{command}
```

After the correlation of a layer's inputs has moved, V is found anew: from nothing (`eigh`), by
orthogonal iteration from the old V (`qr`), or by a Cayley rotation of it (`cayley`), the last two
once and four times over. Time is a ratio to `eigh` in the same round, interleaved; "energy left" is
the off-diagonal energy of V^T C V over what it was before. Synthetic inputs (signs of smooth
patches that drift), on {machine}.

{table}

`eigh` is in the package (`linalg.basis`): one iteration of the others costs about as much at the
sizes that take time, and leaves a fifth and more of the energy; enough iterations cost several
times as much. All three keep V orthonormal.
"""

MOMENTUM = 0.9

# Positions per input: as in the middle of the nano network with batches of 128.
POSITIONS_PER_INPUT = 8

REFRESHES = 5

# A rotation of all pairs at once overshoots: the angles together stay below one radian.
LARGEST_ROTATION = 1.0


def eigh(correlation: Any, vectors: Any) -> Any:
    """From nothing."""
    return linalg.basis(correlation[None])[0][0]


def orthogonal_iteration(correlation: Any, vectors: Any, times: int = 1) -> Any:
    """Warm-started from the old V."""
    for _ in range(times):
        vectors, _ = np.linalg.qr(correlation @ vectors)
    return vectors


def cayley(correlation: Any, vectors: Any, times: int = 1) -> Any:
    """Rotated by a Cayley transform, which keeps V orthonormal."""
    identity = np.eye(len(vectors))
    for _ in range(times):
        rotated = vectors.T @ correlation @ vectors
        gaps = np.diag(rotated)[None, :] - np.diag(rotated)[:, None]
        flat = gaps == 0
        angles = np.where(flat, 0.0, 0.5 * np.arctan(2.0 * rotated / np.where(flat, 1.0, gaps)))
        angles *= min(1.0, LARGEST_ROTATION / max(np.linalg.norm(angles), np.finfo(float).tiny))
        vectors = vectors @ np.linalg.solve(identity - 0.5 * angles, identity + 0.5 * angles)
    return vectors


CANDIDATES: dict[str, Refresh] = {
    "eigh": eigh,
    "qr": orthogonal_iteration,
    "qr x4": lambda c, v: orthogonal_iteration(c, v, 4),
    "cayley": cayley,
    "cayley x4": lambda c, v: cayley(c, v, 4),
}


class Drift:
    """The correlation of a layer's inputs, tracked while they drift."""

    def __init__(self, size: int, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.size = size
        # Neighbouring inputs resemble each other, as those of a patch do.
        distance = np.abs(np.subtract.outer(np.arange(size), np.arange(size)))
        self.mixing = np.linalg.cholesky(np.exp(-distance / 8.0) + 1e-6 * np.eye(size))
        self.correlation = self.batch()

    def batch(self) -> Any:
        """C of one batch."""
        positions = POSITIONS_PER_INPUT * self.size
        smooth = self.rng.normal(size=(positions, self.size)) @ self.mixing.T
        return linalg.batch_correlation(np.where(smooth < 0, -1.0, 1.0), 1)[0]

    def move(self) -> Any:
        """Let the inputs drift, and track C."""
        step = self.rng.normal(size=self.mixing.shape) / np.sqrt(self.size)
        self.mixing = self.mixing + 0.1 * step
        self.correlation = linalg.moving_average(self.correlation, self.batch(), MOMENTUM)
        return self.correlation


def energy(correlation: Any, vectors: Any) -> float:
    """Sum of the squared off-diagonal entries of V^T C V."""
    rotated = vectors.T @ correlation @ vectors
    return float(np.sum((rotated - np.diag(np.diag(rotated))) ** 2))


def orthonormality(vectors: Any) -> float:
    """max |V^T V - I|."""
    wide = vectors.astype(np.float64)
    return float(np.abs(wide.T @ wide - np.eye(len(wide))).max())


def compare(size: int, repeats: int) -> list[dict[str, Any]]:
    """All candidates at one size."""
    drift = Drift(size)
    old = linalg.basis(drift.correlation[None])[0][0]
    new = drift.move()
    before = energy(new, old)
    times: dict[str, list[float]] = {name: [] for name in CANDIDATES}
    left = {}
    for _ in range(repeats):
        for name, refresh in CANDIDATES.items():
            started = time.perf_counter()
            vectors = refresh(new, old)
            times[name].append(time.perf_counter() - started)
            left[name] = energy(new, vectors) / before
    worst = dict.fromkeys(CANDIDATES, 0.0)
    held = {name: old.astype(np.float32) for name in CANDIDATES}
    for _ in range(REFRESHES):
        moved = drift.move()
        for name, refresh in CANDIDATES.items():
            held[name] = refresh(moved, held[name].astype(np.float64)).astype(np.float32)
            worst[name] = max(worst[name], orthonormality(held[name]))
    return [
        {
            "inputs": size,
            "refresh": name,
            "median_ms": 1000 * statistics.median(times[name]),
            "time_over_eigh": statistics.median(
                t / e for t, e in zip(times[name], times["eigh"], strict=True)
            ),
            "energy_left": left[name],
            "orthonormality": worst[name],
        }
        for name in CANDIDATES
    ]


def page(rows: Sequence[dict[str, Any]], command: str) -> str:
    """The table as Markdown."""
    header = ("K", "refresh", "ms", "time / eigh", "energy left", "max abs V'V - I")
    cells = [
        (
            str(row["inputs"]),
            row["refresh"],
            f"{row['median_ms']:.1f}",
            f"{row['time_over_eigh']:.2f}",
            f"{row['energy_left']:.1e}",
            f"{row['orthonormality']:.0e}",
        )
        for row in rows
    ]
    return TEXT.format(command=command, machine=machine.describe(), table=table(header, cells))


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(description="Ways to refresh V, compared.")
    parser.add_argument("--sizes", type=int, nargs="+", default=[27, 108, 432, 864, 1152])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    given = sys.argv[1:] if argv is None else list(argv)
    arguments = parser.parse_args(given)
    rows = [row for size in arguments.sizes for row in compare(size, arguments.repeats)]
    text = page(rows, shown_command("benchmark_refresh.py", given, None))
    write_text(arguments.out / NAME, text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
