"""Find duplicate photos, confirmed at full pixels."""

from __future__ import annotations

__version__ = "0.1.0"
