"""The install guide, walked step by step at the consoles of virtual machines; the tests share the machines, in this order."""

from __future__ import annotations

import re
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import needs
from terminal import on_a_terminal
from tour import Tour, empty, proxy

from openssi import run
from openssi.cluster import create
from openssi_build.lab import cluster, guide, image, tending
from openssi_build.lab.cluster import Lab
from openssi_build.lab.walk import PROMPT

pytestmark = [pytest.mark.boot, pytest.mark.timeout(1500)]

_BOOT_S = 600  # a Debian userland under tcg on a loaded machine


@pytest.fixture(scope="module")
def walk(root: Path, cache: Path, built_repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tour]:
    """A Debian machine that was just installed, as section 1 of the guide leaves it, and a repository to install from."""
    needs("qemu-system-x86_64", "mmdebstrap", "vde_switch", "tinyproxy")
    directory = tending.directory(tmp_path_factory.mktemp("walk"))
    disk = image.disk(cache, image.Machine(), log_to=directory / "disk.log")
    with Lab(directory, built_repo) as lab:
        tour = Tour(lab, guide.read(root, lab.url, cluster.CARD, cluster.NETWORK))
        floppy, stick = directory / "floppy.img", directory / "stick.img"
        extra = [*cluster.floppy_words(empty(floppy, 1440 * 2**10)), *cluster.stick_words(empty(stick, 64 * 2**20))]
        tour.boot(disk, extra=extra)
        yield tour


def test_1_1_debian_13_is_installed_and_nothing_of_the_cluster(walk: Tour) -> None:
    assert "VERSION_CODENAME=trixie" in walk.ok("cat /etc/os-release")
    assert "openssi" not in walk.ok("dpkg-query -W")
    walk.reached.add("1")


def test_1_2_the_root_is_ext4_and_boot_a_directory_of_it(walk: Tour) -> None:
    walk.needs("1")
    assert re.search(r"^ext4\s+/dev/vda1", walk.ok("findmnt -no FSTYPE,SOURCE /"), re.MULTILINE)
    assert "vmlinuz" in walk.ok("ls /boot; findmnt /boot || true")


def test_1_3_grub_is_on_the_first_disk(walk: Tour) -> None:
    walk.needs("1")
    assert "GRUB" in walk.ok("head -c 512 /dev/vda | grep -ao GRUB")


def test_1_4_the_interconnect_has_a_static_address(walk: Tour) -> None:
    walk.needs("1")
    walk.give_address()
    assert f"{cluster.NETWORK}.1/24" in walk.ok(f"ip -4 -br address show {cluster.CARD}")
    walk.reached.add("1.4")


def test_1_5_a_firewall_lets_in_what_the_guide_lists_and_nothing_else(walk: Tour) -> None:
    walk.needs("1.4")
    rules = walk.steps["step-1-5"]
    # ssi-create lists the same ports.
    ports = {
        protocol: set(re.findall(rf"{protocol} dport {{ (.*) }}", "\n".join(rules))[0].split(", "))
        for protocol in ("udp", "tcp")
    }
    for protocol, open_ports in ports.items():
        told = [words for words, _ in create.FIREWALL if protocol in words]
        assert open_ports == set(re.findall(r"\d+", " ".join(told)))
    # All that follows goes through it.
    walk.append("/etc/nftables.conf", rules)
    walk.ok("systemctl enable --now nftables && nft list chain inet interconnect input")


def test_2_1_the_source_and_its_key(walk: Tour) -> None:
    walk.needs("1.4")
    walk.name_the_repository()
    walk.reached.add("2.1")


def test_2_2_the_pin(walk: Tour) -> None:
    walk.needs("2.1")
    walk.pin_the_repository()
    assert "release o=OpenSSI" in walk.ok("cat /etc/apt/preferences")
    walk.reached.add("2.2")


def test_2_3_a_proxy_by_its_variable(walk: Tour, tmp_path: Path) -> None:
    walk.needs("2.2")
    with proxy(tmp_path) as (port, log):
        for line in walk.steps["step-2-3"]:
            walk.ok(re.sub(r"http://proxy[^ ]*", f"http://{cluster.HOST}:{port}", line))
        # What the proxy reaches, the guest alone does not: its 127.0.0.1 is another.
        walk.ok("sed -i s,//10.0.2.2:,//127.0.0.1:, /etc/apt/sources.list")
        said = walk.ok("apt-get update 2>&1 | cat")
    assert not re.search(r"^[WE]:", said, re.MULTILINE), said
    assert "InRelease" in log.read_text()
    walk.ok("unset http_proxy; sed -i s,//127.0.0.1:,//10.0.2.2:, /etc/apt/sources.list")


def test_2_1_the_file_that_the_repository_offers_works_as_well(walk: Tour) -> None:
    walk.needs("2.2")
    walk.follow("step-2-1-file")
    file = "/etc/apt/sources.list.d/openssi.sources"
    walk.ok(f"sed -i -e 's,^URIs:.*,URIs: {walk.lab.url},' -e '/^Enabled: no/d' {file}")
    said = walk.ok("apt-get update 2>&1 | cat")
    assert not re.search(r"^(W|E):(?!.*configured multiple times)", said, re.MULTILINE), said
    walk.ok(f"mv {file} /root/")


def test_2_2_the_old_pin_by_host_works_as_well(walk: Tour) -> None:
    walk.needs("2.2")
    walk.ok("apt-get update 2>&1 | cat")
    assert re.search(r"~openssi2 1001", walk.ok("apt-cache policy procps"))
    walk.ok(f"sed -i 's,^Pin: release.*,Pin: origin {cluster.HOST},' /etc/apt/preferences")
    said = walk.ok("apt-cache policy procps")
    assert re.search(r"Candidate: \S+~openssi2", said) and re.search(r"~openssi2 1001", said)
    walk.ok("sed -i 's,^Pin: origin.*,Pin: release o=OpenSSI,' /etc/apt/preferences")


def test_2_4_dist_upgrade_downgrades_what_the_cluster_has_its_own_version_of(walk: Tour) -> None:
    walk.needs("2.2")
    walk.upgrade()
    walk.ok("test -e /etc/apt/preferences.d/openssi.pref")
    assert "~openssi2" in walk.ok("dpkg-query -W -f '${Version}' procps")
    assert "is not a node" in walk.one.command("ps --node all", 60)[1]
    walk.reached.add("2.4")


def test_2_5_a_driver_may_be_named_before_the_package_is_there(walk: Tour) -> None:
    walk.needs("2.4")
    walk.ok("mkdir -p /etc/mkinitrd")
    walk.append("/etc/mkinitrd/modules", ["virtio_net", "e1000", "eepro100"])
    walk.reached.add("2.5")


def test_2_6_the_package_asks_and_makes_the_first_node(walk: Tour) -> None:
    walk.needs("2.5")
    walk.install()
    table = walk.ok("cat /etc/clustertab")
    assert re.search(r"^1\s+10\.10\.0\.1\s+52:54:00:0a:0a:01\s+P\s+1\s+-$", table, re.MULTILINE)
    walk.reached.add("2.6")


def test_2_7_the_first_node_is_up_after_a_reboot(walk: Tour) -> None:
    walk.needs("2.6")
    walk.restart()
    assert "0 loaded units" in walk.ok("systemctl --failed --no-pager | cat")
    assert "drop" in walk.ok("nft list chain inet interconnect input")
    walk.reached.add("2.7")


def test_3_1_a_floppy_and_a_stick_are_written(walk: Tour) -> None:
    walk.needs("2.7")
    walk.ok("modprobe floppy")
    walk.follow("step-3-1")
    fetch, write = walk.steps["step-3-1-stick"]
    walk.ok(fetch)
    walk.ok(write.replace("sdX", "sda"))
    walk.ok("sync; blockdev --flushbufs /dev/fd0; cmp -n $(stat -c %s etherboot.usb) etherboot.usb /dev/sda")
    published = next(walk.lab.repo.glob(f"dists/*/*/{cluster.FLOPPY}")).read_bytes()
    assert (walk.lab.directory / "floppy.img").read_bytes()[: len(published)] == published
    shutil.copy(walk.lab.directory / "floppy.img", walk.lab.directory / "carried-over.img")
    walk.ok("rm etherboot.*")
    walk.reached.add("3.1")


def test_3_2_and_4_2_a_driver_for_a_card_that_the_boot_image_cannot_drive(walk: Tour) -> None:
    walk.needs("3.1")
    # The card has no boot ROM either: the machine starts from the floppy that the first node has written.
    argv = cluster.floppy_command(3, walk.lab.switch, walk.lab.directory / "carried-over.img")
    three = walk.lab.start(3, argv)
    three.wait(
        r"ssi: error: no network interface: PCI network devices here: 10ec:8139; drivers in this image: ", _BOOT_S
    )
    three.kill()
    walk.append("/etc/mkinitrd/modules", ["8139cp"])
    walk.until("ssi-status", r"is older than .*/etc/mkinitrd/modules", 20)
    walk.follow("step-3-2")
    walk.meet(3, argv)
    walk.ok("ssi-addnode --yes --node-number 3 --mac waiting --boot-protocol E")
    walk.reached.add("3.2")


def test_3_3_a_new_machine_says_its_address_and_waits(walk: Tour) -> None:
    walk.needs("2.7")
    walk.meet(2, walk.node_2())
    walk.reached.add("3.3")


def test_4_3_a_machine_that_was_added_under_another_address_only_waits(walk: Tour) -> None:
    walk.needs("3.3")
    walk.ok(f"ssi-addnode --yes --node-number 8 --mac {cluster.mac(8)} --boot-protocol P")
    time.sleep(10)
    assert "mounting" not in walk.lab.machines[2].text
    walk.ok("ssi-rmnode --yes 8")


def test_3_4_ssi_addnode_offers_it_and_it_goes_on_by_itself(walk: Tour) -> None:
    walk.needs("3.3")
    walk.add(2, name="beta")
    walk.lab.machines[2].wait(PROMPT, _BOOT_S)
    walk.reached.add("3.4")


def test_3_4_and_3_2_three_nodes_are_up(walk: Tour) -> None:
    walk.needs("3.2")
    walk.needs("3.4")
    said = walk.until(walk.steps["step-3-4-verify"][0], r"^3: UP +node3 +10\.10\.0\.3 node", _BOOT_S)
    assert re.search(r"^1: UP +node1 ", said, re.MULTILINE) and re.search(r"^2: UP +beta ", said, re.MULTILINE)
    assert "nodeup 3" in walk.one.text
    walk.lab.machines[3].wait(PROMPT, _BOOT_S)
    assert walk.ok("cluster -v", on=3).strip() == walk.ok("cluster -v").strip()


def test_both_nodes_see_the_same_cluster_and_the_same_files(walk: Tour) -> None:
    walk.needs("3.4")
    view = walk.ok("cluster -v").strip()
    assert walk.ok("cluster -v", on=2).strip() == view
    walk.ok("echo written on one >/srv/shared")
    assert "written on one" in walk.ok("cat /srv/shared", on=2)
    walk.ok("echo written on two >/srv/back", on=2)
    assert "written on two" in walk.ok("cat /srv/back")
    assert "node1" in walk.ok("cat /etc/nodename")
    assert "beta" in walk.ok("cat /etc/nodename", on=2)
    assert walk.ok("cat /etc/machine-id") != walk.ok("cat /etc/machine-id", on=2)
    assert "2" in walk.ok("clusternode_num", on=2)
    assert "0 loaded units" in walk.ok("systemctl --failed --no-pager | cat", on=2)


def test_nothing_of_the_cluster_listens_beyond_the_interconnect(walk: Tour) -> None:
    walk.needs("3.4")
    # sshd is the administrator's own; the last one is DHCP's, for who has no address yet.
    elsewhere = {"0.0.0.0:22", "[::]:22", f"0.0.0.0%{cluster.CARD}:67"}
    for number in (1, 2):
        heard = set(walk.ok("ss -Htuln | awk '{ print $5 }'", on=number).split())
        assert f"{cluster.NETWORK}.{number}:7946" in heard
        assert {
            each for each in heard if not re.match(rf"{cluster.NETWORK}\.|127\.|\[(::1|fe80:|fd)", each)
        } <= elsewhere


def test_3_6_onnode_keeps_user_directory_status_and_input(walk: Tour) -> None:
    walk.needs("3.4")
    assert "beta" in walk.ok("onnode 2 hostname")
    assert "node1" in walk.ok("onnode 1 hostname", on=2)
    status, _ = walk.one.command("onnode 2 sh -c 'exit 7'", 60)
    assert status == 7
    assert "/srv" in walk.ok("(cd /srv && onnode 2 pwd)")
    assert "through" in walk.ok("echo through | onnode 2 cat")
    assert "alice" in walk.ok("su - alice -c 'onnode 2 id -un'")
    said = walk.ok("onall hostname")
    assert "beta" in said and "node1" in said
    assert re.search(r"^ +2 ", walk.ok("ps --node all -C systemd"), re.MULTILINE)


def test_apt_on_another_node_changes_the_root_on_the_init_node_and_dpkg_itself_refuses(walk: Tour) -> None:
    walk.needs("3.4")
    log = "grep -c ' status installed procps:' /var/log/dpkg.log"
    before = int(walk.ok(log).split()[-1])
    # It asks on this console and is typed there, as if it ran here.
    walk.ok("rm /usr/bin/free", on=2)
    said = walk.ok("apt-get -y install --reinstall procps 2>&1 | cat", timeout=600, on=2)
    assert "Setting up procps" in said
    assert int(walk.ok(log, on=2).split()[-1]) == before + 1
    walk.ok("free", on=2)
    # Debian's own programs, by their paths.
    said = walk.ok("/usr/bin/apt-get -y install --reinstall procps 2>&1 | cat", timeout=600, on=2)
    assert "packages are installed on the init node (onnode init apt-get" in said
    assert int(walk.ok(log).split()[-1]) == before + 1
    for number in (1, 2):
        assert walk.ok("dpkg --audit && echo whole", on=number).strip() == "whole"


def test_3_5_1_swap_by_one_command_and_by_hand(walk: Tour) -> None:
    walk.needs("3.4")
    question = (r"Write on /dev/sdb of node 2[\s\S]*\[y\]: $", "y")
    walk.dialogue(walk.steps["step-3-5-1"][0], [question], r"node 2 swaps on /dev/sdb1 ", 120)
    walk.one.wait(PROMPT, 60)
    keys = ("o", "n", "p", "1", "", "+200M", "n", "p", "2", "", "", "t", "2", "82", "w")
    walk.dialogue(walk.steps["step-3-5-1-fdisk"][0], [(r": $", key) for key in keys], PROMPT, 120)
    walk.follow("step-3-5-1-hand")
    said = walk.ok("onnode 2 swapon --noheadings --show=NAME")
    assert "/dev/sdb1" in said and "/dev/sda2" in said
    assert "sd" not in walk.ok("swapon --noheadings --show=NAME; true")
    walk.reached.add("3.5.1")


def test_3_5_2_a_local_boot_device(walk: Tour) -> None:
    walk.needs("3.5.1")
    said = walk.follow("step-3-5-2")
    assert re.search(r"node 2 boots from /dev/sda1 of its own \(UUID=\S+\)", said)
    assert re.search(r"^2\s.*\sUUID=[-0-9a-f]+$", walk.ok("cat /etc/clustertab"), re.MULTILINE)
    walk.reached.add("3.5.2")


def test_clocks_agree_and_status_has_nothing_to_complain_of(walk: Tour) -> None:
    walk.needs("3.4")
    assert re.search(r"node 2: [+-]0\.\d+ s from", walk.ok("ssi-timesync", timeout=200))
    said = walk.ok("ssi-status")
    assert "3 of 3 nodes UP" in said and "all is well" in said
    assert "up to date" in walk.ok("ssi-ksync --check", on=2)


def test_a_killed_node_is_down_and_comes_back_from_its_own_disk(walk: Tour) -> None:
    walk.needs("3.5.2")
    walk.lab.machines[2].kill()
    walk.one.wait(r"nodedown 2", 300)
    walk.one.send("\n")
    walk.until("cluster -v", r"^2: (?!UP)\w+", _BOOT_S)
    without_rom = [
        word.replace("bootindex=1", "romfile=") if word.startswith("virtio-net") else word for word in walk.node_2()
    ]
    two = walk.lab.start(2, without_rom)
    two.wait(r"ssi: mounting 10\.10\.0\.254:/ as node 2", _BOOT_S)
    walk.one.wait(r"nodeup 2", _BOOT_S)
    walk.one.send("\n")
    walk.until("cluster -v", r"^2: UP", _BOOT_S)
    two.wait(PROMPT, _BOOT_S)
    # The two disks may have exchanged their names.
    walk.until("swapon --noheadings --show=NAME", r"/dev/sd[ab][12]\s+/dev/sd[ab][12]", 60, on=2)
    assert "up to date" in walk.ok("ssi-ksync --check", on=2)


def test_a_node_is_shut_down_and_removed(walk: Tour) -> None:
    walk.needs("3.2")
    walk.ok("ssi-shutdown -h -n 3", timeout=400)
    assert walk.lab.machines[3].wait_end(300) == 0
    walk.one.send("\n")
    walk.ok("ssi-rmnode --yes 3")
    assert "node3" not in walk.ok("cluster -v; cat /etc/hosts /etc/clustertab; ls /cluster /tftpboot/ssi")


def test_a_network_cut_of_a_minute_is_noticed_and_what_was_written_is_there(walk: Tour) -> None:
    walk.needs("3.4")
    two = walk.lab.machines[2]
    walk.start_writing()
    two.set_link("card", False)
    walk.one.wait(r"nodedown 2", 300)
    time.sleep(60)
    two.set_link("card", True)
    walk.one.wait(r"nodeup 2", 300)
    walk.one.send("\n")
    walk.goes_on()
    walk.reached.add("cut")


def test_4_4_a_node_waits_for_the_init_node_that_reboots_and_loses_nothing(walk: Tour) -> None:
    walk.needs("cut")
    written = walk.numbers()
    heard = len(walk.lab.machines[2].text)
    walk.one.send("reboot\n")
    walk.come_back()
    walk.until("cluster -v", r"^2: UP", 300)
    walk.goes_on()
    assert walk.numbers() > written
    said = walk.lab.machines[2].text[heard:]
    assert re.search(r"nfs: server 10\.10\.0\.254 not responding[\s\S]*nfs: server 10\.10\.0\.254 OK", said)
    walk.reached.add("4.4")


def test_the_power_of_the_init_node_fails_while_nodes_are_added_and_removed(walk: Tour) -> None:
    walk.needs("4.4")
    add = f"ssi-addnode --yes --node-number 9 --mac {cluster.mac(9)} --boot-protocol P"
    walk.one.send(f"while {add} && ssi-rmnode --yes 9; do echo round $((n+=1)); done\n")
    walk.one.wait(r"^round 2", 300)
    time.sleep(1)  # into the third round, anywhere
    walk.one.kill()
    walk.come_back()
    walk.until("cluster -v", r"^2: UP", _BOOT_S)
    walk.goes_on()
    assert "0 loaded units" in walk.ok("systemctl --failed --no-pager | cat")
    # The node is in or out; either way the next command goes on from there.
    if re.search(r"^9\s", walk.ok("cat /etc/clustertab"), re.MULTILINE):
        walk.ok("ssi-rmnode --yes 9")
    walk.ok(f"{add} && ssi-rmnode --yes 9")
    assert "up to date" in walk.ok("ssi-ksync --check")
    assert not re.search(
        r"node9|\.(new|old)-", walk.ok("cat /etc/hosts /etc/clustertab /etc/fstab; ls -A /cluster /tftpboot/ssi")
    )
    walk.reached.add("power")


def test_4_1_the_server_runs_on_the_interconnect(walk: Tour) -> None:
    walk.needs("2.7")
    assert walk.follow("step-4-1").strip() == f"interface={cluster.CARD}"


def test_4_none_of_the_known_errors_is_said(walk: Tour) -> None:
    walk.needs("4.4")
    consoles = "".join(log.read_text(errors="replace") for log in walk.lab.directory.glob("node*.log"))
    # Those of the old guide, and those that no guide could explain.
    assert not re.findall(
        r"cpio: .*No such file.*|.*(?:BUG:|Oops|Call Trace|Kernel panic|Stale file handle).*", consoles
    )


def test_every_step_of_the_guide_was_typed(walk: Tour) -> None:
    walk.needs("4.4")
    assert walk.steps.keys() - walk.steps.taken == set()


def test_the_tasks_of_a_trial_cluster_look_at_it_and_end_it(walk: Tour, root: Path) -> None:
    walk.needs("4.4")
    top = walk.lab.directory.parent.parent
    tending.hand_over(walk.lab)
    shown = tending.status(top)
    assert re.search(r"^node1 +on +init node ", shown[1]) and re.search(r"^node2 +on +nodeup ", shown[2])
    assert shown[-2:] == [f"{'switch':<11} on", f"{'repository':<11} on"]
    walk.lab.machines[2].detach()
    program = (
        f"import sys; from openssi_build.lab import tending; sys.exit(tending.console(tending.Path({str(top)!r}), 2))"
    )
    code, said = on_a_terminal(
        ["env", f"PYTHONPATH={root / 'src'}", sys.executable, "-c", program],
        [(b"Ctrl-]", b"\r"), (b"beta# ", b"clusternode_num\r"), (b"\n2\r", b"\x1d")],
    )
    assert code == 0, said
    assert tending.power(top, 3) == "node3: switched on"
    assert re.search(r"^node3 +on ", tending.status(top)[3])
    assert tending.stop(top) == [1, 2, 3]
    assert tending.status(top) == ["no trial cluster: inv lab starts one"]
    assert not walk.lab.directory.exists()
    assert (top / "out/log/lab/node2.log").exists()
    assert not run.status(["pgrep", "--full", str(top)])[1]
