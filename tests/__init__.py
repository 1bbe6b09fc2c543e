"""Tests: one file per module, names that are sentences, real files."""
