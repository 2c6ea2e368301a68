"""What openssi-archive-keyring tells a client's apt: the key, the source and the preference."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from openssi_build.settings import Repository

TEMPLATES = Path(__file__).resolve().parents[2] / "packaging/templates"
KEYRING = "/usr/share/keyrings/openssi-archive-keyring.gpg"
# Shown where openssi.toml gives no uri; the source is then disabled.
_UNKNOWN_URI = "http://repository.example.org/openssi"


def sources(repository: Repository) -> str:
    """Return the deb822 .sources of the repository; without ``repository.uri`` it is disabled."""
    return _render(
        "openssi.sources.j2",
        uri=repository.uri or _UNKNOWN_URI,
        enabled=repository.uri is not None,
        suite=repository.suite,
        architectures=repository.architectures,
        keyring=KEYRING,
    )


def preferences(repository: Repository) -> str:
    """Return the preferences by which apt takes the repository's packages, older ones too."""
    return _render("openssi.pref.j2", origin=repository.origin)


def generated(repository: Repository, keys: bytes) -> dict[str, bytes]:
    """Return the files of the source package that depend on settings and key, by their path in it."""
    return {
        f"debian/archive/{Path(KEYRING).name}": keys,
        "debian/archive/openssi.pref": preferences(repository).encode(),
        "debian/archive/openssi.sources": sources(repository).encode(),
    }


def _render(template: str, **values: object) -> str:
    # The templates make text files for apt, not HTML: nothing is escaped.
    environment = Environment(  # noqa: S701
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
    )
    return environment.get_template(template).render(**values)
