"""The install guide, walked step by step at the consoles of virtual machines; the tests share the machines, in this order."""

from __future__ import annotations

import base64
import contextlib
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import needs

from openssi import run
from openssi.netboot import media
from openssi.qemu import Machine
from openssi_build import apt, netboot, settings
from openssi_build.lab import cluster, guide, image
from openssi_build.lab.cluster import Lab

pytestmark = [pytest.mark.boot, pytest.mark.timeout(1500)]

_BOOT_S = 600  # a Debian userland under tcg on a loaded machine
_PROMPT = r"^# $"


class Walk:
    """The trial cluster, and how far the walk has come."""

    def __init__(self, lab: Lab, steps: dict[str, list[str]]) -> None:
        self.lab = lab
        self.steps = steps
        self.reached: set[str] = set()

    @property
    def one(self) -> Machine:
        """The first node."""
        return self.lab.machines[1]

    def needs(self, step: str) -> None:
        """Skip the calling test when ``step`` has failed: nothing can be told without it."""
        if step not in self.reached:
            pytest.skip(f"step {step} was not reached")

    def ok(self, line: str, timeout: float = 120, on: int = 1) -> str:
        """Type ``line`` on a node's console; return what it says. It must exit 0."""
        status, said = self.lab.machines[on].command(line, timeout)
        assert status == 0, f"{line}: exit status {status}:\n{said}"
        return said

    def write(self, path: str, lines: list[str]) -> None:
        """Append ``lines`` to a file of the first node, as an editor would."""
        text = base64.b64encode("".join(f"{line}\n" for line in lines).encode()).decode()
        self.ok(f"printf %s {text} | base64 -d >>{path}")

    def until(self, line: str, pattern: str, timeout: float, on: int = 1) -> str:
        """Repeat ``line`` until what it says matches ``pattern``."""
        end = time.monotonic() + timeout
        while True:
            _, said = self.lab.machines[on].command(line, 120)
            if re.search(pattern, said, re.MULTILINE):
                return said
            assert time.monotonic() < end, f"{line}: no {pattern!r} in {timeout} s:\n{said}"
            time.sleep(2)


@pytest.fixture(scope="module")
def walk(root: Path, cache: Path, built_repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walk]:
    """A Debian machine that was just installed, as section 1 of the guide leaves it, and a repository to install from."""
    needs("qemu-system-x86_64", "mmdebstrap", "vde_switch", "tinyproxy")
    directory = tmp_path_factory.mktemp("lab")
    disk = image.disk(cache, image.Machine(), log_to=directory / "disk.log")
    with Lab(directory, built_repo) as lab:
        lab.first(disk)
        yield Walk(lab, guide.read(root, lab.url))


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """A real HTTP proxy on the loopback: its port, and its log."""
    directory = tmp_path_factory.mktemp("proxy")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    log = directory / "log"
    conf = f'Port {port}\nListen 127.0.0.1\nLogFile "{log}"\nLogLevel Connect\nMaxClients 20\n'
    (directory / "conf").write_text(conf)
    process = run.start(["tinyproxy", "-d", "-c", directory / "conf"], log_to=directory / "out")
    end = time.monotonic() + 20
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            break
        time.sleep(0.1)
    yield port, log
    run.stop(process)


def test_1_debian_is_installed_with_grub_and_a_static_interconnect(walk: Walk) -> None:
    walk.one.wait(_PROMPT, _BOOT_S)
    assert "10.10.0.1/24" in walk.ok("ip -4 -br address show enp0s17")
    assert "root" in walk.ok("findmnt -no LABEL /")
    walk.reached.add("1")


def test_2_1_to_2_3_source_pin_and_proxy(walk: Walk, proxy: tuple[int, Path]) -> None:
    walk.needs("1")
    for line in walk.steps["step-2-1"]:
        walk.ok(line)
    walk.write("/etc/apt/sources.list", walk.steps["step-2-1-line"])
    walk.write("/etc/apt/preferences", walk.steps["step-2-2"])
    port, log = proxy
    for line in walk.steps["step-2-3"]:
        walk.ok(re.sub(r"http://proxy[^ ]*", f"http://10.0.2.2:{port}", line))
    update = f"{walk.steps['step-2-4'][0]} 2>&1 | cat"
    # What the proxy reaches, the guest alone does not: its 127.0.0.1 is another.
    walk.ok("sed -i s,//10.0.2.2:,//127.0.0.1:, /etc/apt/sources.list")
    assert not re.search(r"^[WE]:", walk.ok(update), re.MULTILINE)
    assert "InRelease" in log.read_text()
    walk.ok("unset http_proxy; sed -i s,//127.0.0.1:,//10.0.2.2:, /etc/apt/sources.list")
    assert not re.search(r"^[WE]:", walk.ok(update), re.MULTILINE)
    said = walk.ok("apt-cache policy procps")
    assert re.search(r"Candidate: \S+~openssi2", said)
    assert re.search(r"~openssi2 1001", said)
    walk.reached.add("2.3")


def test_2_1_the_file_that_the_repository_offers_works_as_well(walk: Walk) -> None:
    walk.needs("2.3")
    for line in walk.steps["step-2-1-file"]:
        walk.ok(line)
    file = "/etc/apt/sources.list.d/openssi.sources"
    walk.ok(f"sed -i -e 's,^URIs:.*,URIs: {walk.lab.url},' -e '/^Enabled: no/d' {file}")
    said = walk.ok("apt-get update 2>&1 | cat")
    assert not re.search(r"^(W|E):(?!.*configured multiple times)", said, re.MULTILINE), said
    walk.ok(f"mv {file} /root/")


def test_2_4_dist_upgrade_downgrades_what_the_cluster_has_its_own_version_of(walk: Walk) -> None:
    walk.needs("2.3")
    *prepared, upgrade = walk.steps["step-2-4"]
    for line in prepared:
        walk.ok(f"{line} 2>&1 | cat")
    walk.ok("test -e /etc/apt/preferences.d/openssi.pref")
    walk.one.send(f"{upgrade}\n")
    walk.one.wait(r"DOWNGRADED:\s+libproc2-0 procps", 120)
    walk.one.wait(r"\[Y/n\] ", 60)
    walk.one.send("y\n")
    walk.one.wait(_PROMPT, 300)
    assert "~openssi2" in walk.ok("dpkg-query -W -f '${Version}' procps")
    assert "is not a node" in walk.one.command("ps --node all", 60)[1]
    walk.reached.add("2.4")


def test_2_5_a_driver_may_be_named_before_the_package_is_there(walk: Walk) -> None:
    walk.needs("2.4")
    walk.ok("mkdir -p /etc/mkinitrd")
    walk.write("/etc/mkinitrd/modules", ["virtio_net", "e1000", "eepro100"])
    walk.reached.add("2.5")


def test_2_6_the_package_asks_and_makes_the_first_node(walk: Walk) -> None:
    walk.needs("2.5")
    one = walk.one
    one.send(f"{walk.steps['step-2-6'][0]}\n")
    one.wait(r"\[Y/n\] ", 60)
    one.send("y\n")
    for question, answer in (
        (r"first node of a cluster now\?.*\] ?", "yes"),
        (r"Number of this node.*: ?", "1"),
        (r"Network card of the interconnect.*: ?", "enp0s17"),
        (r"Network boot protocol.*: ?", "PXE"),
        (r"virtual IP address.*: ?", ""),
        (r"Name of the cluster.*: ?", "lab"),
        (r"other nodes reach too\?.*\] ?", "no"),
        (r"with these answers\?.*\] ?", "yes"),
    ):
        one.wait(question, 300)
        time.sleep(1)
        one.send(f"{answer}\n")
    one.wait(r"This machine is node 1 of lab\. Reboot it", 600)
    one.wait(_PROMPT, 120)
    table = walk.ok("cat /etc/clustertab")
    assert re.search(r"^1\s+10\.10\.0\.1\s+52:54:00:0a:0a:01\s+P\s+1\s+-$", table, re.MULTILINE)
    walk.reached.add("2.6")


def test_2_7_the_first_node_is_up_after_a_reboot(walk: Walk) -> None:
    walk.needs("2.6")
    walk.one.send(f"{walk.steps['step-2-7'][0]}\n")
    walk.lab.rebooted(1)
    walk.one.wait("login: root", _BOOT_S)
    walk.one.wait(_PROMPT, 120)
    walk.until("cluster -v", r"^1: UP +node1 +10\.10\.0\.1 init", _BOOT_S)
    assert "0 loaded units" in walk.ok("systemctl --failed --no-pager | cat")
    walk.reached.add("2.7")


def test_3_3_a_new_machine_says_its_address_and_waits(walk: Walk) -> None:
    walk.needs("2.7")
    disks = [walk.lab.directory / f"node2.{name}" for name in ("sda", "sdb")]
    for disk in disks:
        with disk.open("wb") as stream:
            stream.truncate(512 * 2**20)
    two = walk.lab.start(2, cluster.node_command(2, walk.lab.switch, extra=cluster.disk_words(*disks)))
    two.wait(r"ssi: this machine: 52:54:00:0a:0a:02", _BOOT_S)
    two.wait(r"waiting to be added", 60)
    walk.reached.add("3.3")


def test_3_4_ssi_addnode_offers_it_and_it_goes_on_by_itself(walk: Walk) -> None:
    walk.needs("3.3")
    one = walk.one
    one.send(f"{walk.steps['step-3-4'][0]}\n")
    for question, answer in (
        (r"Node number.*: $", "2"),
        (r"1\) 52:54:00:0a:0a:02[\s\S]*escan.*: $", "1"),
        (r"Address on the interconnect.*: $", ""),
        (r"\(P\)XE or \(E\)therboot.*: $", ""),
        (r"Nodename.*: $", "beta"),
        (r"Save.*: $", "y"),
    ):
        one.wait(question, 60)
        one.send(f"{answer}\n")
    one.wait(r"node 2 \(beta\) is in the cluster", 60)
    one.wait(r"nodeup 2", _BOOT_S)
    walk.one.send("\n")
    said = walk.until(walk.steps["step-3-4-verify"][0], r"^2: UP +beta +10\.10\.0\.2 node", _BOOT_S)
    assert re.search(r"^1: UP +node1 ", said, re.MULTILINE)
    walk.lab.machines[2].wait(_PROMPT, _BOOT_S)
    walk.reached.add("3.4")


def test_both_nodes_see_the_same_cluster_and_the_same_files(walk: Walk) -> None:
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


def test_onnode_keeps_user_directory_status_and_input(walk: Walk) -> None:
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


def test_package_tools_on_another_node_work_for_the_cluster(walk: Walk) -> None:
    walk.needs("3.4")
    said = walk.ok("apt-get -s install --reinstall procps 2>&1 | cat", timeout=300, on=2)
    assert "procps" in said
    assert "~openssi2" in walk.ok("dpkg-query -W -f '${Version}' procps", on=2)


def test_3_5_1_swap_by_one_command_and_by_hand(walk: Walk) -> None:
    walk.needs("3.4")
    one = walk.one
    one.send(f"{walk.steps['step-3-5-1'][0]}\n")
    one.wait(r"Write on /dev/sdb of node 2[\s\S]*\[y\]: $", 120)
    one.send("y\n")
    one.wait(r"node 2 swaps on /dev/sdb1 ", 120)
    one.wait(_PROMPT, 60)
    one.send(f"{walk.steps['step-3-5-1-fdisk'][0]}\n")
    for key in ("o", "n", "p", "1", "", "+200M", "n", "p", "2", "", ""):
        one.wait(r": $", 60)
        one.send(f"{key}\n")
    for key in ("t", "2", "82"):
        one.wait(r": $", 60)
        one.send(f"{key}\n")
    one.wait(r"Command .*: $", 60)
    one.send("w\n")
    one.wait(_PROMPT, 120)
    for line in walk.steps["step-3-5-1-hand"]:
        walk.ok(line)
    said = walk.ok("onnode 2 swapon --noheadings --show=NAME")
    assert "/dev/sdb1" in said and "/dev/sda2" in said
    assert "sd" not in walk.ok("swapon --noheadings --show=NAME; true")
    walk.reached.add("3.5.1")


def test_3_5_2_a_local_boot_device(walk: Walk) -> None:
    walk.needs("3.5.1")
    for line in walk.steps["step-3-5-2"]:
        said = walk.ok(line, timeout=300)
    assert re.search(r"node 2 boots from /dev/sda1 of its own \(UUID=\S+\)", said)
    assert re.search(r"^2\s.*\sUUID=[-0-9a-f]+$", walk.ok("cat /etc/clustertab"), re.MULTILINE)
    walk.reached.add("3.5.2")


def test_clocks_agree_and_status_has_nothing_to_complain_of(walk: Walk) -> None:
    walk.needs("3.4")
    assert re.search(r"node 2: [+-]0\.\d+ s from", walk.ok("ssi-timesync", timeout=200))
    said = walk.ok("ssi-status")
    assert "2 of 2 nodes UP" in said and "all is well" in said
    assert "up to date" in walk.ok("ssi-ksync --check", on=2)


def test_a_killed_node_is_down_and_comes_back_from_its_own_disk(walk: Walk) -> None:
    walk.needs("3.5.2")
    walk.lab.machines[2].kill()
    walk.one.wait(r"nodedown 2", 300)
    walk.one.send("\n")
    walk.until("cluster -v", r"^2: (?!UP)\w+", _BOOT_S)
    disks = [walk.lab.directory / f"node2.{name}" for name in ("sda", "sdb")]
    command = cluster.node_command(2, walk.lab.switch, extra=cluster.disk_words(*disks))
    without_rom = [
        word.replace("bootindex=1", "romfile=") if word.startswith("virtio-net") else word for word in command
    ]
    two = walk.lab.start(2, without_rom)
    two.wait(r"ssi: mounting 10\.10\.0\.254:/ as node 2", _BOOT_S)
    walk.one.wait(r"nodeup 2", _BOOT_S)
    walk.one.send("\n")
    walk.until("cluster -v", r"^2: UP", _BOOT_S)
    two.wait(_PROMPT, _BOOT_S)
    # The two disks may have exchanged their names.
    walk.until("swapon --noheadings --show=NAME", r"/dev/sd[ab][12]\s+/dev/sd[ab][12]", 60, on=2)
    assert "up to date" in walk.ok("ssi-ksync --check", on=2)


def test_3_1_and_3_2_a_floppy_for_a_card_that_cannot_boot_and_a_driver_for_it(
    walk: Walk, root: Path, cache: Path
) -> None:
    walk.needs("3.4")
    repository = settings.load(root).repository
    loaders = netboot.fetch(cache, repository.suite, "amd64", apt.mirror(repository))
    (floppy,) = media.make(walk.lab.directory, media.parts(loaders.tree), kinds=(media.FLOPPY,))
    command = cluster.floppy_command(3, walk.lab.switch, floppy)
    three = walk.lab.start(3, command)
    three.wait(r"no network interface: PCI network devices here: 10ec:8139; drivers in this image: ", _BOOT_S)
    three.kill()
    walk.write("/etc/mkinitrd/modules", ["8139cp"])
    walk.until("ssi-status", r"is older than .*/etc/mkinitrd/modules", 20)
    for line in walk.steps["step-3-2"]:
        walk.ok(line, timeout=300)
    three.start()
    three.wait(r"waiting to be added", _BOOT_S)
    walk.ok("ssi-addnode --yes --mac waiting --boot-protocol E")
    walk.one.wait(r"nodeup 3", _BOOT_S)
    walk.one.send("\n")
    walk.until("cluster -v", r"^3: UP +node3 +10\.10\.0\.3 node", _BOOT_S)
    walk.reached.add("3.1")


def test_a_node_is_shut_down_and_removed(walk: Walk) -> None:
    walk.needs("3.1")
    walk.ok("ssi-shutdown -h -n 3", timeout=400)
    assert walk.lab.machines[3].wait_end(300) == 0
    walk.one.send("\n")
    walk.ok("ssi-rmnode --yes 3")
    assert "node3" not in walk.ok("cluster -v; cat /etc/hosts /etc/clustertab; ls /cluster /tftpboot/ssi")


def test_a_network_cut_of_a_minute_is_noticed_and_survived(walk: Walk) -> None:
    walk.needs("3.4")
    two = walk.lab.machines[2]
    two.send("while :; do date +%s >>/srv/beat; sleep 1; done &\n")
    walk.until("wc -l </srv/beat", r"^[1-9]", 60)
    two.set_link("card", False)
    walk.one.wait(r"nodedown 2", 300)
    time.sleep(60)
    two.set_link("card", True)
    walk.one.wait(r"nodeup 2", 300)
    walk.one.send("\n")
    # Before it, the console may show the line that was typed.
    before = int(re.findall(r"\d+", walk.ok("wc -l </srv/beat"))[-1])
    walk.until("wc -l </srv/beat", rf"^(?!{before}\s*$)\d+", 120)
    walk.reached.add("cut")


def test_a_node_is_still_in_the_cluster_after_the_init_node_has_rebooted(walk: Walk) -> None:
    walk.needs("cut")
    walk.one.send("reboot\n")
    walk.lab.rebooted(1)
    walk.one.wait("login: root", _BOOT_S)
    walk.one.wait(_PROMPT, 120)
    walk.until("cluster -v", r"^2: UP", 300)
