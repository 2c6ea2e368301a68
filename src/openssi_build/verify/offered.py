"""What lies beside the indexes, for people to take: page, keyring, .sources, preferences, and which kernel is held."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from openssi import config
from openssi.errors import Error
from openssi_build import archive, images, kernels, site
from openssi_build.repository import Snapshot, control, release
from openssi_build.settings import Repository, Settings
from openssi_build.verify import trees
from openssi_build.verify.trees import Tree


def faults(tree: Tree, settings: Repository, newest: Snapshot, signers: Iterable[str]) -> Iterator[str]:
    """Yield what is gone or wrong of the files that ``inv build-repo`` writes beside the indexes of ``newest``.

    ``signers`` are the fingerprints that its Release binds clients to: the keyring has these keys.
    """
    name = Path(archive.KEYRING).name
    keyring = trees.read(tree, name)
    try:
        if keyring is None:
            yield f"{name}: gone"
        elif set(release.fingerprints(keyring)) != set(signers):
            yield f"{name}: does not have the keys of Signed-By in Release: {', '.join(sorted(signers))}"
    except Error as problem:
        yield f"{name}: {problem}"
    for name, wanted in (
        (site.SOURCES, archive.sources(settings)),
        (site.PREFERENCES, archive.preferences(settings)),
    ):
        text = trees.read(tree, name)
        if text is None:
            yield f"{name}: gone"
        elif text != wanted.encode():
            yield f"{name}: not what openssi.toml says: inv build-repo writes it"
    page = trees.read(tree, site.PAGE)
    if page is None:
        yield f"{site.PAGE}: gone"
    elif f"{release.rfc2822(newest.date)}, snapshot {newest.number}:".encode() not in page:
        yield f"{site.PAGE}: not the page of snapshot {newest.number}"


def kernel_faults(
    tree: Tree, root: Path, settings: Settings, packages: Mapping[tuple[str, str, str], bytes]
) -> Iterator[str]:
    """Yield what is wrong with the records of the kernels that the boot images are made for, where ``packages`` has these."""
    digests = {Path(path).name: digest for stanza in packages.values() for path, _, digest in control.files(stanza)}
    for name in images.kernels_of(root, settings):
        path = f"kernels/{name}.toml"
        wanted = kernels.describe(root, name)
        if not any(package == wanted.package for package, _, _ in packages):
            continue
        text = trees.read(tree, path)
        if text is None:
            yield f"{path}: gone"
            continue
        try:
            held = config.parse(text.decode("utf-8", "replace"), kernels.Held, path)
        except Error as problem:
            yield str(problem)
            continue
        for file, digest in held.files.items():
            if digests.get(file.replace("%3a", ":")) != digest and digests.get(file) != digest:
                yield f"{path}: holds {file}, which no index names with that hash"
