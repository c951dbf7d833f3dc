"""The mask of the fast cores."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitat_tf.android_results import CoreRecord
from bitat_tf.bench.android.cores import check_mask, fastest_cores, mask_of


def cores(*megahertz):
    return [CoreRecord(i, f and 1000 * f) for i, f in enumerate(megahertz)]


@pytest.mark.parametrize(
    ("frequencies", "threads", "mask"),
    [
        ((1800,) * 4 + (2400,) * 3 + (2800,), 1, "80"),
        ((1800,) * 4 + (2400,) * 3 + (2800,), 4, "f0"),
        ((1800,) * 4 + (2400,) * 3 + (2800,), 5, "ff"),
        ((2400,) * 2 + (1800,) * 6, 2, "3"),  # the fast ones need not come last
        ((2000,) * 4, 1, "f"),
        ((1800, 1800, None, 2800), 1, "8"),  # core 2 is offline
        ((1800, 1800), 8, "3"),
        ((None, None), 1, ""),
        ((), 1, ""),
    ],
)
def test_the_fastest_clusters_are_taken_until_each_thread_has_a_core(frequencies, threads, mask):
    assert mask_of(fastest_cores(cores(*frequencies), threads)) == mask


@settings(deadline=None)
@given(st.lists(st.one_of(st.none(), st.integers(1, 5)), max_size=12), st.integers(1, 12))
def test_no_core_left_out_is_faster_than_one_taken(frequencies, threads):
    chosen = fastest_cores(cores(*frequencies), threads)
    known = {i for i, f in enumerate(frequencies) if f is not None}
    assert len(chosen) >= min(threads, len(known))
    slowest = min((frequencies[i] for i in chosen), default=0)
    assert all(frequencies[i] < slowest for i in known - set(chosen))


@pytest.mark.parametrize("given_mask", ["f0", "0xF0", "00f0"])
def test_a_users_mask_is_normalised(given_mask):
    assert check_mask(given_mask, cores(*[1] * 8)) == "f0"
    assert check_mask(given_mask, ()) == "f0"


@pytest.mark.parametrize("mask", ["", "0", "0x", "g", "f0; reboot", "-1", "100", "٣"])
def test_a_mask_that_cannot_be_is_refused(mask):
    with pytest.raises(ValueError, match="`cpu_mask` must"):
        check_mask(mask, cores(*[1] * 8))
