"""A few kills of `make torture`, which does a few dozen."""

import pytest

from torture import torture


@pytest.mark.slow
def test_killed_runs_end_equal(tmp_path, fashion_root, capsys):
    results = torture(tmp_path, kills=4, seed=0)
    assert results == {name: (1, 1) for name in ("tokenizer", "generator", "classifier", "cache")}
    assert "deaths" in capsys.readouterr().out
