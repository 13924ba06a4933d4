"""`python -m edgekit`: the command line, where no script of that name is on the path."""

from __future__ import annotations

import sys

from edgekit.cli.main import main

sys.exit(main())
