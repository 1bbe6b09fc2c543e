"""The review page in a real browser: Playwright with the distribution's Chromium; skipped where there is none."""
