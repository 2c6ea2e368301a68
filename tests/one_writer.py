"""A process that publishes one made-up package after the other, each with boot images of its name: BASE GPG-HOME NAME FIRST COUNT BYTES."""

from __future__ import annotations

import random
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1] / "src")]

from gpgsigner import GpgSigner  # noqa: E402
from repositories import SmallRepository  # noqa: E402

from openssi_build import repository  # noqa: E402


def main(base: Path, home: Path, name: str, first: int, count: int, size: int) -> None:
    """Publish packages NAME-FIRST and so on, saying who is waited for and what is public."""
    site = SmallRepository(base, GpgSigner(home))
    for number in range(first, first + count):
        new = [site.deb(f"{name}-{number}", body=random.Random(number).randbytes(size))]
        snapshot = repository.publish(
            site.repo, new, settings=site.settings, cache=base / "cache", signer=site.signer,
            boot_images=[site.images(f"{name}-{number}")],
            waiting=lambda holder: print(f"waiting for {holder}", flush=True),
        )  # fmt: skip
        print(f"{name}-{number} is in snapshot {snapshot.number}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], *(int(word) for word in sys.argv[4:7]))
