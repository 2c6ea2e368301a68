"""The firmware files that drivers ask for, and the Debian packages that have them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# Where request_firmware looks (drivers/base/firmware_loader), and the endings it takes.
DIRECTORIES = ("usr/lib/firmware/updates", "usr/lib/firmware", "lib/firmware")
SUFFIXES = ("", ".xz", ".zst")

# Debian package by the beginning of the file's name; the longest that fits counts. Source: the Contents of trixie's
# main, non-free-firmware.
PACKAGES = {
    "3com/": "firmware-linux-free",
    "acenic/": "firmware-linux-nonfree",
    "adaptec/": "firmware-linux-nonfree",
    "advansys/": "firmware-linux-nonfree",
    "amd/": "firmware-amd-graphics",
    "ath10k/": "firmware-atheros",
    "ath11k/": "firmware-atheros",
    "ath12k/": "firmware-atheros",
    "ath6k/": "firmware-atheros",
    "ath9k_htc/": "firmware-ath9k-htc",
    "ar": "firmware-atheros",
    "bnx2/": "firmware-bnx2",
    "bnx2x/": "firmware-bnx2x",
    "bnx2x-": "firmware-bnx2x",
    "brcm/": "firmware-brcm80211",
    "carl9170": "firmware-carl9170",
    "cxgb3/": "firmware-misc-nonfree",
    "cxgb4/": "firmware-misc-nonfree",
    "e100/": "firmware-misc-nonfree",
    "intel/ice/": "firmware-misc-nonfree",
    "iwlwifi": "firmware-iwlwifi",
    "kaweth/": "firmware-linux-nonfree",
    "liquidio/": "firmware-cavium",
    "mellanox/": "firmware-misc-nonfree",
    "mediatek/": "firmware-mediatek",
    "mrvl/": "firmware-libertas",
    "myricom/": "firmware-myricom",
    "myri10ge": "firmware-myricom",
    "netronome/": "firmware-netronome",
    "phanfw": "firmware-netxen",
    "ql2": "firmware-qlogic",
    "qed/": "firmware-qlogic",
    "rtl_nic/": "firmware-realtek",
    "rtl_bt/": "firmware-realtek",
    "rtlwifi/": "firmware-realtek",
    "rtw88/": "firmware-realtek",
    "rtw89/": "firmware-realtek",
    "slicoss/": "firmware-misc-nonfree",
    "sun/": "firmware-linux-free",
    "tehuti/": "firmware-misc-nonfree",
    "ti-connectivity/": "firmware-ti-connectivity",
    "tigon/": "firmware-misc-nonfree",
    "vxge/": "firmware-misc-nonfree",
}


@dataclass(frozen=True)
class Missing:
    """A file that a driver may ask for and that is not there; ``package`` is empty when no Debian package is known."""

    module: str
    name: str
    package: str


def package_of(name: str) -> str:
    """Return the Debian package that has the firmware file ``name``, or an empty string."""
    fitting = [start for start in PACKAGES if name.startswith(start)]
    return PACKAGES[max(fitting, key=len)] if fitting else ""


def locate(name: str, directories: Sequence[Path]) -> list[Path]:
    """Return the files that ``name`` (which may be a pattern, as in .modinfo) stands for, as shipped; empty when none."""
    for directory in directories:
        for suffix in SUFFIXES:
            if any(letter in name for letter in "*?["):
                found = sorted(path for path in directory.glob(name + suffix) if path.is_file())
                if found:
                    return found
            elif (directory / (name + suffix)).is_file():
                return [directory / (name + suffix)]
    return []


def directories(root: Path, version: str) -> list[Path]:
    """Return the directories below ``root`` where kernel ``version`` looks for firmware, first one first."""
    return [path for top in DIRECTORIES for path in (root / top / version, root / top) if path.is_dir()]
