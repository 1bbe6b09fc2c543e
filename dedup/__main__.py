"""`python -m dedup` is `dedup`."""

from __future__ import annotations

import sys

from dedup.cli import main

sys.exit(main())
