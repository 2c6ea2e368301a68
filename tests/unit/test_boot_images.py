"""What [[initrd]] may not name, said in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from openssi.errors import Error
from openssi_build import apt, images, kernels
from openssi_build.settings import Initrd

KERNEL = kernels.QualifiedKernel("trixie-amd64", "6.12.1-amd64", (), Path("/nonexistent"))


@pytest.mark.parametrize("key", ["microcode", "overlays"])
@pytest.mark.parametrize(("name", "error"), [("nofile", "no such file"), ("docs", "not a file")])
def test_an_archive_that_is_no_file_is_an_error_with_its_key(
    root: Path, tmp_path: Path, key: str, name: str, error: str
) -> None:
    wanted = Initrd(**{key: (Path(name),)})  # type: ignore[arg-type]
    with pytest.raises(Error) as caught:
        images.inputs_of(root, tmp_path, wanted, KERNEL, apt.Mirror("http://mirror.example.org/debian"))
    assert str(caught.value) == f"openssi.toml: initrd 'default': key '{key}': {name}: {error}"
