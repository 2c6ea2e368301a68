"""Files that each node has for itself: an ordinary symbolic link through /cluster/self (a CDSL).

/cluster/self is the node's own /cluster/node<N>, bound there before anything else starts. So ``/etc/nodename``,
a link to ``/cluster/self/etc/nodename``, is another file on each node, for every program and for systemd.
"""

from __future__ import annotations

import filecmp
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from openssi import files
from openssi.cluster import state
from openssi.errors import Error
from openssi.run import run

SELF = Path("/cluster/self")
# What is no part of the shared root, or is the ground that the links stand on.
_REFUSED = ("/cluster", "/proc", "/sys", "/dev", "/run", "/boot", "/usr", "/bin", "/sbin", "/lib", "/lib64")
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


def make_local(root: Path, path: Path) -> list[int]:
    """Give each node a copy of the file or directory ``path`` (absolute) and put the link in its place.

    Returns the nodes that got a copy, none when it is a CDSL already. A copy that a node has from before
    is replaced. Error when ``path`` is not there, can't be local or there is no cluster.
    """
    with state.locked(root):
        place = _checked(root, path)
        if is_local(root, path):
            return []
        if not place.exists() and not place.is_symlink():
            raise Error(f"{path}: no such file or directory")
        numbers = _nodes_or_fail(root)
        for number in numbers:
            _copy(place, state.directory(root, number) / path.relative_to("/"))
        _swap(place, lambda temporary: temporary.symlink_to(target(path)))
    return numbers


def make_global(root: Path, path: Path, number: int, *, force: bool = False) -> None:
    """Put the copy that node ``number`` has of the CDSL ``path`` (absolute) in its place and remove all copies.

    Error when ``path`` is no CDSL, the node has no copy, or, without ``force``, when another node's copy differs.
    """
    with state.locked(root):
        place = _outside(root, path)
        if not is_local(root, path):
            raise Error(f"{path}: not a file that each node has for itself", hint="ls -l shows a link to /cluster/self")
        copies = {each: state.directory(root, each) / path.relative_to("/") for each in node_numbers(root)}
        kept = copies.get(number)
        if kept is None or not (kept.exists() or kept.is_symlink()):
            raise Error(f"{path}: node {number} has none")
        differing = [str(each) for each, copy in copies.items() if not same(kept, copy)]
        if differing and not force:
            raise Error(
                f"{path}: node {number}'s differs from that of node {', '.join(differing)}", hint="--force drops theirs"
            )
        _swap(place, lambda temporary: _archive(kept, temporary))
        for copy in copies.values():
            _remove(copy)


def same(first: Path, second: Path) -> bool:
    """Return True when both are the same kind of thing with the same content, all the way down; a missing second counts as same."""
    if not (second.exists() or second.is_symlink()) or first == second:
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


def _checked(root: Path, path: Path) -> Path:
    place = _outside(root, path)
    for refused in _REFUSED:
        if path.is_relative_to(refused):
            raise Error(f"{path}: {refused} can't differ from node to node")
    for parent in list(path.parents)[:-1]:
        if is_local(root, parent):
            raise Error(f"{path}: each node has {parent} for itself already")
    return place


def _nodes_or_fail(root: Path) -> list[int]:
    numbers = node_numbers(root)
    if not numbers:
        raise Error("/cluster: no node here", hint="ssi-create makes the first")
    return numbers


def _copy(source: Path, destination: Path) -> None:
    destination.parent.mkdir(parents=True, exist_ok=True)
    _swap(destination, lambda temporary: _archive(source, temporary))


def _archive(source: Path, destination: Path) -> None:
    # cp keeps owners, times, links and extended attributes alike, which no function of ours does.
    run(["cp", "--archive", "--no-target-directory", "--", source, destination])


def _swap(place: Path, make: Callable[[Path], None]) -> None:
    """Put what ``make(temporary path)`` makes in the place of ``place``, which may be a directory or not be there."""
    new = place.with_name(f".{place.name}.{os.getpid()}.new")
    old = place.with_name(f".{place.name}.{os.getpid()}.old")
    try:
        make(new)
        if place.is_dir() and not place.is_symlink():
            # rename(2) replaces a directory by nothing but an empty directory.
            place.rename(old)
            try:
                new.rename(place)
            except BaseException:
                old.rename(place)
                raise
            shutil.rmtree(old)
        else:
            if new.is_dir() and not new.is_symlink():
                place.unlink(missing_ok=True)
            new.rename(place)
        files.sync_directory(place.parent)
    finally:
        _remove(new)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
