"""What attacks on files may cost to import."""

from __future__ import annotations

import subprocess
import sys


def test_attacks_on_files_do_without_torch() -> None:
    program = "import sys, edgekit.perturb.fooling, edgekit.perturb.square; print('torch' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "False"
