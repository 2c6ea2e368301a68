"""What needs no gpg: reading its listings, editing openssi.toml, warning in time."""

from __future__ import annotations

import tomllib

import pytest

from openssi_build import keys, signing

DAY = 86400
LISTING = """\
tru::1:1764000000:0:3:1:5
pub:u:255:22:AAAAAAAAAAAAAAAA:1700000000:1900000000::u:::cSC:::::ed25519:::0:
fpr:::::::::{one}:
uid:u::::1700000000::HASH::Archive key\\x3a one <one@example.org>::::::::::0:
sub:u:255:22:BBBBBBBBBBBBBBBB:1700000000:1800000000:::::s::::::ed25519::
fpr:::::::::{sub}:
sub:e:255:22:CCCCCCCCCCCCCCCC:1700000000:1750000000:::::s::::::ed25519::
fpr:::::::::{sub}:
pub:u:4096:1:DDDDDDDDDDDDDDDD:1700000000:::u:::scSC::::::::0:
fpr:::::::::{two}:
uid:u::::1700000000::HASH::Two <two@example.org>::::::::::0:
sub:u:4096:1:EEEEEEEEEEEEEEEE:1700000000:1750000000:::::e::::::::
fpr:::::::::{sub}:
""".format(one="A" * 40, two="0" * 40, sub="B" * 40)


def test_a_key_expires_with_its_last_signing_subkey() -> None:
    two, one = signing.parse_listing(LISTING)
    assert (one.fingerprint, one.user_id, one.algorithm) == ("A" * 40, "Archive key: one <one@example.org>", "ed25519")
    assert one.expires == 1_800_000_000
    # A subkey that only encrypts says nothing about signing.
    assert (two.fingerprint, two.algorithm, two.expires) == ("0" * 40, "rsa4096", None)


def test_a_key_that_expires_soon_is_named_with_the_remedy() -> None:
    two, one = signing.parse_listing(LISTING)
    assert keys.expiring([one, two], 90, now=1_800_000_000 - 91 * DAY) == []
    (warning,) = keys.expiring([one, two], 90, now=1_800_000_000 - 89 * DAY)
    assert warning == f"{'A' * 40} expires on 2027-01-15, in 89 days: inv keys rotate"


@pytest.mark.parametrize(
    ("text", "edited"),
    [
        ("", '[signing]\nkeys = ["N"]\n'),
        ("[repository]\nkeep = 3\n", '[repository]\nkeep = 3\n\n[signing]\nkeys = ["N"]\n'),
        ("[signing]\n", '[signing]\nkeys = ["N"]\n'),
        ("[signing]", '[signing]\nkeys = ["N"]\n'),
        (
            '[signing]\nkey-variable = "keys = x"\nkeys = ["A", "B"]  # two\n[other]\nkeys = []\n',
            '[signing]\nkey-variable = "keys = x"\nkeys = ["N"]  # two\n[other]\nkeys = []\n',
        ),
        ("[signing]\n# keys = []  # none\nwarn-days = 3\n", '[signing]\nkeys = ["N"]  # none\nwarn-days = 3\n'),
        ('[signing]\nkeys = [\n  "A",\n  "B",\n]\ncarry = []\n', '[signing]\nkeys = ["N"]\ncarry = []\n'),
    ],
)
def test_a_key_of_a_table_is_set_and_all_else_stays(text: str, edited: str) -> None:
    assert keys.set_value(text, "signing", "keys", '["N"]') == edited
    assert tomllib.loads(edited)["signing"]["keys"] == ["N"]
