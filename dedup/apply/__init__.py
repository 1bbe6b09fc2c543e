"""Operations to the disk through the journal, and back again: the only room that changes the library.

    act.py       `apply_plan`: operations in batches, each intention and end in the journal
    steps.py     one operation, in the order that loses nothing
    undo.py      taking back                          recover.py   after a crash
    purge.py     the end of what lies in quarantine; nothing else destroys
    files.py     is it still what was planned, byte for byte?
    moves.py     how one name changes                 standing.py  how files stand against the journal
    places.py    roots and folders by descriptor, aliases, protection
    own.py       our own folder in a root: lock, probe, no trace
    syscalls.py  the calls that `os` does not have

Promises: no photo is lost, whatever is killed, full, broken, edited or swapped meanwhile; what is refused is named with
its reason. Does not: know the catalogue, or how pictures are compared.
"""

from __future__ import annotations

from dedup.apply.act import apply_plan
from dedup.apply.recover import recover_journal
from dedup.apply.steps import Confirm, Hooks
from dedup.apply.undo import undo_run

__all__ = ["Confirm", "Hooks", "apply_plan", "recover_journal", "undo_run"]
