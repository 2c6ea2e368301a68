"""One qemu machine with its serial console: the node side has it, since `mkinitrd --verify` boots images too."""

from openssi.qemu import QEMU, Machine, accelerator, qemu_command

__all__ = ["QEMU", "Machine", "accelerator", "qemu_command"]
