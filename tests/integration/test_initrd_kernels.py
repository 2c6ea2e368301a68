"""Second opinions on whole kernels of Debian: modprobe on what a module needs, initramfs-tools on its firmware."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import needs

from openssi import run
from openssi.initrd import build, codecs, drivers
from openssi.kernel import nics
from openssi.kernel.modules import Modules, module_name, modules
from openssi_build import apt, chroot, images, kernels
from openssi_build.settings import Initrd

pytestmark = pytest.mark.integration

# Their softdeps name ciphers; modprobe passes over some that have several implementations, we take all of them.
WIDER = {"bcachefs", "btrfs", "cifs", "f2fs", "ksmbd"}


@pytest.fixture(scope="module", params=["trixie-amd64", "bookworm-amd64"])
def kernel(
    request: pytest.FixtureRequest, root: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Modules:
    """A kernel of Debian, held by a tree of the test's own."""
    needs("modprobe", "depmod")
    top = tmp_path_factory.mktemp("tree")
    (top / "kernels").symlink_to(root / "kernels")
    found = kernels.qualified(top, cache, request.param)
    return modules(found.tree, found.abi)


def _by_modprobe(kernel: Modules) -> dict[str, set[str]]:
    top = kernel.directory.parents[3] if kernel.directory.parts[-4] == "usr" else kernel.directory.parents[2]
    script = (
        'while read -r module; do echo "= $module"; '
        'modprobe -d "$1" -S "$2" -C /nonexistent --show-depends "$module" 2>/dev/null; done'
    )
    names = "".join(f"{name}\n" for name in kernel.dependencies).encode()
    said = run.output(["sh", "-c", script, "sh", top, kernel.version], input=names, timeout=600).decode()
    needed: dict[str, set[str]] = {}
    module = ""
    for line in said.splitlines():
        word, _, rest = line.partition(" ")
        if word == "=":
            module = rest
            needed[module] = set()
        elif word == "insmod":
            needed[module].add(module_name(rest.split()[0]))
    return needed


def test_every_module_needs_what_modprobe_says(kernel: Modules) -> None:
    theirs = _by_modprobe(kernel)
    ours = {name: set(kernel.closure([name])) for name in kernel.dependencies}
    assert len(ours) > 4000
    assert ours.keys() == theirs.keys()
    differing = {name for name in ours if ours[name] != theirs[name]}
    assert differing <= WIDER
    assert all(ours[name] > theirs[name] for name in differing)


def test_dependencies_come_before_the_module_that_needs_them(kernel: Modules) -> None:
    for name in kernel.dependencies:
        order = kernel.closure([name])
        place = {module: i for i, module in enumerate(order)}
        for module in order:
            assert all(place[module_name(file)] < place[module] for file in kernel.dependencies[module][1])


def test_ids_of_cards_resolve_to_the_drivers_that_modprobe_would_load(kernel: Modules) -> None:
    top = kernel.directory.parents[3] if kernel.directory.parts[-4] == "usr" else kernel.directory.parents[2]
    for id_, modalias in (
        ("8086:100e", "pci:v00008086d0000100Esv00001AF4sd00001100bc02sc00i00"),
        ("10ec:8168", "pci:v000010ECd00008168sv00001043sd00008677bc02sc00i00"),
        ("15ad:07b0", "pci:v000015ADd000007B0sv000015ADsd000007B0bc02sc00i00"),
        ("0bda:8153", "usb:v0BDAp8153d3100dc00dsc00dp00icFFiscFFip00in00"),
        ("1af4:1000", "virtio:d00000001v00001AF4"),
        ("1af4:1041", "virtio:d00000001v00001AF4"),
    ):
        argv: list[str | Path] = [
            "modprobe", "-d", top, "-S", kernel.version, "-C", "/nonexistent", "--resolve-alias", modalias,
        ]  # fmt: skip
        theirs = set(run.output(argv, timeout=60).decode().split())
        found = kernel.find(modalias)
        assert found is not None
        assert set(found.modules) == theirs
        assert theirs & {driver.module for driver in nics.matching(kernel, id_)}


def test_every_alias_of_a_bus_is_found_as_modprobe_finds_it(kernel: Modules) -> None:
    top = kernel.directory.parents[3] if kernel.directory.parts[-4] == "usr" else kernel.directory.parents[2]
    table = [line.split()[1] for line in (kernel.directory / "modules.alias").read_text().splitlines() if ":" in line]
    names = [re.sub(r"\[(.)[^]]*\]", r"\1", pattern).replace("*", "00").replace("?", "0") for pattern in table]
    chosen = random.Random(11).sample(names, 150)
    script = (
        'while read -r name; do echo "=$name $(modprobe -d "$1" -S "$2" -C /nonexistent --resolve-alias "$name" '
        '| sort -u | tr "\\n" " ")"; done'
    )
    said = run.output(["sh", "-c", script, "sh", top, kernel.version], input="\n".join(chosen).encode(), timeout=600)
    theirs = {line[1:].split()[0]: set(line.split()[1:]) for line in said.decode().splitlines()}
    ours = {name: set(found.modules) if (found := kernel.find(name)) else set() for name in theirs}
    assert len(theirs) > 100
    assert ours == theirs


def test_drivers_say_their_firmware_as_modinfo_does(kernel: Modules) -> None:
    for driver in nics.drivers(kernel):
        argv: list[str | Path] = ["modinfo", "--field", "firmware", kernel.path(driver.module)]
        theirs = run.output(argv, timeout=60).decode().split()
        assert list(driver.firmware) == list(dict.fromkeys(theirs)), driver.module


@pytest.fixture(scope="module", params=["trixie-amd64", "bookworm-amd64"])
def peer(
    request: pytest.FixtureRequest, root: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[chroot.Chroot, Modules, list[Path]]]:
    """A chroot with mkinitramfs, the kernel and the firmware packages in it."""
    needs("mmdebstrap")
    mirror = apt.host_mirror()
    top = tmp_path_factory.mktemp("tree")
    (top / "kernels").symlink_to(root / "kernels")
    found = kernels.qualified(top, cache, request.param)
    inputs, problems = images.inputs_of(root, cache, Initrd(), found, mirror)
    assert not problems
    with chroot.Chroot(
        chroot.base(cache, "trixie", ["busybox-static", "initramfs-tools", "zstd"], mirror=mirror)
    ) as place:
        place.copy_in(found.tree / "boot", "/boot")
        place.copy_in(inputs.kernel.directory, f"/usr/lib/modules/{found.abi}")
        for directory in inputs.firmware:
            place.copy_in(directory, "/usr/lib/firmware")
        yield place, modules(place.path, found.abi), [place.path / "usr/lib/firmware"]


def test_the_firmware_of_all_network_drivers_is_what_mkinitramfs_takes(
    peer: tuple[chroot.Chroot, Modules, list[Path]], tmp_path: Path
) -> None:
    place, kernel, directories = peer
    names = sorted(name for name, (path, _) in kernel.dependencies.items() if "/drivers/net/" in path)
    chosen = drivers.choose(drivers.parse("\n".join(names), "list"), kernel)
    assert set(chosen.modules) >= set(names)
    busybox = place.path / "usr/bin/busybox"
    inputs = build.Inputs(kernel, chosen, busybox, Path(__file__).parents[2] / "initrd", tuple(directories))
    ours = {_firmware_name(f"usr/lib/firmware/{name}") for name in build.plan(inputs).firmware}

    place.run(["cp", "-a", "/etc/initramfs-tools", "/conf"])
    (place.path / "conf/initramfs.conf").write_text("MODULES=list\nCOMPRESS=zstd\nBUSYBOX=auto\n")
    (place.path / "conf/modules").write_text("\n".join([*names, *build.BASE]) + "\n")
    place.run(["mkinitramfs", "-d", "/conf", "-o", "/theirs.img", kernel.version], timeout=600)
    image = (place.path / "theirs.img").read_bytes()
    entries = [entry for segment in codecs.segments(image, "theirs") for entry in segment.entries]
    theirs = {
        _firmware_name(entry.name)
        for entry in entries
        if "lib/firmware/" in entry.name and entry.content and "regulatory" not in entry.name
    }
    assert len(theirs) > 80
    assert ours == theirs


def _firmware_name(path: str) -> str:
    return path.partition("lib/firmware/")[2].removesuffix(".xz").removesuffix(".zst")
