"""The answers of ssi-create: any text is taken, or refused in one line."""

import dataclasses
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.cluster import machine

from openssi.cluster import answers, create
from openssi.cluster.answers import Answers
from openssi.errors import Error

NICS = [machine.NIC, machine.OUTER]
_LIKELY = st.sampled_from(
    ["", "eth1", "P", "galaxy", "sun", "10.0.0.1", "10.0.0.9", "10.0.0.254", "10.0.0.100-10.0.0.120", "10.0.0.9-", "-1"]
)
_TEXT = st.none() | _LIKELY | st.text(max_size=20)
_ANSWERS = st.builds(
    Answers,
    st.none() | st.integers(-1, 200),
    _TEXT,
    _TEXT,
    _TEXT,
    _TEXT,
    st.none() | st.booleans(),
    _TEXT,
    _TEXT,
    _TEXT,
)
_GOOD = Answers(1, "eth1", "P", "", "galaxy", root_failover=False)


@given(_ANSWERS)
@settings(max_examples=60, deadline=None)
def test_what_is_taken_fits_the_network(given_answers: Answers) -> None:
    try:
        complete = answers.check(given_answers, NICS, {})
    except Error as problem:
        assert "\n" not in str(problem)
        return
    assert 1 <= complete.number <= 125
    own = create.settings(complete)
    # what is written can be read again
    assert tomllib.loads(own.text)["service-address"] == complete.service_address
    assert complete.service_address not in (complete.nic.ip, complete.cvip)


@given(st.sampled_from([each.name for each in dataclasses.fields(Answers)]), _LIKELY | st.text(max_size=30))
@settings(max_examples=60, deadline=None)
def test_one_odd_answer_among_good_ones_is_taken_or_named(name: str, text: str) -> None:
    if name in ("node_number", "root_failover"):
        return
    try:
        complete = answers.check(dataclasses.replace(_GOOD, **{name: text}), NICS, {})  # type: ignore[arg-type]
        create.settings(complete)
    except Error as problem:
        assert "\n" not in str(problem)
        assert "expected" in str(problem) or "taken" in str(problem)


@given(st.binary(max_size=200) | st.text(max_size=100).map(lambda text: f"clustername = '{text}'".encode()))
@settings(max_examples=40, deadline=None)
def test_any_file_of_answers_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = Path(tmp_path_factory.getbasetemp()) / "answers.toml"
    path.write_bytes(content)
    try:
        answers.read(path)
    except Error as problem:
        assert str(path) in str(problem)
