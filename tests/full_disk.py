"""Run in a mount namespace: publish to a filesystem that is too small, then make it bigger and publish again."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "src")]

from publishing import ssh_server  # noqa: E402

from openssi import run  # noqa: E402
from openssi.errors import Error  # noqa: E402
from openssi_build import settings  # noqa: E402
from openssi_build.publish import open_target, publish  # noqa: E402


def main(kind: str, base: Path) -> None:
    """Print one line when all went as it must."""
    top = base / "small/site"
    top.mkdir(parents=True)
    run.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", top])
    with contextlib.ExitStack() as stack:
        chosen = settings.Publish("here", str(top))
        if kind == "ssh":
            chosen = stack.enter_context(ssh_server(base / "small"))
        with open_target(chosen, base) as target:
            publish(base / "old", target, settings.Repository())
            before = (top / "dists/trixie/InRelease").read_bytes()
            try:
                publish(base / "repo", target, settings.Repository())
            except Error as problem:
                assert "No space left on device" in str(problem), problem
                assert "\n" not in str(problem), problem
            else:
                raise AssertionError("12 MB fit into 8")
            assert (top / "dists/trixie/InRelease").read_bytes() == before
            run.run(["mount", "-o", "remount,size=40m", top])
            result = publish(base / "repo", target, settings.Repository())
            assert result.kept > 0
        assert (top / "dists/trixie/InRelease").read_bytes() == (base / "repo/dists/trixie/InRelease").read_bytes()
    print("the old one stayed, then the new one came")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
