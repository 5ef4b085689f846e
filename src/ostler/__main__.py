"""`python -m ostler`: the same as the `ostler` command."""

from __future__ import annotations

import sys

from ostler.cli import main

sys.exit(main())
