"""`python -m tests.guards`: takes each guard of acting out of a copy of the program, and sees whether a test misses it.

For a change of what acts, beside `make faults`. Takes some minutes; ends with 1 if a guard could go unnoticed.
"""

# ruff: noqa: E501 - a row of the table is a thing taken out, and reads as one line
from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

LONGEST_S = 120
"""The tests of one file take a tenth of it."""
PROJECT = Path(__file__).resolve().parents[1]

APPLY, UNDO, RECOVER, PURGE, JOURNAL = (
    f"tests/test_{name}.py"
    for name in ("safety_apply", "safety_undo", "safety_recover", "safety_purge", "journal")
)

SECURITY = "tests/test_review_security.py"

GUARDS: tuple[tuple[str, str, str, str, str], ...] = (
    # --- before anything ---
    ("places refused by number of the device", "apply/places.py", "(same_mount and found.st_dev != place.device)", "False", APPLY),
    ("root by inode", "apply/places.py", "found.st_ino != place.inode or", "False or", UNDO),
    ("lock of the root", "apply/own.py", "fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)", "pass", APPLY),
    ("lock that is held on", "apply/own.py", "if _leads_to(root.fd, OWN + b\"/lock\", fd):", "if True:", APPLY),
    ("lock of the journal", "journal.py", "fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)", "pass", JOURNAL),
    ("alias by token", "apply/places.py", "if other is not root and own.sees(other.fd, root):", "if False:", APPLY),
    ("protected by token", "apply/places.py", "if own.sees(fd, root):", "if False:", APPLY),
    ("protected by path", "apply/places.py", "if any(path == safe", "if False and any(path == safe", APPLY),
    ("protected by identity", "apply/places.py", "return bool(self._protected) and not", "return False and not", APPLY),
    ("protected root not written", "apply/act.py", "self.places.leave_protected(acting)", "pass", APPLY),
    ("protected by the plan", "apply/act.py", "[*plan.protected, *protected]", "[*protected]", APPLY),
    ("no link to a protected keeper", "apply/steps.py", "if checked.op.act is Act.HARDLINK and self.places.is_protected(", "if False and self.places.is_protected(", APPLY),
    ("cross pairs of aliases", "apply/steps.py", "in self.places.aliases:", "in ():", APPLY),
    ("space for the journal", "journal.py", "if disk.f_bavail * disk.f_frsize < operations * _OPERATION_BYTES:", "if False:", JOURNAL),
    ("quarantine or nothing", "apply/own.py", "if not root.keeps and not root.links:", "if False:", APPLY),
    ("private folder", "apply/own.py", "os.mkdir(name, 0o700, dir_fd=above)", "os.mkdir(name, 0o755, dir_fd=above)", APPLY),
    # --- look and read ---
    ("stat of the name before open", "apply/places.py", "        if syscalls.is_regular(found):\n            fd", "        if True:\n            fd", APPLY),
    ("inode as planned", "apply/files.py", "if (found.st_dev, found.st_ino) != (planned.device, planned.inode):", "if False:", APPLY),
    ("size, times, mode as planned", "apply/files.py", "        if now != (", "        if False and now != (", APPLY),
    ("time of change as planned", "apply/files.py", "self._ours.get(held.identity, (planned.ctime_ns, planned.link_count))", "(found.st_ctime_ns, found.st_nlink)", APPLY),
    ("attributes as planned", "apply/files.py", "if xattrs_digest(syscalls.read_xattrs(fd)) != file.xattrs:", "if False:", APPLY),
    ("writers", "apply/files.py", "        if lease.writer:", "        if False:", APPLY),
    ("writers while reading", "apply/steps.py", "if one.lease is not None and not one.lease.release():", "if one.lease is not None and one.lease.release() is None:", APPLY),
    ("inodes differ", "apply/steps.py", "if len(set(going)) < len(going) or set(going) & {one.identity for one in checked.stays}:", "if False:", APPLY),
    ("digest of the pair", "apply/files.py", "if hashed and not digest.digest() == keep.planned.digest == dup.planned.digest:", "if False:", APPLY),
    ("byte by byte", "apply/files.py", "if mine != want or theirs != want or one != other:", "if False:", APPLY),
    ("the same length", "apply/files.py", "if dup.planned.size_bytes != size:", "if False:", APPLY),
    ("digest of others", "apply/files.py", "if self.digest(held.fd, held.planned.size_bytes) != held.planned.digest:", "if False:", APPLY),
    ("companions read", "apply/steps.py", "        for one in (*checked.others, *checked.twins):\n            self.reader.check_planned(one)", "        pass", APPLY),
    ("partners that came since", "apply/steps.py", "            self._check_partners(checked)", "            pass", APPLY),
    ("confirmation", "apply/steps.py", "            if why:\n", "            if False:\n", APPLY),
    ("unchanged while reading", "apply/steps.py", "        for one in (*checked.goes, *checked.stays):\n            self.holder.check(one)", "        pass", APPLY),
    ("edited needs a decision", "apply/steps.py", "op.relation is Relation.SIMILAR or (op.relation is Relation.EDITED and not op.decided)", "False", APPLY),
    ("links for the same bytes only", "apply/steps.py", "if op.act is not Act.QUARANTINE and op.relation is not Relation.SAME_BYTES:", "if False:", APPLY),
    ("metadata of links", "apply/steps.py", "            _check_metadata(op, dup.planned, keep.planned)", "            pass", APPLY),
    ("links in paths, openat2", "apply/syscalls.py", "_RESOLVE = 0x04 | 0x02 | 0x08", "_RESOLVE = 0", APPLY),
    ("links in paths, walk", "apply/syscalls.py", "os.open(part, FOLDER_FLAGS, dir_fd=here)", "os.open(part, os.O_RDONLY, dir_fd=here)", APPLY),
    ("dots in paths", "apply/syscalls.py", 'if b".." in parts or b"." in parts or b"" in parts or b"\\0" in path:', "if False:", APPLY),
    # --- write down, act ---
    ("intention first", "apply/act.py", "        self.journal.append(intent_record(entry))\n", "        later = intent_record(entry)\n", APPLY),
    ("durable lines", "journal.py", "            os.fsync(self._fd)\n            if os.fstat", "            if os.fstat", JOURNAL),
    ("durable folder of the journal", "journal.py", "                _sync_folder(place, self.path)", "                pass", JOURNAL),
    ("the file that was read, right before", "apply/steps.py", "        if identity_of(one.spot.look()) != one.identity or not one.spot.folder.is_in_place():", "        if not one.spot.folder.is_in_place():", APPLY),
    ("folder in place", "apply/steps.py", " or not one.spot.folder.is_in_place():", ":", APPLY),
    ("free place in quarantine", "apply/steps.py", "        if place is not None and place.look() is not None:", "        if False:", APPLY),
    ("link is the keeper's", "apply/steps.py", "        if made != keep.identity:", "        if False:", APPLY),
    ("no fallback for hard links", "apply/steps.py", "        if not root.links:\n            raise Refused(\"this file system has no hard links\", \"use --action quarantine\")", "        if not root.links:\n            self.move_away(checked, [place])\n            return", APPLY),
    ("random name without NOREPLACE", "apply/moves.py", "(name if root.keeps else f\"{name}-{secrets.token_hex(12)}\")", "name", APPLY),
    ("nothing overwritten on the way back", "apply/moves.py", "    if name.folder.root.keeps:\n        syscalls.rename_to_free(place.at, name.at)\n        return\n    fd", "    os.rename(place.name, name.name, src_dir_fd=place.folder.fd, dst_dir_fd=name.folder.fd)\n    return\n    fd", APPLY),
    ("ranges that differ", "apply/steps.py", "if status == syscalls.RANGE_DIFFERS or shared <= 0:", "if shared < 0:", APPLY),
    # --- look at what came out ---
    ("what came out: inode", "apply/steps.py", "        if found is None or identity_of(found) != one.identity:", "        if found is None:", APPLY),
    ("what came out: bytes", "apply/steps.py", "            self.patient.check_same(one, keep, hashed=False)", "            pass", APPLY),
    ("the name is the keeper's", "apply/steps.py", "            if identity_of(dup.spot.look()) != keep.identity:\n                raise dup.refuse(\"was replaced while this ran\")\n            self._look_for_keepers(checked)\n        except (Refused, OSError):\n            _taken_back", "            self._look_for_keepers(checked)\n        except (Refused, OSError):\n            _taken_back", APPLY),
    ("keeper by name", "apply/steps.py", "        for one in checked.stays:\n            file, now", "        for one in ():\n            file, now", APPLY),
    ("keeper by name: time of change", "apply/steps.py", "                or found.st_ctime_ns != (now if linked else one.seen).st_ctime_ns\n", "", APPLY),
    ("keeper by name: inode", "apply/steps.py", "                identity_of(found) != one.identity\n                or (found", "                (found", APPLY),
    ("all or nothing", "apply/steps.py", "            _all_back(moved)\n            raise", "            raise", APPLY),
    ("exchange back", "apply/moves.py", "            syscalls.exchange(place.at, name.at)\n        elif", "            pass\n        elif", APPLY),
    ("look before exchange back", "apply/moves.py", "        if here == keep:\n            syscalls", "        if here is not None:\n            syscalls", APPLY),
    ("last name", "apply/moves.py", "        if found.st_nlink < 2:", "        if False:", RECOVER),
    ("expected inode", "apply/moves.py", "        if identity_of(found) != expected or identity_of(place.look()) != expected:", "        if False:", RECOVER),
    ("loud if it cannot go back", "apply/steps.py", "            raise _cannot_take_back(place, name, error) from error\n    if stranded:", "            pass\n    if stranded:", APPLY),
    # --- the end ---
    ("folders before ends", "apply/act.py", "            trouble[id(folder)] = _sync(folder)", "            trouble[id(folder)] = \"\"", APPLY),
    ("no end without the disk", "apply/act.py", "            if any(_sync(folder) for folder in ended.folders):\n                ended.record = {}", "            pass", APPLY),
    ("taken back without the disk", "apply/act.py", "                    ended.undo()\n", "                    pass\n", APPLY),
    ("stop between operations", "apply/act.py", "                if self.hooks.stopping():\n                    break", "                pass", APPLY),
    ("no stop within the act", "apply/steps.py", "self.patient = Reader(lambda: False)", "self.patient = Reader(hooks.stopping)", APPLY),
    ("done before", "apply/act.py", "if entry.state in (DONE, PURGED) and not entry.note:", "if False:", APPLY),
    # --- the journal ---
    ("checksum", "journal.py", "    return line[_CHECK : _CHECK + 1] == b\" \" and line[:_CHECK] == _check_of(before, line[_CHECK + 1 :])", "    return line[_CHECK : _CHECK + 1] == b\" \"", JOURNAL),
    ("chain", "journal.py", "    return hashlib.sha256(before + payload)", "    return hashlib.sha256(payload)", JOURNAL),
    ("damage in the middle", "journal.py", "            if end >= 0 and end + 1 < len(data):", "            if False:", JOURNAL),
    ("torn end cut off", "journal.py", "                os.ftruncate(self._fd, self._end)\n                os.fsync", "                os.fsync", JOURNAL),
    ("torn line after an error", "journal.py", "                os.ftruncate(self._fd, self._end)\n            except", "                pass\n            except", JOURNAL),
    ("nothing more after an error", "journal.py", "        if self._broken:", "        if False:", JOURNAL),
    ("newer format", "journal.py", "            if record[\"format\"] > FORMAT:", "            if False:", JOURNAL),
    ("deleted meanwhile", "journal.py", "            if os.fstat(self._fd).st_nlink == 0:", "            if False:", JOURNAL),
    # --- undo ---
    ("undo looks before it exchanges", "apply/undo.py", "    if not is_file(places, there, entry.keep):\n        if here", "    if True:\n        if here", UNDO),
    ("undo leaves edits of a link", "apply/undo.py", "return is_file(places, here, keep) and same and here.st_nlink >= 2", "return is_file(places, here, keep) and here.st_nlink >= 2", UNDO),
    ("undo leaves the last name", "apply/undo.py", "return is_file(places, here, keep) and same and here.st_nlink >= 2", "return is_file(places, here, keep) and same", UNDO),
    ("undo leaves strangers", "apply/undo.py", "return is_file(places, here, keep) and same and here.st_nlink >= 2", "return same and here.st_nlink >= 2", UNDO),
    ("undo looks at what it exchanged", "apply/undo.py", "        if not is_file(places, there, entry.keep):\n            syscalls.exchange(place.at, name.at)\n            raise", "        if False:\n            raise", UNDO),
    ("undo of half a unit", "apply/undo.py", "        if one.place is not None and one.at_place is None and one.at_name is None:", "        if False:", UNDO),
    ("undo keeps other people's folder times", "apply/undo.py", "            if is_time_ours(", "            if True or is_time_ours(", UNDO),
    ("undo with the keeper's disk away", "apply/standing.py", "    if entry.act is Act.HARDLINK and entry.keep.root in places.trouble:", "    if False:", UNDO),
    ("devices renumbered", "apply/standing.py", "root.device if file.device == root.place.device else file.device", "file.device", UNDO),
    # --- recover ---
    ("recover: only the file that went", "apply/recover.py", "        if is_file(places, one.at_place, one.move.file) and one.at_name is None", "        if one.at_name is None", RECOVER),
    ("recover: only to a free name", "apply/recover.py", " and one.at_name is None and one.name is not None:\n            back", " and one.name is not None:\n            back", RECOVER),
    ("recover: strangers in quarantine", "apply/recover.py", "    if not is_file(places, one.at_place, one.move.file) or one.name is None:", "    if one.name is None:", RECOVER),
    ("recover: name is the keeper's", "apply/recover.py", "    if not is_file(places, one.at_name, entry.keep):\n        raise _undecided(one)", "    pass", RECOVER),
    ("recover: bytes before done", "apply/recover.py", "    if _holds_planned_bytes(one):", "    if True:", RECOVER),
    ("recover: last name", "apply/recover.py", "        if not drop_link(one.place, identity_of(one.at_place)):", "        if drop_link(one.place, identity_of(one.at_place)) is None:", RECOVER),
    ("recover: photo that is nowhere", "apply/recover.py", "        if one.at_name is None:\n            raise _undecided(one)\n        return False", "        return False", RECOVER),
    # --- purge ---
    ("purge: keeper's bytes", "apply/purge.py", "        if _PATIENT.digest(fd, file.size_bytes) != file.digest:", "        if False:", PURGE),
    ("purge: keeper there", "apply/purge.py", "                _look_at_kept(places, run, file)", "                pass", PURGE),
    ("purge: twins", "apply/purge.py", "for file in (entry.keep, *(twin for twin in entry.twins if twin is not None)):", "for file in (entry.keep,):", PURGE),
    ("purge: bytes in quarantine", "apply/purge.py", "    if _PATIENT.digest(fd, one.move.file.size_bytes) != one.move.file.digest:", "    if False:", PURGE),
    ("purge: the file that was looked at", "apply/purge.py", "                if identity_of(place.look()) != identity_of(os.fstat(fd)):", "                if False:", PURGE),
    ("purge: intention first", "apply/purge.py", "            journal.append({\"kind\": \"purge\", \"run\": entry.run, \"op\": entry.id})\n", "", PURGE),
    ("purge: not by age alone", "pipeline/acting.py", "if going := [entry for entry in old if entry.relation not in AGELESS]:", "if going := old:", PURGE),
    ("purge: age", "pipeline/acting.py", "if is_purgeable(entry) and now - entry.since >= choice.older_than_s", "if is_purgeable(entry)", PURGE),
    ("purge: clock", "pipeline/acting.py", "    if now < journal.latest:", "    if False:", PURGE),
    ("purge: number of files", "pipeline/acting.py", "        if listed.files != count:", "        if False:", PURGE),
    ("purge: lock", "apply/purge.py", "        places.take({move.file.root for entry in entries for move in entry.moves})", "        pass", PURGE),
    # --- the review page ---
    ("host", "review/door.py", "if len(hosts) != 1 or hosts[0].lower() not in self._hosts:", "if False:", SECURITY),
    ("two hosts", "review/door.py", "if len(hosts) != 1 or hosts[0]", "if hosts[0]", SECURITY),
    ("origin", "review/door.py", "if (origins or method == \"POST\") and (", "if False and (", SECURITY),
    ("fetch site", "review/door.py", "if headers.get(\"sec-fetch-site\", \"same-origin\") != \"same-origin\":", "if False:", SECURITY),
    ("json only", "review/door.py", "if method == \"POST\" and headers", "if False and headers", SECURITY),
    ("token of the page", "review/door.py", "if path != \"/api/enter\" and not self.lock.fits(", "if False and not self.lock.fits(", SECURITY),
    ("one use of the code", "review/door.py", "if not right or self._used:", "if not right:", SECURITY),
    ("length that is said", "review/door.py", "or int(said) > MOST_BODY_BYTES", "or False", SECURITY),
    ("length that comes", "review/door.py", "if size > MOST_BODY_BYTES:", "if False:", SECURITY),
    ("headers that forbid", "review/door.py", "(\"headers\", ()), *safe]", "(\"headers\", ())]", SECURITY),
    ("links in the way", "report/sights.py", "os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at", "os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=at", SECURITY),
    ("link for a file", "report/sights.py", "flags = os.O_RDONLY | os.O_NOFOLLOW |", "flags = os.O_RDONLY |", SECURITY),
    ("files as scanned", "pipeline/reviewing.py", "                self._check_files(before.group, wanted)", "                pass", SECURITY),
    ("group as seen", "pipeline/reviewing.py", "if not found or found[0].mark != seen[0]:", "if not found:", SECURITY),
    ("version as seen", "pipeline/reviewing.py", "if before.version != seen[1]:", "if False:", SECURITY),
    ("a change is made once", "pipeline/reviewing.py", "        if known is not None:\n            return known", "        if False:\n            return known", SECURITY),
    ("a kept file", "pipeline/judging.py", "    if keeper.id in judgement.marks:", "    if False:", SECURITY),
    ("a sound kept file", "pipeline/judging.py", "        if found:\n            name", "        if False:\n            name", SECURITY),
    ("pictures that wait", "pipeline/gallery.py", "if self._waiting >= MOST_WAITING:", "if False:", SECURITY),
    ("pictures that are kept", "pipeline/gallery.py", "while self._kept_bytes > self._cache_bytes:", "while False:", SECURITY),
)  # fmt: skip
"""What it guards, the module, the text that is taken out, what comes in its place, and the tests that must see it."""


def main(words: list[str]) -> int:
    """Try the guards whose names hold one of the words; all of them without any."""
    chosen = [guard for guard in GUARDS if not words or any(word in guard[0] for word in words)]
    unseen = 0
    with tempfile.TemporaryDirectory(prefix="guards-") as home:
        for part in ("dedup", "tests"):
            shutil.copytree(PROJECT / part, Path(home, part), ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(PROJECT / "pyproject.toml", home)
        for name, module, old, new, tests in chosen:
            path = Path(home, "dedup", module)
            text = path.read_text("utf-8")
            if text.count(old) < 1:
                print(f"MISSING  {name}: its text is not in {module} any more", flush=True)
                unseen += 1
                continue
            path.write_text(text.replace(old, new, 1), "utf-8")
            command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", tests]
            seen, told = _try(command, home)
            path.write_text(text, "utf-8")
            unseen += not seen
            print(f"{'seen' if seen else 'UNSEEN':<8} {name}: {told}", flush=True)
    print(f"{len(chosen)} guards, {unseen} of which no test misses")
    return 1 if unseen else 0


def _try(command: list[str], home: str) -> tuple[bool, str]:
    """Whether the tests fail, and by which one."""
    try:
        done = subprocess.run(
            command, cwd=home, capture_output=True, text=True, check=False, timeout=LONGEST_S
        )
    except subprocess.TimeoutExpired:
        return True, "a test hangs"
    lines = done.stdout.splitlines() or [done.stderr[-200:]]
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    return done.returncode == 1 and bool(failed), (failed or lines)[-1][:150]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
