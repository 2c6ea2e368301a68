"""Files that each node has for itself: an ordinary symbolic link through /cluster/self (a CDSL).

/cluster/self is the node's own /cluster/node<N>, bound there before anything else starts. So ``/etc/nodename``,
a link to ``/cluster/self/etc/nodename``, is another file on each node, for every program and for systemd.

What is being changed is noted in /cluster/etc/cdsl-change; recover() ends what a kill cut off there, either way.
"""

from __future__ import annotations

import errno
import filecmp
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from openssi import files
from openssi.cluster import state
from openssi.errors import Error
from openssi.run import run

SELF = Path("/cluster/self")
CHANGE = "cluster/etc/cdsl-change"  # the path that is changed now; repair-cdsl leaves it alone
# What is no part of the shared root, or is the ground that the links stand on.
_REFUSED = ("/cluster", "/proc", "/sys", "/dev", "/run", "/boot", "/usr", "/bin", "/sbin", "/lib", "/lib64")
_NEW, _OLD = ".openssi-new", ".openssi-old"
_NODE = re.compile(r"node([1-9][0-9]*)")


def target(path: Path) -> Path:
    """Return what the link at the absolute ``path`` says: the same path below /cluster/self."""
    return SELF / path.relative_to("/")


def is_local(root: Path, path: Path) -> bool:
    """Return True when the absolute ``path`` of the tree ``root`` is a CDSL."""
    place = _outside(root, path)
    return place.is_symlink() and place.readlink() == target(path)


def node_numbers(root: Path) -> list[int]:
    """Return the numbers of the nodes that have a directory of their own in the tree ``root``, sorted."""
    found = (_NODE.fullmatch(each.name) for each in (root / "cluster").glob("node*"))
    return sorted(int(match[1]) for match in found if match)


def of_node(root: Path, number: int) -> list[Path]:
    """Return the CDSLs (absolute) that lead node ``number`` to something, sorted."""
    mounted = {Path("/", each) for each in state.pernode(root)}
    return sorted(_below(root, state.directory(root, number), Path("/"), mounted))


def _below(root: Path, home: Path, path: Path, mounted: set[Path]) -> Iterator[Path]:
    for entry in os.scandir(home / path.relative_to("/")):
        inside = path / entry.name
        if is_local(root, inside):
            yield inside
        elif entry.is_dir(follow_symlinks=False) and inside not in mounted:
            yield from _below(root, home, inside, mounted)


def give(root: Path, path: Path, number: int, home: Path) -> None:
    """Copy what node ``number`` has behind the CDSL ``path`` into ``home``, another node's directory that nobody uses yet."""
    place = home / path.relative_to("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    _archive(state.directory(root, number) / path.relative_to("/"), place)


def make_local(root: Path, path: Path) -> list[int]:
    """Give each node a copy of the file or directory ``path`` (absolute) and put the link in its place.

    Returns the nodes that got a copy, none when it is a CDSL already. A copy that a node has from before
    is replaced. Error when ``path`` is not there, can't be local or there is no cluster.
    """
    if not node_numbers(root):
        raise Error("/cluster: no node here", hint="ssi-create makes the first")
    with state.locked(root):
        recover(root)
        place = _checked(root, path)
        if is_local(root, path):
            return []
        if not _there(place):
            raise Error(f"{path}: no such file or directory")
        copies = _copies(root, path)
        with _noted(root, path):
            for copy in copies.values():
                _remove(copy)
                copy.parent.mkdir(parents=True, exist_ok=True)
                _archive(place, copy)
            _beside(place, _NEW).symlink_to(target(path))
            _swap(place)
    return list(copies)


def make_global(root: Path, path: Path, number: int, *, force: bool = False) -> None:
    """Put the copy that node ``number`` has of the CDSL ``path`` (absolute) in its place and remove all copies.

    Error when ``path`` is no CDSL, the node has no copy, or, without ``force``, when another node's copy differs.
    """
    with state.locked(root):
        recover(root)
        if not is_local(root, path):
            raise Error(f"{path}: not a file that each node has for itself", hint="ls -l shows a link to /cluster/self")
        copies = _copies(root, path)
        kept = copies.get(number)
        if kept is None or not _there(kept):
            raise Error(f"{path}: node {number} has none")
        differing = [str(each) for each, copy in copies.items() if not same(kept, copy)]
        if differing and not force:
            raise Error(
                f"{path}: node {number}'s differs from that of node {', '.join(differing)}", hint="--force drops theirs"
            )
        share(root, path, number)


def share(root: Path, path: Path, number: int) -> None:
    """Put node ``number``'s copy of the CDSL ``path`` in its place and remove all copies, under the lock."""
    place = _outside(root, path)
    with _noted(root, path):
        _archive(_copies(root, path)[number], _beside(place, _NEW))
        _swap(place)


def recover(root: Path) -> None:
    """End what was cut off in making a path local or global, so that it is the one or the other. Under the lock."""
    note = root / CHANGE
    files.sweep([note])
    if not note.exists():
        return
    path = Path(os.fsdecode(note.read_bytes()).removesuffix("\n"))
    place = _outside(root, path)
    new, old = _beside(place, _NEW), _beside(place, _OLD)
    if _there(old) and not _there(place):
        old.rename(place)
    if _there(place) and not is_local(root, path):
        for copy in _copies(root, path).values():
            _remove(copy)
    _remove(new)
    _remove(old)
    note.unlink()


def same(first: Path, second: Path) -> bool:
    """Return True when both are the same kind of thing with the same content, all the way down; a missing second counts as same."""
    if not _there(second) or first == second:
        return True
    if first.is_symlink() or second.is_symlink():
        return first.is_symlink() and second.is_symlink() and first.readlink() == second.readlink()
    if first.is_dir() and second.is_dir():
        names = sorted(each.name for each in first.iterdir())
        return names == sorted(each.name for each in second.iterdir()) and all(
            same(first / name, second / name) for name in names
        )
    return first.is_file() and second.is_file() and filecmp.cmp(first, second, shallow=False)


def _outside(root: Path, path: Path) -> Path:
    if not path.is_absolute() or ".." in path.parts or path == Path("/"):
        raise Error(f"{path}: expected an absolute path below /")
    return root / path.relative_to("/")


def check_place(path: Path) -> None:
    """Raise Error when nothing at the absolute ``path`` can be each node's own."""
    for refused in _REFUSED:
        if path.is_relative_to(refused) or Path(refused).is_relative_to(path):
            raise Error(f"{path}: {refused} can't differ from node to node")


def _checked(root: Path, path: Path) -> Path:
    place = _outside(root, path)
    check_place(path)
    own = [Path("/", each) for each in state.pernode(root)]
    for parent in list(path.parents)[:-1]:
        if is_local(root, parent) or parent in own:
            raise Error(f"{path}: each node has {parent} for itself already")
    # A copy would take the place of what the nodes have there.
    links = [link for number in node_numbers(root)[:1] for link in of_node(root, number)]
    for inside in (*own, *links):
        if inside != path and inside.is_relative_to(path):
            raise Error(f"{path}: each node has {inside} in it for itself already")
    if path in own:
        raise Error(f"{path}: each node has its own, by /{state.PERNODE}")
    return place


def _copies(root: Path, path: Path) -> dict[int, Path]:
    return {number: state.directory(root, number) / path.relative_to("/") for number in node_numbers(root)}


def _archive(source: Path, destination: Path) -> None:
    # cp keeps owners, times, links and extended attributes alike, which no function of ours does.
    run(["cp", "--archive", "--no-target-directory", "--", source, destination])


def _beside(place: Path, ending: str) -> Path:
    return place.with_name(f".{place.name}{ending}")


@contextmanager
def _noted(root: Path, path: Path) -> Iterator[None]:
    """Note that ``path`` is being changed, during the block; however it ends, what is left over goes."""
    files.write(root / CHANGE, os.fsencode(path) + b"\n")
    try:
        yield
    finally:
        recover(root)


def _swap(place: Path) -> None:
    """Let ``place``, which is there, and what is made beside it change their names, as one step where that can be."""
    new = _beside(place, _NEW)
    os.sync()  # what the names will mean is on the disk before them
    if not _is_directory(place) and not _is_directory(new):
        new.replace(place)
    else:
        try:
            files.exchange(new, place)
        except OSError as problem:
            if problem.errno not in (errno.EINVAL, errno.ENOSYS):
                raise
            # NFS: rename(2) replaces nothing by a directory and no directory by a link. recover() knows what was old.
            place.rename(_beside(place, _OLD))
            new.rename(place)
    files.sync_directory(place.parent)


def _there(path: Path) -> bool:
    return path.exists() or path.is_symlink()


def _is_directory(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _remove(path: Path) -> None:
    if _is_directory(path):
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
