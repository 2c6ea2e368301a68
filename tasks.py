"""The tasks of `./inv`: each parses its flags and calls one function."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from itertools import pairwise
from pathlib import Path
from typing import Any

from invoke.context import Context
from invoke.exceptions import ParseError
from invoke.parser.argument import Argument
from invoke.tasks import Task
from invoke.tasks import task as invoke_task

ROOT = Path(__file__).resolve().parent
OUT = ROOT / "out"
sys.path.insert(0, str(ROOT / "src"))


def task(**options: Any) -> Callable[[Callable[..., None]], Any]:
    """Like invoke's task, but an Error becomes one line on stderr and exit status 1."""

    def decorate(body: Callable[..., None]) -> Any:
        @wraps(body)
        def guarded(*arguments: Any, **flags: Any) -> None:
            from openssi.errors import Error

            try:
                body(*arguments, **flags)
            except Error as problem:
                print(f"error: {problem}", file=sys.stderr)
                sys.exit(1)
            except KeyboardInterrupt:
                print("interrupted", file=sys.stderr)
                sys.exit(130)

        return invoke_task(guarded, **{"klass": OurTask, **options})

    return decorate


def number(text: str) -> int:
    """Return ``text`` as a number; ParseError, which invoke shows as one line, when it is none."""
    try:
        return int(text)
    except ValueError:
        raise ParseError(f"error: {text}: expected a number") from None


class OurTask(Task[Any]):
    """A task that refuses words for numbers without a traceback, and that --help explains even where a word is due."""

    def get_arguments(self, ignore_unknown_help: bool | None = None) -> list[Argument]:
        """Return the arguments; with --help none of them takes it for its own value."""
        arguments: list[Argument] = super().get_arguments(ignore_unknown_help)
        for argument in arguments:
            if not {"--help", "-h"}.isdisjoint(sys.argv):
                argument.positional = False
            elif argument.kind is int:
                argument.kind = number
        return arguments


class WithWord(OurTask):
    """A task whose first argument may stand without its flag, or be left out: invoke knows only words that must be there."""

    def get_arguments(self, ignore_unknown_help: bool | None = None) -> list[Argument]:
        """Return the arguments; the first is a word where the command line has one behind the task's name."""
        arguments: list[Argument] = super().get_arguments(ignore_unknown_help)
        arguments[0].help = f"{arguments[0].help}; may stand without --{arguments[0].name}"
        names = {self.name, self.name.replace("_", "-")}
        for word, after in pairwise(sys.argv):
            if word in names and not after.startswith("-"):
                arguments[0].positional, arguments[0].default = True, None
        return arguments


@task()
def lint(_: Context) -> None:
    """Check the code: ruff, mypy --strict, shellcheck."""
    from openssi_build import checks

    checks.lint(ROOT)


@task(help={"only": "unit, integration or boot", "match": "only tests whose name matches (pytest -k)"})
def test(_: Context, only: str = "", match: str = "") -> None:
    """Run lint and all tests (under 40 minutes on 2 cores)."""
    from openssi_build import checks

    checks.test(ROOT, only=only, match=match)


@task(
    help={
        "strict": "fail when a derived package can't be built, instead of leaving it out",
        "fresh": "forget what is published in out/repo; refused unless the development key has signed it",
    }
)
def build_repo(_: Context, strict: bool = False, fresh: bool = False) -> None:
    """Build all packages and publish them, signed, in out/repo.

    10 minutes the first time; seconds when nothing changed.
    """
    from openssi_build import build, caches, settings

    build.build_repository(ROOT, caches.cache_directory(ROOT), settings.load(ROOT), strict=strict, fresh=fresh)


@task()
def reproduce(_: Context) -> None:
    """Build the packages twice and name what differs (2 minutes).

    The second time in another path, time, umask, locale, time zone, and by another user.
    """
    from openssi_build import caches, reproduce, settings

    reproduce.reproduce(ROOT, caches.cache_directory(ROOT), settings.load(ROOT), print)


@task(help={"strict": "fail at the first package that can't be built"})
def derived(_: Context, strict: bool = False) -> None:
    """Build Debian's packages that we patch, in a clean chroot."""
    from openssi_build import caches, settings
    from openssi_build.derived import build_all

    repository = settings.load(ROOT).repository
    made = build_all(ROOT, caches.cache_directory(ROOT), suite=repository.suite, strict=strict, say=print)
    for line in [*map(str, made.files), *(f"warning: {problem}" for problem in made.problems)]:
        print(line)


@task()
def docs(_: Context) -> None:
    """Make the documents in out/docs: HTML, PDF, text, manuals."""
    from openssi_build import documents, settings
    from openssi_build.caches import cache_directory

    suite = settings.load(ROOT).repository.suite
    made = documents.build(ROOT, cache_directory(ROOT), suite, OUT / "docs", OUT / "log/docs.log")
    print(f"out/docs: {len(made)} files")


@task(help={"name": "of kernels/NAME.toml", "version": "that one instead of the newest"})
def qualify(_: Context, name: str = "trixie-amd64", version: str = "") -> None:
    """Move the kernel that is held to the newest of the mirror."""
    from openssi_build import caches, kernels

    before, now = kernels.qualify(ROOT, caches.cache_directory(ROOT), name, version=version or None)
    changed = "as it was" if before == now else f"before: {before.version}" if before else "the first"
    print(f"{name}: {now.package} {now.version} with {now.image} ({changed}); inv build-repo publishes it")


@task(
    klass=WithWord,
    help={
        "repo": "a directory or a URL; by default out/repo",
        "keyring": "public keys to check by; by default those of [signing]",
        "quick": "by the rules only, without apt in chroots",
    },
)
def verify_repo(_: Context, repo: str = "", keyring: str = "", quick: bool = False) -> None:
    """Check a repository by apt's rules, then by apt 2.6 and 3.0.

    The real ones run in chroots: half a minute.
    """
    from openssi_build import caches, settings, verify

    verify.verify(
        repo or str(OUT / "repo"),
        root=ROOT,
        cache=caches.cache_directory(ROOT),
        settings=settings.load(ROOT),
        keyring=Path(keyring) if keyring else None,
        with_clients=not quick,
    )


@task()
def snapshots(_: Context) -> None:
    """List every publish of out/repo, and what changed with it."""
    from openssi_build import history

    history.show(OUT / "repo")


@task(klass=WithWord, help={"number": "of the snapshot (inv snapshots); by default the one before"})
def rollback(_: Context, number: int = 0) -> None:
    """Publish what an older snapshot had again (rollback 3).

    That is a new snapshot of out/repo: apt refuses a Release that is older than the one it has.
    """
    from openssi_build import caches, history, settings

    history.back(ROOT, OUT / "repo", caches.cache_directory(ROOT), settings.load(ROOT), number or 0)


@task(
    klass=WithWord,
    help={
        "part": "repo, netboot, initrd or cluster",
        "packages": "how many packages the pool of bench repo has",
        "times": "how often repo, netboot and initrd are measured",
    },
)
def bench(_: Context, part: str = "repo", packages: int = 10_000, times: int = 3) -> None:
    """Measure a part beside its peers (bench repo; 5 minutes)."""
    from openssi.errors import Error
    from openssi_build import caches, settings
    from openssi_build.bench import cluster, initrd, netboot, repo

    runs = {
        "repo": lambda: repo.bench(ROOT, OUT / "bench", packages=packages, times=times),
        "netboot": lambda: netboot.run(ROOT, caches.cache_directory(ROOT), settings.load(ROOT), times=times),
        "initrd": lambda: initrd.run(ROOT, caches.cache_directory(ROOT), settings.load(ROOT), times=times),
        "cluster": lambda: cluster.bench(ROOT, caches.cache_directory(ROOT)),
    }
    if part not in runs:
        raise Error(f"bench: '{part}': expected one of {', '.join(runs)}")
    if not runs[part]():
        raise Error(f"bench {part}: a bar is not met")


@task()
def initrd(_: Context) -> None:
    """Make the boot images in out/initrd: kernel and initrd."""
    from openssi_build import caches, images, settings

    for made in images.build_all(ROOT, caches.cache_directory(ROOT), settings.load(ROOT)):
        for note in made.notes:
            print(f"  {note}")
        print(f"{made.initrd.relative_to(ROOT)}: {made.initrd.stat().st_size:,} bytes, Linux {made.version}")


@task(
    klass=WithWord,
    help={
        "wanted": "an id (8086:100e), a name or a pattern",
        "kernel": "of kernels/NAME.toml",
        "json": "as JSON",
    },
)
def nic_drivers(_: Context, wanted: str = "", kernel: str = "", json: bool = False) -> None:
    """List the network drivers of a kernel, with ids and firmware."""
    from openssi.commands.mkinitrd import list_drivers
    from openssi_build import caches, images, settings

    cache = caches.cache_directory(ROOT)
    sys.exit(list_drivers(images.kernel_modules(ROOT, cache, settings.load(ROOT), kernel), wanted or "", as_json=json))


@task()
def netboot_images(_: Context) -> None:
    """Make out/netboot: tftp tree, floppy, USB stick, CD, signed."""
    from openssi_build import caches, netboot, settings

    netboot.make_all(ROOT, caches.cache_directory(ROOT), settings.load(ROOT), print)


@task(
    help={
        "to": "name of a [[publish]] table, or ./DIRECTORY, HOST:/DIRECTORY, s3://BUCKET/PREFIX",
        "dry_run": "say what would be done",
        "rollback": "first make the packages and boot images of this snapshot the public ones again",
    }
)
def publish(_: Context, to: str, dry_run: bool = False, rollback: int = 0) -> None:
    """Bring what changed in out/repo to where clients fetch it."""
    from openssi_build import settings
    from openssi_build.publish import front

    front.publish_to(ROOT, settings.load(ROOT), to, dry_run=dry_run, rollback=rollback)


@task(help={"from_": "like --to of inv publish"})
def pull(_: Context, from_: str) -> None:
    """Fetch what is published into out/repo: the next build adds.

    A CI job, which has no repository of its own, begins so.
    """
    from openssi_build import settings
    from openssi_build.publish import front

    front.pull_from(ROOT, settings.load(ROOT), from_)


@task(
    klass=WithWord,
    help={
        "action": "list, make, export or rotate",
        "name": "make, rotate: user ID of the new key",
        "expires": "make, rotate: 3y, 18m, 90d, a date, or never",
        "algorithm": "make, rotate: ed25519, nistp256, rsa4096 ...",
        "finish": "rotate: let the newest key sign alone",
        "output": "export: the file; binary if it ends in .gpg",
        "secret": "export: the secret keys, for a CI secret",
    },
)
def keys(
    _: Context,
    action: str = "list",
    name: str = "",
    expires: str = "3y",
    algorithm: str = "ed25519",
    finish: bool = False,
    output: str = "",
    secret: bool = False,
) -> None:
    """List the keys that sign; make, export or rotate them."""
    from openssi.errors import Error
    from openssi_build import caches, settings
    from openssi_build import keys as signing_keys

    read = settings.load(ROOT)
    if action == "list":
        signing_keys.show(ROOT, caches.cache_directory(ROOT), read)
    elif action == "make":
        made = signing_keys.make(ROOT, read, name=name, expires=expires, algorithm=algorithm)
        print(f"{made} signs from now on (openssi.toml); keep a copy: inv keys export --secret")
    elif action == "export":
        print(signing_keys.export(ROOT, read, output, secret=secret))
    elif action == "rotate":
        print(signing_keys.rotate(ROOT, read, finish=finish, name=name, expires=expires, algorithm=algorithm))
    else:
        raise Error(f"keys {action}: expected list, make, export or rotate")


@task(
    help={
        "nodes": "how many machines, 1 to 9",
        "boot": "how all but the first boot: pxe, uefi, etherboot (from a floppy), or mixed",
        "record": "write what is typed and said into this file (Markdown)",
    }
)
def lab(_: Context, nodes: int = 3, boot: str = "pxe", record: str = "") -> None:
    """Try it: a cluster in virtual machines (8 minutes).

    It is made from nothing and left running; with KVM in two minutes.
    """
    from openssi_build import caches, settings
    from openssi_build.lab import trial

    cache = caches.cache_directory(ROOT)
    trial.start(ROOT, cache, settings.load(ROOT), nodes=nodes, boot=boot, record=Path(record) if record else None)


@task()
def lab_status(_: Context) -> None:
    """Show the machines of the trial cluster."""
    from openssi_build.lab import tending

    print(*tending.status(ROOT), sep="\n")


@task(klass=WithWord, help={"node": "its number"})
def lab_console(_: Context, node: int = 1) -> None:
    """Use the console of a trial machine; Ctrl-] leaves it."""
    from openssi_build.lab import tending

    sys.exit(tending.console(ROOT, node or 1))


@task(klass=WithWord, help={"node": "its number"})
def lab_power(_: Context, node: int = 0) -> None:
    """Switch a trial machine on, or off and on (lab-power 2)."""
    from openssi_build.lab import tending

    print(tending.power(ROOT, node or 0))


@task()
def lab_stop(_: Context) -> None:
    """End the trial cluster and remove its disks.

    What the consoles said stays in out/log/lab.
    """
    from openssi_build.lab import tending

    print(f"ended: {', '.join(f'node{number}' for number in tending.stop(ROOT)) or 'nothing ran'}")


@task()
def doctor(_: Context) -> None:
    """Say what on this machine would stop a task, and the remedy."""
    from openssi_build import doctor, settings

    doctor.report(doctor.examine(ROOT, settings.load(ROOT)), print)


@task(
    help={
        "node": "number of a node in --table",
        "mac": "the machine's hardware address, instead of a node",
        "ip": "its address with the prefix: 10.1.0.2/24; a node's prefix is 24 where it is not given",
        "server": "the boot server's address; by default that of the table's first init node",
        "table": "the cluster's /etc/clustertab",
        "kind": "etherboot.dsk, etherboot.usb or etherboot.iso; by default all",
    }
)
def boot_medium(
    _: Context, node: int = 0, mac: str = "", ip: str = "", server: str = "", table: str = "", kind: str = ""
) -> None:
    """Make boot media for one machine on a network without DHCP.

    The address is iPXE's: where Secure Boot is on, it refuses iPXE, and GRUB on the stick and the CD needs DHCP all the same.
    """
    from openssi_build import caches, netboot, settings

    wanted = netboot.Wanted(node=node, mac=mac, ip=ip, server=server, table=Path(table) if table else None, kind=kind)
    for path in netboot.boot_medium(ROOT, caches.cache_directory(ROOT), settings.load(ROOT), wanted):
        print(path.relative_to(ROOT))


@task(
    help={
        "directory": "by default out/netboot",
        "keyring": "public keys to check by; by default those of [signing]",
    }
)
def verify_netboot(_: Context, directory: str = "", keyring: str = "") -> None:
    """Check the signature of boot images and then each file."""
    from openssi_build import netboot, settings

    where = Path(directory) if directory else OUT / "netboot"
    count = netboot.verify(ROOT, settings.load(ROOT), where, Path(keyring) if keyring else None)
    print(f"{where}: {count} files as signed")


@task(help={"interface": "the interface with the machines; it must have an address", "table": "a clustertab"})
def serve_netboot(_: Context, interface: str, table: str = "") -> None:
    """Serve out/netboot by DHCP, TFTP and HTTP, as root."""
    from openssi_build import caches, serve, settings

    serve.serve(
        ROOT, caches.cache_directory(ROOT), settings.load(ROOT), interface, Path(table) if table else None, print
    )


@task(klass=WithWord, help={"wanted": "an id (8086:100e) or a name; without one, `lspci -nn` is read from stdin"})
def nics(_: Context, wanted: str = "") -> None:
    """Say how a network card can boot a node, and its driver."""
    from openssi_build import caches, settings
    from openssi_build import nics as cards

    listing = [] if wanted or sys.stdin.isatty() else sys.stdin.readlines()
    found = cards.find(ROOT, caches.cache_directory(ROOT), settings.load(ROOT), wanted, listing)
    print(*cards.told(found), sep="\n")
