"""What may be removed from a phone."""

import pytest

from bitat_tf.bench.android.remote import RemoteDirectory


@pytest.mark.parametrize("path", ["/", "/data/local/tmp", "/data/local/tmp/bitat-0/../.."])
def test_only_our_own_directory_can_ever_be_removed(path):
    with pytest.raises(ValueError, match="`path` must be"):
        RemoteDirectory(None, path)
