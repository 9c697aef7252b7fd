"""Evaluation mode lasts as long as its block."""

import pytest
from torch import nn

from vistok.nn.evaluation import in_evaluation


def test_every_part_is_in_its_own_mode_again_even_after_an_error():
    """Dropout stayed off for the rest of a training that was stopped while it drew samples."""
    network = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout()))
    network[1].eval()
    modes = [part.training for part in network.modules()]
    with pytest.raises(KeyboardInterrupt), in_evaluation(network):
        assert not any(part.training for part in network.modules())
        raise KeyboardInterrupt
    assert [part.training for part in network.modules()] == modes and modes[0] and not modes[2]
