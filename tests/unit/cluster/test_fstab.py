import pytest
from hypothesis import given
from hypothesis import strategies as st

from openssi.cluster import fstab
from openssi.errors import Error

FSTAB = """\
# /etc/fstab: static file system information.
UUID=1-2 /               ext4    errors=remount-ro 0       1
UUID=3-4 /home           ext4    defaults        0       2
UUID=5-6\tnone\tswap\tsw\t0\t0
tmpfs /scratch tmpfs size=10m 0 0
/dev/sr0        /media/cdrom0   udf,iso9660 user,noauto     0       0
bigbox:/x /x nfs4 ro 0 0
/dev/sdb1 /short xfs
"""


def test_lines_are_given_to_their_nodes_and_nothing_else_changes() -> None:
    assert fstab.mark(FSTAB, 3).split("\n") == [
        "# /etc/fstab: static file system information.",
        "UUID=1-2 /               ext4    errors=remount-ro,x-ssi.node=3 0       1",
        "UUID=3-4 /home           ext4    defaults,x-ssi.node=3        0       2",
        "UUID=5-6\tnone\tswap\tsw,x-ssi.node=3\t0\t0",
        "tmpfs /scratch tmpfs size=10m,x-ssi.node=* 0 0",
        "/dev/sr0        /media/cdrom0   udf,iso9660 user,noauto,x-ssi.node=*     0       0",
        "bigbox:/x /x nfs4 ro,x-ssi.node=3 0 0",
        "/dev/sdb1 /short xfs\tdefaults,x-ssi.node=3",
        "",
    ]


def test_marking_twice_changes_nothing_more() -> None:
    once = fstab.mark(FSTAB, 1)
    assert fstab.mark(once, 2) == once


def test_the_original_comes_back_exactly() -> None:
    assert fstab.restored(fstab.mark(FSTAB, 1), FSTAB, 1) == FSTAB


def test_what_was_added_meanwhile_stays() -> None:
    current = fstab.add_swap(fstab.mark(FSTAB, 1), "/dev/vda", 2)
    assert fstab.restored(current, FSTAB, 1).endswith("/dev/vda\tnone\tswap\tsw,nofail\t0\t0\n")
    assert fstab.OPTION not in fstab.restored(current, FSTAB, 1)


def test_other_disks_are_exported_but_not_the_root_nor_what_is_remote() -> None:
    assert fstab.exported(FSTAB, 3) == fstab.exported(fstab.mark(FSTAB, 3), 3) == ["/home", "/short"]


def test_what_another_node_or_each_node_mounts_is_not_exported() -> None:
    text = "/dev/sdb1 /two ext4 x-ssi.node=2 0 0\n/dev/sdc1 /each ext4 x-ssi.node=* 0 0\n/dev/sdd1 /first xfs x-ssi.node=1:2\n"
    assert fstab.exported(text, 1) == ["/first"]
    assert fstab.exported(text, 2) == ["/two"]


@pytest.mark.parametrize(
    ("point", "found"),
    [
        ("/var", ["/var"]),
        ("/var/lib/", ["/var/lib/"]),
        ("/var/lib/nfs", ["/var/lib/nfs"]),
        ("/var/lib/nfs/rpc_pipefs", []),
        ("/var/log", []),
        ("/va", []),
        ("none", []),
    ],
)
def test_a_filesystem_that_covers_a_path_is_found(point: str, found: list[str]) -> None:
    text = f"UUID=1 / ext4 defaults 0 1\nUUID=2 {point} ext4 defaults 0 2\n"
    assert fstab.apart(text, 1, ["/var/lib/nfs", "/usr"]) == found
    assert fstab.apart(text.replace("defaults", "noauto"), 1, ["/var/lib/nfs", "/usr"]) == []


def test_swap_is_added_once_and_goes_with_its_node() -> None:
    text = fstab.add_swap(FSTAB, "/dev/vda", 2)
    assert text == FSTAB + "/dev/vda\tnone\tswap\tsw,nofail,x-ssi.node=2\t0\t0\n"
    assert fstab.add_swap(text, "/dev/vda", 2) == text
    assert fstab.add_swap(text, "/dev/vda", 3).count("/dev/vda") == 2
    assert fstab.drop_node(text, 2) == FSTAB


def test_a_device_that_is_something_else_is_refused() -> None:
    with pytest.raises(Error, match="/dev/sdb1 is there already: xfs on /short"):
        fstab.add_swap(FSTAB, "/dev/sdb1", 1)


@given(st.text(), st.integers(1, 125))
def test_any_text_is_marked_and_restored(text: str, number: int) -> None:
    assert fstab.restored(fstab.mark(text, number), text, number) == text


_WORD = st.sampled_from(["/dev/sda1", "UUID=1", "/", "none", "swap", "ext4", "defaults", "sw,x-ssi.node=2", "#", "0"])
_LINE = st.lists(_WORD, max_size=7).flatmap(
    lambda words: st.sampled_from([" ", "\t", "   "]).map(lambda s: s.join(words))
)


@given(st.lists(_LINE).map("\n".join), st.integers(1, 125))
def test_every_line_that_mounts_has_its_nodes_after_marking(text: str, number: int) -> None:
    marked = fstab.mark(text, number)
    assert all(entry.nodes for entry in fstab.entries(marked))
    assert len(fstab.entries(marked)) == len(fstab.entries(text))
    assert fstab.restored(marked, text, number) == text
