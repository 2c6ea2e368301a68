"""What says what the boot images are: SHA256SUMS with its signature, an SPDX bill of materials, a page for people."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from openssi import files
from openssi.errors import Error
from openssi.netboot.images import digest
from openssi_build.apt import Package
from openssi_build.deb import Version
from openssi_build.repository import images
from openssi_build.settings import Repository
from openssi_build.signing import Signer, check_signature

SUMS = images.SUMS
SIGNATURE, SBOM, PAGE = f"{SUMS}.gpg", "sbom.spdx.json", "index.html"
_TEMPLATES = Path(__file__).resolve().parents[2] / "packaging/templates"


@dataclass(frozen=True)
class Described:
    """What the manifest says beside the files themselves: what they are made of.

    ``made_of`` has the Debian packages that are in a file, by its name. A file that it does not name comes from ``own``,
    our own source package, and so do scripts in media and initrds.
    """

    repository: Repository
    architecture: str
    own: Version
    made_of: Mapping[str, Sequence[Package]]

    @property
    def packages(self) -> list[Package]:
        """Every package once, by name."""
        return sorted(
            {each for packages in self.made_of.values() for each in packages}, key=lambda p: (p.name, p.version)
        )

    @property
    def sources(self) -> list[tuple[str, str]]:
        """Every source package once, by name, with its version."""
        debians = {source for package in self.packages for source in package.sources}
        return sorted({*debians, (self.own.source, self.own.version)})


def digests(directory: Path) -> dict[str, str]:
    """Return the SHA256 of each file that SHA256SUMS in ``directory`` names; nothing when there is none."""
    path = directory / SUMS
    if not path.exists():
        return {}
    return parse(path.read_text())


def parse(text: str) -> dict[str, str]:
    """Return the SHA256 of each file that the SHA256SUMS ``text`` names."""
    return {name.removeprefix("./"): sum_ for name, sum_ in images.entries(text)}


def write(directory: Path, names: Sequence[str], described: Described, signer: Signer) -> list[str]:
    """Write page, bill of materials, sums and signature of the files ``names``; return which of them changed."""
    sums = {name: digest(directory / name) for name in sorted(names)}
    changed = []
    for name, text in ((SBOM, sbom(sums, described)), (PAGE, page(directory, names, described))):
        if files.write_if_changed(directory / name, text):
            changed.append(name)
        sums[name] = sha256(text.encode()).hexdigest()
    text = "".join(f"{sums[name]}  {name}\n" for name in sorted(sums))
    if files.write_if_changed(directory / SUMS, text):
        changed.append(SUMS)
    if not _signed(directory, signer):
        date = int(os.environ.get("SOURCE_DATE_EPOCH") or time.time())
        files.write(directory / SIGNATURE, signer.detach(text.encode(), date))
        changed.append(SIGNATURE)
    return changed


def _signed(directory: Path, signer: Signer) -> bool:
    signature = directory / SIGNATURE
    if not signature.exists():
        return False
    keyring = directory / ".keyring.gpg"
    # Not by a key that is only carried still: clients lose it one day.
    files.write_if_changed(keyring, b"".join(map(signer.public_key, signer.fingerprints)))
    try:
        check_signature(directory / SUMS, keyring, signature)
    except Error:
        return False
    return True


def check(directory: Path, keyring: Path) -> int:
    """Check the signature by ``keyring`` and then every file; return their number, Error names the first that differs."""
    check_signature(directory / SUMS, keyring, directory / SIGNATURE)
    listed = digests(directory)
    for name, sum_ in listed.items():
        path = directory / name
        if not path.is_file() or digest(path) != sum_:
            raise Error(f"{path}: not what {SUMS} says", hint="make or fetch it again")
    return len(listed)


def page(directory: Path, names: Sequence[str], described: Described) -> str:
    """Return the page that says which medium is for what."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), undefined=StrictUndefined, trim_blocks=True, autoescape=True
    )
    return environment.get_template("netboot.html.j2").render(
        label=described.repository.label,
        suite=described.repository.suite,
        architecture=described.architecture,
        files=[(name, (directory / name).stat().st_size) for name in names],
        packages=described.packages,
    )


def sbom(sums: dict[str, str], described: Described) -> str:
    """Return the bill of materials as SPDX 2.3 in JSON (ISO/IEC 5962): files, Debian packages, and their sources."""
    content = sha256(json.dumps(sums, sort_keys=True).encode()).hexdigest()
    listed: list[dict[str, object]] = [
        {
            "SPDXID": f"SPDXRef-File-{number}",
            "fileName": f"./{name}",
            "checksums": [{"algorithm": "SHA256", "checksumValue": sum_}],
            "copyrightText": "NOASSERTION",
            "licenseConcluded": "NOASSERTION",
        }
        for number, (name, sum_) in enumerate(sums.items())
    ]
    packages = [_package(number, each) for number, each in enumerate(described.packages)]
    sources = [_source(number, *each) for number, each in enumerate(described.sources)]
    top = "SPDXRef-Netboot"
    relations = [("SPDXRef-DOCUMENT", "DESCRIBES", top)]
    relations += [(top, "CONTAINS", str(each["SPDXID"])) for each in (*listed, *packages)]
    relations += [(one, "GENERATED_FROM", other) for one, other in _origins(list(sums), described)]
    document = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": f"openssi-netboot-{described.architecture}",
        "documentNamespace": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, content)}",
        "creationInfo": {"created": _created(), "creators": ["Tool: openssi netboot-images"]},
        "packages": [
            {
                "SPDXID": top,
                "name": f"openssi-netboot-{described.architecture}",
                "downloadLocation": "NOASSERTION",
                "filesAnalyzed": False,
                "copyrightText": "NOASSERTION",
                "licenseConcluded": "NOASSERTION",
                "licenseDeclared": "NOASSERTION",
            },
            *packages,
            *sources,
        ],
        "files": listed,
        "relationships": [
            {"spdxElementId": one, "relationshipType": kind, "relatedSpdxElement": other}
            for one, kind, other in relations
        ],
    }
    return json.dumps(document, indent=1) + "\n"


def _origins(names: Sequence[str], described: Described) -> Iterator[tuple[str, str]]:
    """Yield what comes from what, by SPDX identifiers: files from packages, packages from their sources."""
    packages = {each: f"SPDXRef-Package-{number}" for number, each in enumerate(described.packages)}
    sources = {each: f"SPDXRef-Source-{number}" for number, each in enumerate(described.sources)}
    own = sources[described.own.source, described.own.version]
    for number, name in enumerate(names):
        made_of = described.made_of.get(name, ())
        for package in made_of:
            yield f"SPDXRef-File-{number}", packages[package]
        if len(made_of) != 1:  # a single package's file is as it was there
            yield f"SPDXRef-File-{number}", own
    for package, identifier in packages.items():
        for source in package.sources:
            yield identifier, sources[source]


def _source(number: int, name: str, version: str) -> dict[str, object]:
    return {
        "SPDXID": f"SPDXRef-Source-{number}",
        "name": name,
        "versionInfo": version,
        "primaryPackagePurpose": "SOURCE",
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "copyrightText": "NOASSERTION",
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "NOASSERTION",
    }


def _created() -> str:
    # Equal content, equal bytes: without a given date the document has SPDX's own.
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH", "0"))))


def _package(number: int, each: Package) -> dict[str, object]:
    purl = f"pkg:deb/debian/{each.name}@{each.version}?arch={each.architecture}"
    return {
        "SPDXID": f"SPDXRef-Package-{number}",
        "name": each.name,
        "versionInfo": each.version,
        "packageFileName": each.filename,
        "checksums": [{"algorithm": "SHA256", "checksumValue": each.sha256}],
        "supplier": "Organization: Debian",
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "copyrightText": "NOASSERTION",
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "NOASSERTION",
        "sourceInfo": "built from Debian source package " + ", ".join(map(" ".join, each.sources)),
        "externalRefs": [
            {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl},
        ],
    }
