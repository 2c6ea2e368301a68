"""Every mistake in openssi.toml is one line that names the table, the key and what was expected."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

from openssi import config
from openssi.errors import Error
from openssi_build import settings
from openssi_build.settings import Settings

TARGET = '[[publish]]\nname = "a"\nto = "/srv/www"\n'
MISTAKES = [
    ('[repository]\norigin = ""', "repository: key 'origin': expected one line of text without a comma, for a pin, got ''"),
    ('[repository]\norigin = "A, B"', "repository: key 'origin': expected one line of text without a comma"),
    ('[repository]\nlabel = "a\\nValid-Until: never"', r"repository: key 'label': expected one line of text, got 'a\nValid"),
    ('[repository]\ndescription = " a"', "repository: key 'description': expected one line of text, got ' a'"),
    ('[repository]\nsuite = "../trixie"', "repository: key 'suite': expected small letters, digits, '.', '+', '-', got"),
    ('[repository]\ncomponent = "main/x"', "repository: key 'component': expected small letters, digits"),
    ("[repository]\narchitectures = []", "repository: key 'architectures': expected at least one"),
    ('[repository]\narchitectures = ["all"]', "repository: key 'architectures': expected Debian architectures; 'all' and"),
    ('[repository]\narchitectures = ["amd64", "amd64"]', "repository: key 'architectures': 'amd64' is there twice"),
    ('[repository]\nuri = "www.example.org"', "repository: key 'uri': expected a URL, got 'www.example.org'"),
    ('[repository]\nmirror = "http://a b/"', "repository: key 'mirror': expected a URL, got 'http://a b/'"),
    ('[repository]\nsecurity-mirror = ""', "repository: key 'security-mirror': expected a URL, got ''"),
    ('[repository]\ncompress = ["bz2"]', "repository: key 'compress': expected some of xz, gz, zst, got 'bz2'"),
    ("[repository]\ncompress = []", "repository: key 'compress': expected at least one"),
    ("[repository]\nvalid-for-days = -1", "repository: key 'valid-for-days': expected at least 0, got -1"),
    ("[repository]\nkeep = 0", "repository: key 'keep': expected at least 1, got 0"),
    ("[repository]\nsnapshots = 0", "repository: key 'snapshots': expected at least 1, got 0"),
    ("[repository]\nby-hash-generations = 2", "repository: key 'by-hash-generations': expected at least 3, got 2"),
    ('[signing]\nkeys = ["abc"]', "signing: key 'keys': expected a fingerprint, 40 or 64 hexadecimal digits in capitals"),
    ("[signing]\nhome = 1", "signing: key 'home': expected a string, got an integer (1)"),
    ('[signing]\nkey-variable = "A B"', "signing: key 'key-variable': expected the name of an environment variable"),
    ('[signing]\npassphrase-variable = ""', "signing: key 'passphrase-variable': expected the name of an environment"),
    ('[signing]\ncarry = "old.gpg"', "signing: key 'carry': expected an array, got a string ('old.gpg')"),
    ("[signing]\nwarn-days = -1", "signing: key 'warn-days': expected at least 0, got -1"),
    ('[[initrd]]\nname = "a/b"', "initrd[0]: key 'name': expected small letters, digits, '.', '+', '-', got 'a/b'"),
    ('[[initrd]]\nkernel = "../x"', "initrd[0]: key 'kernel': expected small letters"),
    ("[[initrd]]\ndrivers = [1]", "initrd[0]: key 'drivers[0]': expected a string, got an integer (1)"),
    ('[[initrd]]\nfirmware = ["A B"]', "initrd[0]: key 'firmware': expected small letters"),
    ('[[initrd]]\ncompress = "bz2"', "initrd[0]: key 'compress': expected zstd, gzip, xz, lz4 or none, got 'bz2'"),
    ('[[initrd]]\nmicrocode = "a"', "initrd[0]: key 'microcode': expected an array"),
    ("[[initrd]]\noverlays = [[]]", "initrd[0]: key 'overlays[0]': expected a string, got an array"),
    ('[[initrd]]\nstrict = "yes"', "initrd[0]: key 'strict': expected true or false, got a string ('yes')"),
    ("[[initrd]]\n[[initrd]]", "initrd: two are called 'default'"),
    ("initrd = []", "initrd: expected at least one table"),
    ('[[publish]]\nname = "a"', "publish[0]: missing key 'to'"),
    ('[[publish]]\nname = ""\nto = "x"', "publish[0]: key 'name': expected one line of text, got ''"),
    ('[[publish]]\nname = "a"\nto = ""', "publish[0]: key 'to': expected one line of text, got ''"),
    (f'{TARGET}endpoint = "s3.example.org"', "publish[0]: key 'endpoint': expected a URL"),
    (f"{TARGET}region = 1", "publish[0]: key 'region': expected a string, got an integer (1)"),
    (f"{TARGET}identity = []", "publish[0]: key 'identity': expected a string, got an array"),
    (f"{TARGET}known-hosts = 1", "publish[0]: key 'known-hosts': expected a string, got an integer (1)"),
    (f"{TARGET}uploads = 0", "publish[0]: key 'uploads': expected at least 1, got 0"),
    (f"{TARGET}wait-s = -1", "publish[0]: key 'wait-s': expected at least 0, got -1"),
    (TARGET + TARGET, "publish: two are called 'a'"),
    ("repository = 1", "repository: expected a table, got an integer (1)"),
    ("[repositry]", "unknown key 'repositry' (did you mean 'repository'? known: repository, signing, initrd, publish)"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "said"), MISTAKES, ids=[text.replace("\n", " ") for text, _ in MISTAKES])
def test_a_mistake_is_one_line_with_its_place(text: str, said: str) -> None:
    with pytest.raises(Error) as caught:
        config.parse(text, Settings, "openssi.toml")
    assert str(caught.value).startswith(f"openssi.toml: {said}")
    assert "\n" not in str(caught.value)


def test_no_key_is_left_out_above() -> None:
    tables = {"repository": settings.Repository, "signing": settings.Signing}
    tables |= {"initrd": settings.Initrd, "publish": settings.Publish}
    for table, schema in tables.items():
        assert is_dataclass(schema)
        for each in fields(schema):
            key = each.name.replace("_", "-")
            assert any(
                said.startswith((f"{table}: ", f"{table}[0]: ")) and f"key '{key}" in said for _, said in MISTAKES
            ), f"{table}: {key}"


def test_the_file_in_the_tree_is_what_an_empty_one_means(root: Path) -> None:
    assert settings.load(root) == Settings()
