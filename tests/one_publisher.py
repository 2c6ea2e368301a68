"""A CI job as its own process: pull, add a package, publish; three times, beside another one that does the same."""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "src")]

from gpgsigner import GpgSigner  # noqa: E402
from publishing import SignedRepository  # noqa: E402

from openssi.errors import Error  # noqa: E402
from openssi_build import settings  # noqa: E402
from openssi_build.publish import open_target, publish, pull  # noqa: E402
from openssi_build.publish.publisher import Progress  # noqa: E402


class Told(Progress):
    """Prints what is said."""

    def say(self, line: str) -> None:
        print(line, flush=True)


def main(name: str, base: Path, gpg: Path) -> None:
    """Publish NAME0 to NAME2; Error when that does not work within ten attempts each."""
    noted = json.loads((base / "target.json").read_text())
    paths = {key: Path(noted[key]) for key in ("identity", "known_hosts") if key in noted}
    numbers = {key: int(noted[key]) for key in ("uploads", "wait_s")}
    chosen = settings.Publish(**{**noted, **paths, **numbers})
    (base / name).mkdir()
    site = SignedRepository(base / name, GpgSigner(gpg))
    for number in range(3):
        for attempt in range(10):
            try:
                with open_target(chosen, base) as target:
                    pull(site.repo, target, site.settings, site.keyring, progress=Told())
                    site.add(f"{name}{number}", "1.0")
                    publish(site.repo, target, site.settings, progress=Told())
                break
            except Error as problem:
                print(problem, flush=True)
                if "does not descend" not in str(problem) or attempt == 9:
                    raise


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
