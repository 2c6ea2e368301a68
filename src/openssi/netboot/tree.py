"""The plan of the tftp tree: every file's name and content, from nodes, images and loaders. Nothing is written here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from openssi.errors import Error
from openssi.netboot import loaders
from openssi.netboot.images import Image, Served, served
from openssi.netboot.network import Network, Node, entry_name, node_arguments

if TYPE_CHECKING:
    import jinja2

NOTICE = "Written by ssi-ksync; changes are lost."
IMAGES = "boot"
# Directories that hold nothing but entries of ours: what the plan does not name is removed from them.
ENTRIES = ("pxelinux.cfg", "ssi", "ipxe", "grub")
_CONSOLE = re.compile(r"\bconsole=ttyS0(?:,(\d+))?")


@dataclass(frozen=True)
class Plan:
    """What the tree shall be. All names are relative to its top.

    ``images`` and ``loaders`` are copied, ``entries`` written, ``links`` lead to images. An image's name changes with
    its content, so that what a booting node reads stays as it is.
    """

    images: dict[str, Path] = field(default_factory=dict)
    loaders: dict[str, Path] = field(default_factory=dict)
    entries: dict[str, str] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)


def templates() -> Path:
    """Return the directory of the templates: in the checkout, or where the package has it."""
    checkout = Path(__file__).resolve().parents[3] / "netboot"
    return checkout if checkout.is_dir() else Path("/usr/share/openssi/netboot")


def environment(directory: Path | None = None) -> jinja2.Environment:
    """Return the Jinja2 environment of the boot scripts: an unknown name in a template is an error."""
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(directory or templates()),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - scripts, not HTML
    )


def plan(
    on: Network | None,
    nodes: Iterable[Node],
    images: Sequence[Image],
    with_loaders: Mapping[str, Path],
    *,
    arguments: str = "",
) -> Plan:
    """Return the tree for ``nodes``; the first of ``images`` is what they boot, the others can be chosen at the console.

    Without a network (a tree that is made before there is a cluster) there are no nodes, and every machine waits to be
    added; ``arguments`` then stand for the network's.
    """
    if not images:
        raise Error("network boot: no kernel with an initrd to serve", hint="mkinitrd makes the initrd")
    names = [served(image) for image in images]
    result = Plan(loaders=dict(with_loaders))
    for image, name in zip(images, names, strict=True):
        result.images[name.kernel] = image.kernel
        result.images[name.initrd] = image.initrd
    result.links["vmlinuz"] = names[0].kernel
    result.links["initrd.img"] = names[0].initrd
    _Writer(on, names, on.arguments if on else arguments).write(result.entries, sorted(nodes, key=lambda n: n.number))
    return result


class _Writer:
    """Renders the entries of one plan; the templates are compiled once."""

    def __init__(self, on: Network | None, images: Sequence[Served], extra: str) -> None:
        self.on = on
        self.extra = " ".join(extra.split())
        console = _CONSOLE.search(self.extra)
        self.common = {
            "notice": NOTICE,
            "images": images,
            "bios": loaders.BIOS,
            "extra": self.extra,
            "serial": (console[1] or "115200") if console else "",
            "http": f"http://{on.address}/" if on and on.http else "",
        }
        environ = environment()
        self.templates = {
            name: environ.get_template(name)
            for name in ("pxelinux.cfg", "boot.ipxe", "node.ipxe", "medium.ipxe", "grub.cfg", "node.cfg")
        }

    def write(self, entries: dict[str, str], nodes: Sequence[Node]) -> None:
        entries["ipxe/boot.ipxe"] = self._render("boot.ipxe", None, "")
        entries["ipxe/medium.ipxe"] = self._render("medium.ipxe", None, "")
        entries["grub/grub.cfg"] = self._render("grub.cfg", None, "")
        self._machine(entries, "default", None, self.extra)
        for node in nodes:
            if self.on is None:
                raise Error(f"node {node.number}: its entry needs the interconnect's addresses")
            name = entry_name(node.mac)
            if f"ssi/{name}" in entries:
                raise Error(f"node {node.number}: {node.mac} belongs to another node too")
            own = node_arguments(node, self.on)
            parameters = [own, *(word for word in self.extra.split() if word.startswith("ssi."))]
            entries[f"ssi/{name}"] = " ".join(parameters) + "\n"
            self._machine(entries, name, node, f"{own} BOOTIF={name} {self.extra}".strip())

    def _machine(self, entries: dict[str, str], name: str, node: Node | None, arguments: str) -> None:
        entries[f"pxelinux.cfg/{name}"] = self._render("pxelinux.cfg", node, arguments)
        entries[f"ipxe/{name}.ipxe"] = self._render("node.ipxe", node, arguments)
        entries[f"grub/{name}.cfg"] = self._render("node.cfg", node, arguments)

    def _render(self, template: str, node: Node | None, arguments: str) -> str:
        return self.templates[template].render(self.common, node=node, arguments=arguments)
