"""Reading a file takes no more than the file has, whoever wrote it."""

import io
import pickle
import resource
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from seqrl_lightning.checkpoints.archive import UnusableFileError, limited_memory, read_archive
from seqrl_lightning.checkpoints.format import FORMAT, digest, fault_in, read_checkpoint, seal

CONTENTS = {
    "tensors": [torch.arange(6.0).view(2, 3), torch.zeros(0), torch.tensor(True), torch.ones(3, dtype=torch.bfloat16)],
    "unsigned": torch.tensor([1, 2, 3], dtype=torch.uint16),
    "texts": ["a", "", "ß"],
    "numbers": {1: 2.5, 2: -(10**30), 3: None, 4: True},
    "nested": {"a": [{"b": (1, 2)}]},
}


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    torch.save(CONTENTS, tmp_path / "archive.ckpt")
    return tmp_path / "archive.ckpt"


def with_pickle(archive: Path, pickled: bytes) -> Path:
    """The archive with another record of objects."""
    target = archive.with_name("evil.ckpt")
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(target, "w") as new:
        for record in old.infolist():
            new.writestr(record.filename, pickled if record.filename.endswith("data.pkl") else old.read(record))
    return target


@pytest.mark.parametrize("mmap", [True, False])
def test_what_was_written_is_read(archive: Path, mmap: bool) -> None:
    assert digest(read_archive(archive, mmap=mmap)) == digest(CONTENTS)


def test_a_larger_file_than_the_limit_is_refused(archive: Path) -> None:
    with pytest.raises(UnusableFileError, match=r"the limit max_gib is 1e-06"):
        read_archive(archive, max_gib=1e-6)


def test_compressed_records_are_refused(archive: Path) -> None:
    bomb = archive.with_name("bomb.ckpt")
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as new:
        for record in old.infolist():
            new.writestr(record.filename, old.read(record))
        new.writestr("archive/data/9", bytes(10**8))
    assert bomb.stat().st_size < 10**6
    with pytest.raises(UnusableFileError, match="compressed"):
        read_archive(bomb)


def test_a_record_that_is_there_twice_is_refused(archive: Path) -> None:
    target = archive.with_name("twice.ckpt")
    shutil.copy(archive, target)
    with zipfile.ZipFile(target, "a") as added, pytest.warns(UserWarning, match="Duplicate"):
        added.writestr("archive/data.pkl", pickle.dumps({}))
    with pytest.raises(UnusableFileError, match="claim more"):
        read_archive(target)


def test_a_tensor_without_its_data_is_refused(archive: Path) -> None:
    torch.save({"a": torch.zeros(1).expand(10**12)}, archive)
    with pytest.raises(
        UnusableFileError, match=r"a tensor of shape \(1000000000000,\) claims more than the file holds"
    ):
        read_archive(archive)


def test_tensors_that_share_their_data_are_few(archive: Path) -> None:
    shared = torch.zeros(300_000)
    torch.save({"policy_net": shared, "target_net": shared.view(3, -1)}, archive)
    assert read_archive(archive)["target_net"].shape == (3, 100_000)
    torch.save({str(i): shared.view(-1) for i in range(9)}, archive)
    with pytest.raises(UnusableFileError, match="claims more than the file holds"):
        read_archive(archive)


def test_a_record_of_another_case_is_read_like_any(archive: Path) -> None:
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(archive.with_name("evil.ckpt"), "w") as new:
        for record in old.infolist():
            name = record.filename
            new.writestr(name.replace("data.pkl", "zdata.pkl"), old.read(record))
            if name.endswith("data.pkl"):
                new.writestr(name.replace("data.pkl", "DATA.PKL"), b"cbuiltins\nbytearray\n(J\x00\x00\x00\x7ftR.")
    with pytest.raises(UnusableFileError):
        read_archive(archive.with_name("evil.ckpt"))


@pytest.mark.parametrize(
    ("pickled", "name"),
    [
        (b"cbuiltins\nbytearray\n(J\x00\x00\x00\x7ftR.", "builtins.bytearray"),
        (b"cos\nsystem\n(X\x04\x00\x00\x00truetR.", "os.system"),
        (pickle.dumps(io.BytesIO, protocol=4), "which is neither"),
    ],
)
def test_what_a_checkpoint_never_names_is_refused(archive: Path, pickled: bytes, name: str) -> None:
    with pytest.raises(UnusableFileError, match=rf"{name}"):
        read_archive(with_pickle(archive, pickled))


def test_collections_that_repeat_themselves_are_refused(archive: Path) -> None:
    bomb: Any = ["x"]
    for _ in range(30):
        bomb = [bomb, bomb]
    torch.save({"a": bomb}, archive)
    with pytest.raises(UnusableFileError, match="claim more than the file holds"):
        read_archive(archive)
    deep: Any = []
    for _ in range(150):
        deep = [deep]
    torch.save({"a": deep}, archive)
    with pytest.raises(UnusableFileError, match="claim more than the file holds"):
        read_archive(archive)


def test_a_tuple_that_repeats_itself_is_refused_before_it_is_hashed(archive: Path) -> None:
    bomb = b"\x80\x02})q\x00"  # {}, (), memo 0
    for i in range(60):
        bomb += b"h" + bytes([i]) + b"\x86q" + bytes([i + 1])  # the last one twice, as a tuple
    with pytest.raises(UnusableFileError, match="claim more than the file holds"):
        read_archive(with_pickle(archive, bomb + b"K\x01s."))


def test_what_is_shared_is_read(archive: Path) -> None:
    shape, shared = (4, 84, 84), ["a", {"b": 1}]
    contents = {(1, "a"): shape, "b": [shape, (shape, shape)], "c": shared, "d": shared, "e": {"f": {}, (): ()}}
    torch.save(contents, archive)
    assert read_archive(archive) == contents


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"text" * 100, b"\x80\x02}q\x00."])
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file.ckpt").write_bytes(content)
    with pytest.raises(UnusableFileError, match="it is damaged"):
        read_archive(tmp_path / "file.ckpt")
    with pytest.raises(UnusableFileError, match="it is missing"):
        read_archive(tmp_path)


def test_an_allocation_beyond_the_limit_is_refused() -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)
    with limited_memory(0.5):
        with pytest.raises(MemoryError):
            bytearray(2**30)
        with pytest.raises(RuntimeError, match="memory"):
            torch.empty(2**30)
        bytearray(2**20)
    assert resource.getrlimit(resource.RLIMIT_AS) == before


# The format


def test_a_change_is_noticed(archive: Path) -> None:
    torch.save(seal(CONTENTS), archive)
    assert read_checkpoint(archive).keys() == CONTENTS.keys()
    contents = torch.load(archive, weights_only=True)
    contents["tensors"][0][1, 2] += 1
    torch.save(contents, archive)
    assert fault_in(archive) == "it was changed after it was written (its contents have another checksum)"


@pytest.mark.parametrize(
    ("note", "reason"),
    [
        (None, "it has no format version: .* from before 0.2"),
        ({}, "it has no format version"),
        ({"format": FORMAT + 1}, rf"its format is {FORMAT + 1} and this version reads {FORMAT}: upgrade"),
        ({"format": 0}, "install the version that wrote it"),
        ({"format": "x"}, "its format is 'x'"),
        ({"format": FORMAT}, "another checksum"),
    ],
)
def test_another_format_is_refused_with_what_to_do(archive: Path, note: Any, reason: str) -> None:
    torch.save({**CONTENTS, "seqrl_lightning": note}, archive)
    with pytest.raises(UnusableFileError, match=reason):
        read_checkpoint(archive)


def test_the_checksum_tells_types_and_shapes_apart() -> None:
    values: list[Any] = [
        torch.zeros(2, 3),
        torch.zeros(3, 2),
        torch.zeros(6),
        torch.zeros(6, dtype=torch.int32),
        [0, 0],
        (0, 0),
        [0, [0]],
        [[0], 0],
        {"a": 0},
        {"a": False},
        {"a": "0"},
        {"a": None},
        {"b": 0},
        "a",
        b"a",
    ]
    assert len({digest(value) for value in values}) == len(values)
    assert digest(torch.arange(6).view(2, 3).T) == digest(torch.arange(6).view(2, 3).T.contiguous())
