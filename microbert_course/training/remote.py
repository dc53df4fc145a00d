"""Runs whose folder is an address: s3://, gs://, az:// or any other that fsspec knows.

An object store has no rename, so a run works in a local folder, and after every checkpoint the first process copies up what is new:
the files for readers, then the checkpoint's files, its manifest last. Every object is read back and its hash compared, and only then
are older checkpoints deleted up there. Three names say what the address holds:

- checkpoints/STEP/manifest.json: this checkpoint is whole; without it the checkpoint does not exist
- run.json: this is a training run of ours, and which one
- training.json: the run is finished; it is written last of all

One machine at a time writes to an address: the local folder is locked, the address is not."""

import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from microbert_course.errors import CourseError
from microbert_course.files import sync_folder, write_json
from microbert_course.manifests import MANIFEST, PARTIAL, damage, read_manifest, sha256
from microbert_course.paths import cache_dir
from microbert_course.training.checkpoints import Checkpoint, CheckpointFolder
from microbert_course.training.run_folder import RunFolder

RUN, DONE = "run.json", "training.json"
_PART = 2**24  # bytes that one request reads
_CREDENTIALS = {  # by whom a protocol is spoken: what its credentials are called
    ("s3", "s3a"): "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION, and AWS_ENDPOINT_URL for a server that is not Amazon's",
    ("gs", "gcs"): "GOOGLE_APPLICATION_CREDENTIALS, the path of a service account's key",
    ("az", "azure", "abfs", "abfss", "adl"): "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
_REFUSED = re.compile(r"\b40[13]\b|denied|signature|authenti|credential|access.?key|account must|metadata|169\.254\.169\.254|permission", re.I)
_ABSENT = re.compile(r"\b404\b|NoSuchBucket|ContainerNotFound|bucket does not exist", re.I)


def run_folder(folder: str | Path, keep_checkpoints: int = 2) -> RunFolder:
    """The folder of a run, here or at an address.

    Raises: CourseError if an address names nothing, or came as a Path, which has lost one of its two slashes."""
    text = str(folder)
    if is_address(text):
        if not text.partition("://")[2].strip("/"):
            raise CourseError(f"the address {text} names no bucket: write one behind it, as in s3://bucket/name")
        return RemoteRun(text, keep_checkpoints)
    if re.match(r"[A-Za-z][\w+.-]+:[/\\](?![/\\])", text):
        raise CourseError(f"{text} was an address before it became a Path: pass it as text, with both slashes")
    return RunFolder(folder, keep_checkpoints)


def is_address(folder: str | Path) -> bool:
    "Whether this is something like s3://bucket/name."
    return re.match(r"[A-Za-z][\w+.-]+://", str(folder)) is not None


class Store:
    "The objects under an address. Methods raise whatever the file system behind it raises."

    def __init__(
        self,
        address: str,
        patience_s: float = 60,  # for one request
    ):
        self.address = address
        protocol, _, rest = address.partition("://")
        if any(protocol in spoken for spoken in _CREDENTIALS):
            from obstore.fsspec import FsspecStore

            retries = {"max_retries": 2, "retry_timeout": timedelta(seconds=2 * patience_s),
                       "backoff": {"init_backoff": timedelta(seconds=0.2), "max_backoff": timedelta(seconds=1), "base": 2}}
            limits = {"connect_timeout": timedelta(seconds=3), "timeout": timedelta(seconds=patience_s),
                      "allow_http": True}  # which only AWS_ENDPOINT_URL and its like can name
            # made here and not registered with fsspec: other users of s3:// in this program keep what they have
            self.files = FsspecStore(protocol, client_options=limits, retry_config=retries, skip_instance_cache=True)
            self.root = rest.rstrip("/")
        else:
            import fsspec

            self.files, root = fsspec.url_to_fs(address)
            self.root = root.rstrip("/")

    def sizes(self) -> dict[str, int]:
        "The name and the number of bytes of every object."
        self.files.invalidate_cache()
        found = self.files.find(self.root, detail=True)
        return {path.removeprefix(self.root).lstrip("/"): about["size"] for path, about in found.items()}

    def parts(self, name: str) -> Iterator[bytes]:
        "The bytes of an object, in pieces that fit into memory."
        path = f"{self.root}/{name}"
        size = self.files.size(path)
        for start in range(0, size, _PART):
            yield self.files.cat_file(path, start, min(start + _PART, size))

    def fetch(self, name: str, path: Path) -> None:
        "Copy an object into a file."
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            for part in self.parts(name):
                file.write(part)

    def put(self, path: Path, name: str) -> None:
        """Copy a file into an object and read it back.

        Raises: OSError if other bytes come back, and what the file system raises."""
        expected, found = sha256(path), hashlib.sha256()
        self.files.makedirs(f"{self.root}/{name}".rpartition("/")[0], exist_ok=True)  # a folder on a disk has to be there
        self.files.put_file(str(path), f"{self.root}/{name}")
        for part in self.parts(name):
            found.update(part)
        if found.hexdigest() != expected and sha256(path) == expected:  # TensorBoard may have added to its file meanwhile
            raise OSError(f"{name} came back as other bytes than were sent")

    def remove(self, names: list[str]) -> None:
        "Delete objects, in this order; it is no error if one is gone already."
        for name in names:
            try:
                self.files.rm_file(f"{self.root}/{name}")
            except FileNotFoundError:
                pass

    def try_out(self) -> None:
        "Write, read and delete an object; nothing is left."
        name = f"test-{uuid.uuid4().hex}"
        self.files.makedirs(self.root, exist_ok=True)
        self.files.pipe_file(f"{self.root}/{name}", b"test")
        if b"".join(self.parts(name)) != b"test":
            raise OSError("what was written came back as other bytes")
        self.files.rm_file(f"{self.root}/{name}")


class RemoteRun(RunFolder):
    "A run folder with a copy at an address, which is what counts when a run is begun or goes on."

    def __init__(self, address: str, keep_checkpoints: int = 2):
        self.address = address.rstrip("/")
        name = re.sub(r"[^\w.-]+", "-", self.address.rpartition("/")[2])
        super().__init__(cache_dir() / "runs" / f"{name}-{hashlib.sha256(self.address.encode()).hexdigest()[:12]}", keep_checkpoints)
        self.store = None
        self.expected: bytes | None = None  # the run.json up there, as far as we know
        self.may_clear = False  # whether something was there that we were told to replace
        self.copied = {}  # name of a file or a checkpoint -> what it was when it was copied

    def open(self, overwrite: bool = False, resume: str | Path | None = None) -> Checkpoint | None:
        """Take the address, or say in one sentence why not; what is newer up there is fetched first.

        Raises: CourseError as RunFolder.open does; or if the store cannot be reached, read, or written to."""
        with explained(self.address):
            store = Store(self.address, patience_s=5)
            found = store.sizes()
            if found and not found.keys() & {RUN, DONE}:
                raise CourseError(f"{self.address} is there and is no training run, so it is not replaced: choose another folder")
            if DONE in found and not overwrite and not resume:
                raise CourseError(f"{self.address} holds a finished run: choose another folder, or pass --overwrite to replace it")
            if checkpoints_in(found) and not overwrite and not resume:
                raise CourseError(f"{self.address} holds an interrupted run: pass --resume latest to go on, or --overwrite to start anew")
            store.try_out()
            self.store, self.may_clear = Store(self.address), bool(found)
            self.expected = b"".join(store.parts(RUN)) if RUN in found else None
            if found:
                self._forget_other_runs()
            if checkpoints_in(found) and resume and not overwrite:
                resume = self._fetch(found, resume)
        checkpoint = super().open(overwrite, resume)
        if not (self.path / RUN).exists():
            write_json(self.path / RUN, {"run": uuid.uuid4().hex, "address": self.address})
        return checkpoint

    def _lock(self) -> None:
        if self.lock is None:
            super()._lock()

    def _forget_other_runs(self) -> None:
        "Local folders of runs that have been replaced up there are of no use."
        if self.path.exists() and not self._is_same(self.path):
            self._lock()  # not under the hands of another process
            self.lock.release()
            self.lock = None
            shutil.rmtree(self.path)
        if self.final.exists() and not self._is_same(self.final):
            shutil.rmtree(self.final)

    def _is_same(self, folder: Path) -> bool:
        return (folder / RUN).is_file() and (folder / RUN).read_bytes() == self.expected

    def _fetch(self, found: dict[str, int], resume: str | Path) -> str | Path:  # `resume`, as a local folder if it was an address
        "Bring here the newest checkpoint that is whole, if it is newer than ours, and the files for readers that go with it."
        names, wanted = checkpoints_in(found), None
        if is_address(resume):
            wanted = str(resume).rstrip("/").rpartition("/")[2]
            if f"{self.address}/checkpoints/{wanted}" != str(resume).rstrip("/") or wanted not in names:
                raise CourseError(f"{resume} is no checkpoint of this run: give one of {self.address}/checkpoints/, or `latest`")
            names = [wanted]
        home = self.final if self.final.exists() and not self.path.exists() else self.path
        here = {path.name for path in CheckpointFolder(home / "checkpoints").all() if damage(path) is None}
        for name in names:
            if name in here or (wanted is None and name < max(here, default="")):
                break
            if self.final.exists() and not self.path.exists():
                self.final.rename(self.path)
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock()
            if fault := self._fetch_checkpoint(name, found):
                print(f"the checkpoint {name} in {self.address} is passed over: {fault}")
                continue
            for file in files_for_readers(found):
                self.store.fetch(file, self.path / file)
            if RUN in found:
                self.store.fetch(RUN, self.path / RUN)
            break
        else:
            if not here:
                raise CourseError(f"no checkpoint in {self.address} can be used: restore one, or begin anew with --overwrite")
        return self.checkpoints.folder / wanted if wanted else resume

    def _fetch_checkpoint(self, name: str, found: dict[str, int]) -> str | None:  # what is wrong with it
        "Bring a checkpoint here, whole or not at all."
        path = self.checkpoints.folder / name
        partial = path.with_name(f".{name}.{os.getpid()}{PARTIAL}")
        shutil.rmtree(partial, ignore_errors=True)
        prefix = f"checkpoints/{name}/"
        for file in found:
            if file.startswith(prefix):
                self.store.fetch(file, partial / file.removeprefix(prefix))
        if fault := damage(partial):
            shutil.rmtree(partial)
            return fault
        shutil.rmtree(path, ignore_errors=True)
        partial.rename(path)
        sync_folder(path.parent)
        return None

    def copy_up(self) -> None:
        "Copy up what is new. If that fails, one line says so; the local checkpoint stays, and the next time is the next try."
        from tqdm import tqdm

        try:
            self._copy_up(self.path)
        except Exception as error:  # every file system has errors of its own, and none of them may cost the run
            newest = self._newest(self.path)
            tqdm.write(f"the checkpoint {newest} is not in {self.address} ({reason(error)}): it is in {self.checkpoints.folder}, and the next one is tried again")

    def finish(self) -> None:
        """The run is done: the folder gets its name, and what is not up there yet is copied, training.json last.

        Raises: CourseError if that fails, with the place of the local folder."""
        super().finish()
        try:
            self._copy_up(self.final)
            self.store.put(self.final / DONE, DONE)
        except Exception as error:
            raise CourseError(f"the run is done and lies in {self.final}, but could not be copied to {self.address} ({reason(error)}): "
                              f"see to that, then give the same command with --resume latest") from None
        print(f"the finished run is in {self.address}")

    def _copy_up(self, folder: Path) -> None:
        self._take_over(folder)
        names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        for name in files_for_readers(names):  # before the checkpoint: a run that goes on from it finds the best model so far
            about = (folder / name).stat()
            state = about.st_ino, about.st_size, about.st_mtime_ns
            if self.copied.get(name) != state:
                self.store.put(folder / name, name)
                self.copied[name] = state
        newest = self._newest(folder)
        if newest and newest not in self.copied:
            self._copy_checkpoint(folder, newest)
            self.copied[newest] = True
        self._rotate(newest)

    def _newest(self, folder: Path) -> str | None:
        "The newest checkpoint here that is whole: one was just saved, beside which damaged ones of later updates may lie."
        return next((path.name for path in CheckpointFolder(folder / "checkpoints").all() if damage(path) is None), None)

    def _take_over(self, folder: Path) -> None:
        """Make the address that of our run; a finished run is no longer finished.

        Raises: OSError if another run has been begun there meanwhile."""
        found, own = self.store.sizes(), (folder / RUN).read_bytes()
        theirs = b"".join(self.store.parts(RUN)) if RUN in found else None
        if theirs not in (own, self.expected, None) or (theirs != own and found and not self.may_clear):
            raise OSError("something else has been put there meanwhile")
        if theirs != own:
            self.store.remove(sorted(found.keys() - {RUN}, key=lambda name: (name != DONE, not name.endswith(MANIFEST))))
            self.store.put(folder / RUN, RUN)
            self.copied.clear()
        elif DONE in found:
            self.store.remove([DONE])
        self.expected, self.may_clear = own, False

    def _copy_checkpoint(self, folder: Path, name: str) -> None:
        "Its manifest goes first if it is replaced, and comes last: it says that all the others are there."
        prefix = f"checkpoints/{name}"
        self.store.remove([f"{prefix}/{MANIFEST}"])
        for file in read_manifest(folder / prefix)["files"]:
            self.store.put(folder / prefix / file, f"{prefix}/{file}")
        self.store.put(folder / prefix / MANIFEST, f"{prefix}/{MANIFEST}")

    def _rotate(self, newest: str | None) -> None:
        "Delete up there the checkpoints that are too old, and the remains of those that never became whole."
        found = self.store.sizes()
        kept = sorted(checkpoints_in(found), key=lambda name: name != newest)[: self.checkpoints.keep]  # those of later updates may be damaged
        old = [name for name in found if name.startswith("checkpoints/") and name.split("/")[1] not in kept]
        self.store.remove(sorted(old, key=lambda name: not name.endswith(MANIFEST)))


def checkpoints_in(names) -> list[str]:  # names: of objects, or of files in a run's folder
    "The checkpoints that have a manifest, the newest first."
    found = (re.fullmatch(rf"checkpoints/(step-\d{{8}})/{re.escape(MANIFEST)}", name) for name in names)
    return sorted((match[1] for match in found if match), reverse=True)


def files_for_readers(names) -> list[str]:
    "Everything but checkpoints, the marks of a run, its lock, and files that are being written; weights after the rest."
    return sorted((name for name in names if not name.startswith("checkpoints/") and name not in (RUN, DONE, "run.lock")
                   and not name.rpartition("/")[2].startswith(".")), key=lambda name: (name.endswith(".safetensors"), name))


@contextmanager
def explained(address: str) -> Iterator[None]:
    "Raises: CourseError in place of whatever a file system raises in this block, with the remedy."
    protocol = address.partition("://")[0]
    credentials = next((names for spoken, names in _CREDENTIALS.items() if protocol in spoken), "those that its file system asks for")
    try:
        yield
    except CourseError:
        raise
    except ImportError as error:
        remedy = 'run `pip install -e ".[cloud]"`' if (error.name or "").startswith("obstore") else "install it"
        raise CourseError(f"{address} needs a package that is not there ({error}): {remedy}") from None
    except Exception as error:  # every file system has errors of its own
        if _ABSENT.search(str(error)):
            remedy = "there is no such bucket or container: make it, or correct the address"
        elif _REFUSED.search(str(error)) or isinstance(error, PermissionError):
            remedy = f"the credentials are missing or refused: set {credentials}"
        else:
            remedy = "correct the address, or see to the network and the server"
        raise CourseError(f"{address} cannot be used ({reason(error)}): {remedy}") from None


def reason(error: Exception) -> str:
    "What went wrong in a few words: the store's own code if it gave one, else the first line without its tail."
    text = str(error).strip()
    if code := re.search(r"<Code>(\w+)</Code>", text):
        return code[1]
    first = text.partition("\n")[0].partition(": <?xml")[0].removesuffix(":")
    first = re.sub(r"^Generic \w+ error: |(?<=\S) in [\d.]+[mµn]?s\b(, after .*?(?= - ))?", "", first)
    return first or type(error).__name__
