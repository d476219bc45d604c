"""The loader of MNIST's files, on tiny files of the same format."""

import gzip

import pytest
import torch

from experiments.truth.images.mnist import load


def idx(values):
    sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
    return bytes([0, 0, 8, values.ndim]) + sizes + bytes(values.flatten().tolist())


@pytest.fixture
def parts():
    generator = torch.Generator().manual_seed(0)
    draw = {"train": 5, "t10k": 3}
    return {
        name: (
            torch.randint(256, (rows, 28, 28), generator=generator),
            torch.randint(10, (rows,), generator=generator),
        )
        for name, rows in draw.items()
    }


def write(folder, parts, end="", mark="-"):
    pack = gzip.compress if end else bytes
    for name, (x, y) in parts.items():
        (folder / f"{name}-images{mark}idx3-ubyte{end}").write_bytes(pack(idx(x)))
        (folder / f"{name}-labels{mark}idx1-ubyte{end}").write_bytes(pack(idx(y)))


@pytest.mark.parametrize(("end", "mark"), [("", "-"), (".gz", "-"), ("", "."), (".gz", ".")])
def test_files_are_read_as_they_were_written(tmp_path, parts, end, mark):
    write(tmp_path, parts, end, mark)
    mnist = load(tmp_path)
    for part, name in ((mnist.train, "train"), (mnist.test, "t10k")):
        x, y = parts[name]
        assert part.x.dtype == torch.float32
        assert torch.equal(part.x, x.flatten(1).float() / 255)
        assert torch.equal(part.y, y)
        assert part.y.dtype == torch.int64


def test_the_environment_names_the_folder(tmp_path, parts, monkeypatch):
    write(tmp_path, parts)
    monkeypatch.setenv("MNIST_PATH", str(tmp_path))
    assert load().test.x.shape == (3, 784)
    monkeypatch.delenv("MNIST_PATH")
    with pytest.raises(ValueError, match=r"path: .*MNIST_PATH is not set.*Nothing is downloaded.*glyphs"):
        load()


def test_missing_and_broken_files_are_named(tmp_path, parts):
    with pytest.raises(ValueError, match="path: expected a file train-images-idx3-ubyte or"):
        load(tmp_path)
    write(tmp_path, parts)
    labels = tmp_path / "t10k-labels-idx1-ubyte"
    whole = labels.read_bytes()
    for broken in (whole[:-1], b"", whole[:3] + b"\3" + whole[4:], b"<html>not found</html>"):
        labels.write_bytes(broken)
        with pytest.raises(ValueError, match="t10k-labels-idx1-ubyte to hold unsigned bytes in 1 dimensions"):
            load(tmp_path)
    labels.write_bytes(idx(torch.tensor([1, 2])))
    with pytest.raises(ValueError, match="got 2 labels in .* for 3 images"):
        load(tmp_path)
    labels.unlink()
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(whole)[:-9])
    with pytest.raises(ValueError, match="path: expected a readable file"):
        load(tmp_path)
