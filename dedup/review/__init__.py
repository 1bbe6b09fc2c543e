"""`dedup review`: a page on this machine on which a person looks at the groups and decides.

Promises: it shows photos and writes decisions, and nothing else; it listens on this machine only, answers only to the
page that the person opened, and hands out nothing but pictures that were drawn anew. Does not: change or remove a
photo, load anything from elsewhere, or say anything to anybody else.

    door.py      who may ask: Host, Origin, token, sizes, times     app.py    what is asked, and the answers
    plain.py     groups and their photos as JSON                    keys.py   the key table
    planning.py  the plan at the end                                server.py from a port to a page
    static/, templates/   the page itself: plain JavaScript modules, no build step
"""

from __future__ import annotations

from dedup.review.server import ReviewOptions, serve_review

__all__ = ["ReviewOptions", "serve_review"]
