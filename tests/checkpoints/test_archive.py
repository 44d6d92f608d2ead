"""Reading a file takes no more than the file has, whoever wrote it."""

import io
import pickle
import re
import resource
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from seqrl_lightning.checkpoints.archive import limited_memory, read_archive, write_archive
from seqrl_lightning.checkpoints.format import FORMAT, digest, find_fault, read_checkpoint, seal
from seqrl_lightning.checkpoints.records import UnusableFileError, read_records
from seqrl_lightning.types import RunError

CONTENTS = {
    "tensors": [torch.arange(6.0).view(2, 3), torch.zeros(0), torch.tensor(True), torch.ones(3, dtype=torch.bfloat16)],
    "unsigned": torch.tensor([1, 2, 3], dtype=torch.uint16),
    "texts": ["a", "", "ß"],
    "numbers": {1: 2.5, 2: -(10**30), 3: None, 4: True},
    "nested": {"a": [{"b": (1, 2)}]},
}

DTYPES = [
    *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128),
]


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


@pytest.mark.parametrize("dtype", [*DTYPES, torch.uint16, torch.uint64, torch.float8_e4m3fn], ids=str)
@pytest.mark.filterwarnings("error")
def test_tensors_of_every_dtype_are_read_without_a_warning(dtype: torch.dtype, tmp_path: Path) -> None:
    tensor = torch.tensor([0, 1, 1, 0]).to(dtype)
    torch.save(tensor, tmp_path / "tensor.ckpt")
    found = read_archive(tmp_path / "tensor.ckpt")
    assert found.dtype is dtype
    assert found.view(torch.uint8).equal(tensor.view(torch.uint8))


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
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with limited_memory(0.5):
        with pytest.raises(MemoryError):
            bytearray(2**30)
        with pytest.raises(RuntimeError, match="memory"):
            torch.empty(2**30)
        bytearray(2**20)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


@pytest.mark.parametrize("kind", [b"torch\nFloatStorage\n", b"torch.storage\nUntypedStorage\n"])
@pytest.mark.parametrize("memo", [b"", b"q\x010h\x01"])  # put into the memo, dropped, and taken from there
def test_no_storage_is_made_by_a_call(archive: Path, kind: bytes, memo: bytes) -> None:
    pickled = b"\x80\x02c" + kind + memo + pickle.dumps(10**12, 2)[2:-1] + b"\x85R."
    with pytest.raises(UnusableFileError, match="it makes a storage"):
        read_archive(with_pickle(archive, pickled))


@pytest.mark.parametrize("mmap", [True, False])
def test_a_storage_claims_no_more_than_its_record(archive: Path, mmap: bool) -> None:
    torch.save({"a": torch.zeros(777, dtype=torch.uint8), "b": torch.arange(5000.0)}, archive)
    with zipfile.ZipFile(archive) as whole:
        pickled = whole.read("archive/data.pkl")
    more = pickled.replace(pickle.dumps(777, 2)[2:-1], pickle.dumps(9000, 2)[2:-1])
    assert more != pickled
    with pytest.raises(UnusableFileError, match="data/0 claims more than its record holds"):
        read_archive(with_pickle(archive, more), mmap=mmap)


@pytest.mark.parametrize("place", [lambda it: {"a": it}, lambda it: {(1, it): "a"}])
def test_a_storage_is_no_value(place: Callable[[Any], Any], archive: Path) -> None:
    torch.save(place(torch.zeros(3).untyped_storage()), archive)
    with pytest.raises(UnusableFileError, match="it holds a TypedStorage, neither a tensor nor a plain value"):
        read_archive(archive)


def test_torchs_advice_to_trust_the_file_is_not_passed_on(archive: Path) -> None:
    with pytest.raises(UnusableFileError, match="neither a tensor nor a plain value") as told:
        read_archive(with_pickle(archive, b"\x80\x02}q\x00\x95\x00\x00\x00\x00\x00\x00\x00\x00."))
    assert "weights_only" not in str(told.value)


# The layout


END = struct.Struct("<4s4H2LH")


def test_records_are_found_where_zipfile_finds_them(archive: Path) -> None:
    with zipfile.ZipFile(archive) as whole, archive.open("rb") as file:
        records = read_records(file, archive.stat().st_size)
        assert [(r.name, r.crc, r.size) for r in records] == [
            (info.filename, info.CRC, info.file_size) for info in whole.infolist()
        ]
        for record in records:
            file.seek(record.start)
            assert file.read(record.size) == whole.read(record.name)


def ends(content: bytes) -> tuple[bytes, bytes, int]:
    """Records, directory and number of records of an archive."""
    _, _, _, number, _, size, start, _ = END.unpack(content[-END.size :])
    return content[:start], content[start : start + size], number


def with_two_directories(one: bytes, other: bytes) -> bytes:
    """An archive in which zipfile reads the one directory, and torch the other."""
    records, directory, number = ends(one)
    others, other_directory, _ = ends(other)
    assert (len(records), len(directory)) == (len(others), len(other_directory))
    # zipfile takes what the end doesn't account for as lying before the archive, and adds its length to all places.
    end = END.pack(b"PK\x05\x06", 0, 0, number, number, len(directory), len(others), 0)
    return others + other_directory + records + directory + end


def test_an_archive_that_two_programs_read_differently_is_refused(archive: Path) -> None:
    shown, hidden = {"a": torch.zeros(3)}, {"a": torch.ones(3)}
    contents = []
    for each in (shown, hidden):
        torch.save(each, archive)
        contents.append(archive.read_bytes())
    archive.write_bytes(with_two_directories(*contents))
    assert torch.equal(torch.load(archive, weights_only=True)["a"], hidden["a"])
    with zipfile.ZipFile(archive) as found:
        assert found.read("archive/data/0") == bytes(12)
    with pytest.raises(UnusableFileError, match="its directory isn't at its end"):
        read_archive(archive)


@pytest.mark.parametrize(
    "edit",
    [
        lambda whole: whole + b" ",
        lambda whole: whole[:-2] + b"\x01\x00 ",  # a comment
        lambda whole: b"PK\x03\x04" + whole,
        lambda whole: whole[:-42] + whole[-22:],  # an end for large files that nothing leads to
        lambda whole: whole[:-50] + b"\x00" * 8 + whole[-42:],
        lambda whole: whole.replace(b"archive/data/0", b"archive/data/9", 1),  # another name in the directory
    ],
)
def test_another_layout_is_refused(archive: Path, edit: Callable[[bytes], bytes]) -> None:
    archive.write_bytes(edit(archive.read_bytes()))
    with pytest.raises(UnusableFileError, match="it is damaged"):
        read_archive(archive)


def test_records_behind_four_gibibytes_are_found(tmp_path: Path) -> None:
    """Their places don't fit into 32 bits."""
    path = tmp_path / "large.zip"
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("archive/first", b"first")
    records, directory, _ = ends(path.read_bytes())
    long = struct.pack("<2HQ", 1, 8, 0)
    entry = directory[:30] + struct.pack("<H", len(long)) + directory[32:42] + b"\xff" * 4 + directory[46:] + long
    end = END.pack(b"PK\x05\x06", 0, 0, 1, 1, len(entry), len(records), 0)
    path.write_bytes(records + entry + end)
    with path.open("rb") as file:
        assert read_records(file, path.stat().st_size)[0].name == "archive/first"
    path.write_bytes(records + directory[:42] + b"\xff" * 4 + directory[46:] + path.read_bytes()[-22:])
    with path.open("rb") as file, pytest.raises(UnusableFileError):
        read_records(file, path.stat().st_size)


# The format


def test_a_change_is_noticed(archive: Path) -> None:
    whole = {**CONTENTS, "pytorch-lightning_version": "2.6.0", "epoch": 0, "state_dict": {}, "global_step": 1}
    torch.save(seal(whole), archive)
    assert read_checkpoint(archive).keys() == whole.keys()
    contents = torch.load(archive, weights_only=True)
    contents["tensors"][0][1, 2] += 1
    torch.save(contents, archive)
    assert find_fault(archive) == "it was changed after it was written (its contents have another checksum)"


@pytest.mark.parametrize(
    ("note", "reason"),
    [
        (None, "it has no format version: .* from before 0.2"),
        ({}, "it has no format version"),
        ({"format": FORMAT + 1}, rf"its format is {FORMAT + 1} and this version reads {FORMAT}: upgrade"),
        *(
            ({"format": found}, rf"its format is {re.escape(repr(found))}, which no version writes: it was changed$")
            for found in (True, 1.0, 0, -1, "2", [2])
        ),
        ({"format": "x" * 5000}, r"^.{,200}which no version writes"),
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


LONG = b"\x80\x02](" + b"N" * (5 * 2**20) + b"e."


def test_a_long_record_of_objects_is_refused_before_it_is_read(archive: Path) -> None:
    """Each of its letters may become an object, which takes far more memory."""
    path = with_pickle(archive, LONG)
    with (
        limited_memory(0.1),
        pytest.raises(UnusableFileError, match="it holds 5 MiB of numbers, texts and collections"),
    ):
        read_archive(path)
    assert read_archive(with_pickle(archive, b"\x80\x02](" + b"N" * 1000 + b"e.")) == [None] * 1000


def test_tensors_make_room_for_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seqrl_lightning.checkpoints.archive.MAX_PLAIN", 0)
    weights = {f"policy_net.layers.{i}.a_rather_long_name_of_a_layer.weight": torch.zeros(1, 1, 1) for i in range(200)}
    torch.save(weights, tmp_path / "weights.ckpt")
    assert len(read_archive(tmp_path / "weights.ckpt")) == 200


def test_what_could_not_be_read_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "long.ckpt"
    with pytest.raises(RunError, match=r"long.ckpt can't be written: .*tensors take their place"):
        write_archive(path, {"history": list(range(2**21))})
    assert not list(tmp_path.iterdir())
    write_archive(path, {"history": torch.arange(2**21)})
    assert len(read_archive(path)["history"]) == 2**21


@pytest.mark.parametrize("shape", [(150_000_000, 0), (0, 1, 20_000_000), (0, 3, 10**7)])
def test_a_shape_without_elements_claims_no_rows(shape: tuple[int, ...], tmp_path: Path) -> None:
    path = tmp_path / "empty.ckpt"
    torch.save({"empty": torch.zeros(shape)}, path)
    with pytest.raises(UnusableFileError, match=r"claims more than the file holds"):
        read_archive(path)
    torch.save({"empty": torch.zeros((1000, 2, 0), dtype=torch.bool)}, path)
    assert read_archive(path)["empty"].shape == (1000, 2, 0)
