"""`training.checkpoints` and `manifests`: any damaged byte is found, and what is whole is never deleted too early."""

import random
import shutil

import pytest
import torch
from safetensors import SafetensorError

from microbert_course.errors import CourseError
from microbert_course.manifests import damage, remove_debris, sha256, whole_folder
from microbert_course.training import checkpoints
from microbert_course.training.checkpoints import Checkpoint, CheckpointFolder


def a_checkpoint(num_updates: int) -> Checkpoint:
    generator = torch.Generator().manual_seed(num_updates)
    return Checkpoint(num_updates, {"model": {"weight": torch.randn(8, 4, generator=generator)},
                                    "optimizer": {"weight/exp_avg": torch.randn(8, 4, generator=generator)}}, {"history": {"train": []}})


def test_what_is_saved_comes_back(tmp_path):
    folder = CheckpointFolder(tmp_path)
    folder.save(a_checkpoint(3))
    found, expected = folder.newest(), a_checkpoint(3)
    assert found.num_updates == 3 and found.values["history"] == {"train": []}
    assert torch.equal(found.tensors["model"]["weight"], expected.tensors["model"]["weight"])
    assert torch.equal(found.tensors["optimizer"]["weight/exp_avg"], expected.tensors["optimizer"]["weight/exp_avg"])


def test_the_newest_stay(tmp_path):
    folder = CheckpointFolder(tmp_path, keep=2)
    for num_updates in (1, 2, 30, 4):
        folder.save(a_checkpoint(num_updates))
    assert [path.name for path in folder.all()] == ["step-00000030", "step-00000004"]


def test_damaged_ones_of_later_updates_do_not_crowd_out_what_was_just_saved(tmp_path):
    for number in (10, 20, 30):
        path = CheckpointFolder(tmp_path, keep=3).save(a_checkpoint(number))
        if number > 10:
            (path / "state.json").write_text("{}")
    folder = CheckpointFolder(tmp_path, keep=2)
    folder.save(a_checkpoint(15))  # by the run that went on from 10
    assert folder.newest(lambda line: None).num_updates == 15


def test_200_flips_and_truncations_are_all_found(tmp_path):
    "One bit anywhere in any file, the manifest included, or any file cut short: the older checkpoint is used, with one line."
    folder, draw = CheckpointFolder(tmp_path / "all"), random.Random(0)
    folder.save(a_checkpoint(1))
    path = folder.save(a_checkpoint(2))
    shutil.copytree(path, tmp_path / "intact")
    for _ in range(200):
        file = draw.choice(sorted(path.iterdir()))
        content = bytearray(file.read_bytes())
        if draw.random() < 0.7:
            content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        else:
            del content[draw.randrange(len(content)) :]
        file.write_bytes(content)
        said = []
        assert folder.newest(said.append).num_updates == 1
        assert len(said) == 1 and said[0].startswith("the checkpoint step-00000002 is passed over: ")
        shutil.rmtree(path)
        shutil.copytree(tmp_path / "intact", path)
    assert folder.newest().num_updates == 2


def test_a_folder_without_a_manifest_does_not_exist(tmp_path):
    folder = CheckpointFolder(tmp_path)
    (folder.save(a_checkpoint(1)) / "manifest.json").unlink()
    assert folder.newest(lambda line: None) is None


def test_an_older_one_is_deleted_only_after_the_new_one_was_read_back(tmp_path, monkeypatch):
    folder = CheckpointFolder(tmp_path, keep=1)
    folder.save(a_checkpoint(1))
    monkeypatch.setattr(checkpoints, "damage", lambda path: "model.safetensors holds other bytes than were written")
    with pytest.raises(CourseError, match="cannot be read back"):
        folder.save(a_checkpoint(2))
    monkeypatch.undo()
    assert [path.name for path in folder.all()] == ["step-00000002", "step-00000001"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"),
                                   SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")])
def test_a_full_disk_leaves_the_older_one_and_no_debris(tmp_path, monkeypatch, error):
    folder = CheckpointFolder(tmp_path, keep=1)
    folder.save(a_checkpoint(1))
    def full(tensors, path):
        path.write_bytes(b"half")
        raise error
    monkeypatch.setattr(checkpoints, "save_file", full)
    with pytest.raises(OSError, match="No space left"):
        folder.save(a_checkpoint(2))
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"] and folder.newest().num_updates == 1


@pytest.mark.parametrize(("what", "message"), [
    ("nothing", "is no checkpoint: give a folder like RUN/checkpoints/step-00000100, or `latest`"),
    ("damaged", "cannot be used: state.json is missing; resume from another one"),
])
def test_a_checkpoint_that_is_named_and_cannot_be_used(tmp_path, what, message):
    path = CheckpointFolder(tmp_path).save(a_checkpoint(1))
    if what == "nothing":
        path = tmp_path / "other"
    else:
        (path / "state.json").unlink()
    with pytest.raises(CourseError, match=message):
        Checkpoint.load(path)


# --- manifests

def test_a_folder_is_whole_or_absent(tmp_path):
    with pytest.raises(RuntimeError), whole_folder(tmp_path / "new") as folder:
        (folder / "a").write_text("text")
        raise RuntimeError("in the middle")
    assert list(tmp_path.iterdir()) == []
    with whole_folder(tmp_path / "new") as folder:
        (folder / "part").mkdir()
        (folder / "part" / "a").write_text("text")
    assert damage(tmp_path / "new") is None and [path.name for path in tmp_path.iterdir()] == ["new"]


@pytest.mark.parametrize(("deed", "sentence"), [
    (lambda folder: (folder / "a").unlink(), "a is missing"),
    (lambda folder: (folder / "a").write_text("tex"), "a has 3 bytes instead of 4"),
    (lambda folder: (folder / "a").write_text("test"), "a holds other bytes than were written"),
    (lambda folder: (folder / "manifest.json").unlink(), "manifest.json is missing"),
    (lambda folder: (folder / "manifest.json").write_text("{}"), "manifest.json is damaged"),
])
def test_damage_is_named(tmp_path, deed, sentence):
    with whole_folder(tmp_path / "new") as folder:
        (folder / "a").write_text("text")
    deed(tmp_path / "new")
    assert damage(tmp_path / "new") == sentence


def test_debris_of_killed_writers_is_taken_away(tmp_path):
    for name in (".step-1.77.partial", ".other.77.partial", "step-2"):
        (tmp_path / name).mkdir()
    remove_debris(tmp_path, "step-*")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".other.77.partial", "step-2"]


def test_sha256_is_that_of_the_bytes(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
