"""Network boot: what lies in the tftp tree, how it is replaced under booting nodes, and who gets what by DHCP.

``network`` says what a server and a node are here, ``tree`` plans the files, ``sync`` puts them in place,
``dhcp`` writes dnsmasq's configuration, ``loaders`` and ``images`` find what Debian's packages and /boot hold.
"""

from openssi.netboot.network import Network, Node

__all__ = ["Network", "Node"]
