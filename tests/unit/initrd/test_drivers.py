from __future__ import annotations

from pathlib import Path

import pytest

from openssi.errors import Error
from openssi.initrd import drivers
from openssi.kernel.modules import Modules


@pytest.fixture
def kernel(tmp_path: Path) -> Modules:
    directory = tmp_path / "6.1-test"
    directory.mkdir()
    names = ("e100", "e1000", "e1000e", "r8169", "snd-hda")
    (directory / "modules.dep").write_text("".join(f"kernel/{name}.ko:\n" for name in names))
    (directory / "modules.alias").write_text("alias pci:v00008086d0000100Esv*sd*bc*sc*i* e1000\nalias my-nic r8169\n")
    (directory / "modules.builtin").write_text("kernel/virtio_pci.ko\n")
    return Modules(directory)


def _choose(text: str, kernel: Modules) -> drivers.Chosen:
    return drivers.choose(drivers.parse(text, "modules"), kernel)


def test_names_aliases_ids_and_patterns_are_accepted_in_order(kernel: Modules) -> None:
    assert _choose("r8169  # Realtek\n\n# none\n8086:100e\ne1000*\n", kernel).modules == ("r8169", "e1000", "e1000e")
    assert _choose("my-nic\nsnd_hda", kernel).modules == ("r8169", "snd_hda")


def test_options_stand_behind_the_name(kernel: Modules) -> None:
    assert _choose("e1000 debug=1 x=2\ne1000 y=3", kernel).options == {"e1000": ("debug=1", "x=2", "y=3")}


def test_an_old_name_still_works_and_is_said_once(kernel: Modules) -> None:
    chosen = _choose("eepro100\n", kernel)
    assert chosen.modules == ("e100",)
    assert chosen.notes == ("modules:1: 'eepro100' is called 'e100' today",)


def test_a_builtin_is_said_and_accepted(kernel: Modules) -> None:
    chosen = _choose("virtio_pci\n", kernel)
    assert (chosen.modules, chosen.builtin) == ((), ("virtio_pci",))
    assert "built into" in chosen.notes[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("e1000\ne1001\n", r"modules:2: kernel 6.1-test has no module 'e1001' \(did you mean e100"),
        ("zzzzzz", "has no module 'zzzzzz'"),
        ("1234:5678", "no module of 6.1-test drives the PCI device 1234:5678"),
        ("q*", "no module of 6.1-test matches 'q\\*'"),
    ],
)
def test_what_no_kernel_has_is_an_error_with_the_nearest_names(text: str, message: str, kernel: Modules) -> None:
    with pytest.raises(Error, match=message):
        _choose(text, kernel)


def test_the_files_beside_the_list_are_read_in_order(tmp_path: Path) -> None:
    (tmp_path / "modules").write_text("a\n")
    (tmp_path / "modules.d").mkdir()
    (tmp_path / "modules.d/20-x").write_text("c\n")
    (tmp_path / "modules.d/10-x").write_text("b\n")
    (tmp_path / "modules.d/30-x.dpkg-old").write_text("d\n")
    assert [wish.name for wish in drivers.read(tmp_path / "modules")] == ["a", "b", "c"]
    with pytest.raises(Error, match="no such file"):
        drivers.read(tmp_path / "none")
