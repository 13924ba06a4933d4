"""Losing a camera again and again leaves nothing behind. A thousand times: `python tools/camera_cycles.py`."""

from __future__ import annotations

import pytest

from camera_cycles import FAULTS, run_cycles


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_twenty_losses_leave_nothing_behind(fault: str) -> None:
    cycles = run_cycles(fault, 20, read_timeout_s=0.3)

    assert cycles.num_cycles == 20
    assert cycles.descriptors[0] == cycles.descriptors[1]
    assert cycles.children[0] == cycles.children[1]
    assert cycles.rss_drift_mib < 5
