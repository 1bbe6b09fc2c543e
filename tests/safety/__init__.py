"""Nothing is lost, whatever happens: the fault campaign, and the judge it is measured by.

`python -m tests.safety` (as root, on Linux) kills, fails, cuts, edits and doubles; `checker.py` says what was lost.

    checker.py   invariants I1 to I9 and exact undo; imports nothing of the program
    library.py   a small library in which every kind of pair stands
    tracer.py    stops a process at each system call that matters
    program.py   runs the installed program, warm or cold, at will under the tracer
    warm.py      the process from which runs are forked
    grounds.py   file systems to run on: tmpfs, ext4 in a loop mount, and others
"""
