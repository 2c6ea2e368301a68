"""The machine that all other boot tests stand on."""

from pathlib import Path

import pytest

from openssi.errors import Error
from openssi_build.lab.qemu import Machine, accelerator, qemu_command

pytestmark = pytest.mark.boot


def test_the_accelerator_is_found_by_a_probe_that_ends() -> None:
    assert accelerator() in ("kvm", "tcg")


def test_seabios_is_heard_on_the_console_and_a_missing_line_is_an_error(tmp_path: Path) -> None:
    argv = [*qemu_command("bios", memory_mib=64, machine="q35,graphics=off"), "-boot", "n"]
    with Machine("bios", argv, tmp_path) as machine:
        machine.wait("No bootable device", 60)
        with pytest.raises(Error, match="not seen in 1 s"):
            machine.wait("never said", 1)
    assert not machine.running


def test_a_qemu_that_refuses_its_arguments_is_an_error_with_its_words(tmp_path: Path) -> None:
    with (
        Machine("bad", [*qemu_command("bad"), "-device", "no-such-device"], tmp_path) as machine,
        pytest.raises(Error, match="no-such-device"),
    ):
        machine.wait("anything", 20)
