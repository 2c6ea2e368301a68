"""Boot images by their manifest: SHA256SUMS is what Release lists, its signature is there, and every file has its hash."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from openssi_build import manifest
from openssi_build.repository.images import CURRENT, Listed
from openssi_build.verify import signatures, trees
from openssi_build.verify.indexes import Digests, fault
from openssi_build.verify.trees import Tree

_SUMS = re.compile(rf"dists/.+/netboot-[^/]+/([^/]+)/images/{manifest.SUMS}")


def faults(tree: Tree, listed: Iterable[str], keyring: Path, digests: Digests) -> list[str]:
    """Return what is wrong with the boot images among the paths ``listed`` by a Release, whose hashes are checked already.

    The current ones must be signed by a key of ``keyring``; of older ones the key may be gone.
    """
    found = []
    for path in sorted(listed):
        match = _SUMS.fullmatch(path)
        if not match:
            continue
        text = trees.read(tree, path)
        if text is None:
            found.append(f"{path}: gone")
            continue
        name = str(Path(path).with_name(manifest.SIGNATURE))
        signature = trees.read(tree, name)
        if signature is None:
            found.append(f"{name}: gone")
        elif match[1] == CURRENT:
            found += [f"{name}: {each}" for each in signatures.check(text, signature, keyring).problems]
        for each, expected in named(tree, path):
            if problem := fault(tree, each, expected, digests):
                found.append(f"{each}: {problem}, but {manifest.SUMS} names it")
    return found


def named(tree: Tree, path: str) -> Iterator[tuple[str, str]]:
    """Yield path and SHA256 of each file that the SHA256SUMS at ``path`` names."""
    text = (trees.read(tree, path) or b"").decode("utf-8", "replace")
    for name, expected in manifest.parse(text).items():
        yield path.removesuffix(manifest.SUMS) + name, expected


def asked_for(tree: Tree, listed: Listed) -> Iterator[tuple[str, str]]:
    """Yield path and SHA256 of each file that a client looks for by a Release that lists ``listed``."""
    for place, versions in listed.items():
        digest = versions[versions[CURRENT]]
        yield f"{place}/{CURRENT}/images/by-hash/SHA256/{digest}", digest
        for version in versions.keys() - {CURRENT}:
            sums = f"{place}/{version}/images/{manifest.SUMS}"
            yield sums, versions[version]
            yield from named(tree, sums)
