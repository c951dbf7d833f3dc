"""Which cores a measurement is bound to.

A phone has fast and slow cores, and its scheduler moves work between them: the same model then
takes 5 or 20 ms. Bound to the fastest cores, the figures repeat.
"""

from collections.abc import Sequence

from bitat_tf.android_results import CoreRecord


def fastest_cores(cores: Sequence[CoreRecord], threads: int) -> tuple[int, ...]:
    """Indices of the fastest cores, a whole cluster at a time, until each thread has one.

    Cores of the same highest frequency are one cluster. On 1 + 3 + 4 cores, one thread gets the
    fastest core, four threads the fastest four.

    Args:
        cores: as the kernel describes them; one without a frequency is offline, and left out.
        threads: that are to run on them.

    Returns:
        Sorted indices; empty where no frequency is known.
    """
    known = [(core.max_khz, core.index) for core in cores if core.max_khz is not None]
    chosen: list[int] = []
    for frequency in sorted({khz for khz, _ in known}, reverse=True):
        chosen += [index for khz, index in known if khz == frequency]
        if len(chosen) >= threads:
            break
    return tuple(sorted(chosen))


def mask_of(indices: Sequence[int]) -> str:
    """The hexadecimal mask that `taskset` takes; empty for no core."""
    mask = sum(1 << index for index in set(indices))
    return f"{mask:x}" if mask else ""


def check_mask(mask: str, cores: Sequence[CoreRecord]) -> str:
    """A mask that the user gave, without an 0x before it.

    Raises:
        ValueError: when it is not hexadecimal, empty, or names cores that are not there.
    """
    digits = mask.lower().removeprefix("0x")
    if not digits or not set(digits) <= set("0123456789abcdef") or not int(digits, 16):
        raise ValueError(
            f"`cpu_mask` must be a hexadecimal mask of cores, e.g. f0. Received: {mask!r}"
        )
    there = {core.index for core in cores}
    asked = {bit for bit in range(int(digits, 16).bit_length()) if int(digits, 16) >> bit & 1}
    if there and not asked <= there:
        raise ValueError(
            f"`cpu_mask` must name cores that the device has ({mask_of(sorted(there))} are all). "
            f"Received: {mask!r}"
        )
    return f"{int(digits, 16):x}"
