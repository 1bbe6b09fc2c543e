"""What was found, for people and for programs: text, JSON, CSV, fdupes' format, and one HTML file.

Promises: the same report gives the same text, JSON and CSV, byte for byte; every name is escaped for where it goes
(a terminal, JSON, CSV, HTML); JSON can be read back. Does not: decide anything, or write among the photos.

    text.py   for a terminal                data.py      JSON (schema 1), CSV, fdupes
    html.py   one self-contained file       pictures.py  its thumbnails and difference pictures, made in workers
"""

from dedup.report.data import SCHEMA, from_json, to_csv, to_fdupes, to_json
from dedup.report.text import to_text

__all__ = ["SCHEMA", "from_json", "to_csv", "to_fdupes", "to_json", "to_text"]
