"""Where the benchmark tool is looked for; the rest is in test_session."""

from bitat_tf.bench.android import cache_directory


def test_the_cache_directory_follows_the_user(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_directory() == tmp_path / "bitat_tf" / "android"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_directory() == tmp_path / "home" / ".cache" / "bitat_tf" / "android"
