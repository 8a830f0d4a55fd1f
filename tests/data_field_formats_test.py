"""Formats of microscopes, telescopes and clinics, which need extras."""

from __future__ import annotations

import numpy as np
import pytest

from tfflowdn import data


def _stack(dtype):
    return np.random.default_rng(0).integers(0, 200, (3, 8, 9)).astype(dtype)


def _write_mrc(path, stack):
    mrcfile = pytest.importorskip("mrcfile")
    with mrcfile.new(path, stack) as file:
        file.voxel_size = 1.5
        file.add_label("made by a test")


def _write_fits(path, stack):
    fits = pytest.importorskip("astropy.io.fits")
    unit = fits.PrimaryHDU(stack)
    unit.header["OBJECT"] = "M 31"
    unit.writeto(path)


def _write_dicom(path, stack):
    pydicom = pytest.importorskip("pydicom")
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.3"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.4"
    dataset.PatientName = "Nobody"
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = stack.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    bits = 8 * stack.dtype.itemsize
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
    dataset.PixelRepresentation = int(stack.dtype.kind == "i")
    dataset.PixelData = stack.tobytes()
    dataset["PixelData"].VR = "OW"
    dataset.save_as(path, enforce_file_format=True)


def _mrc_facts(path):
    import mrcfile

    with mrcfile.open(path) as file:
        return file.data.copy(), float(file.voxel_size.x), list(file.get_labels())


def _fits_facts(path):
    from astropy.io import fits

    with fits.open(path, memmap=False) as units:
        return units[0].data, units[0].header["OBJECT"]


def _dicom_facts(path):
    import pydicom

    dataset = pydicom.dcmread(path)
    return dataset.pixel_array, str(dataset.PatientName), dataset.BitsStored


CASES = {
    "a.mrc": (_write_mrc, _mrc_facts, ("int16", "uint16", "float32")),
    "a.fits": (_write_fits, _fits_facts, ("uint8", "int16", "uint16", "float32")),
    "a.dcm": (_write_dicom, _dicom_facts, ("int16", "uint16")),
}


@pytest.mark.parametrize(
    ("name", "dtype"), [(n, d) for n, (_, _, kinds) in CASES.items() for d in kinds]
)
def test_stacks_are_read_and_written_with_their_headers(tmp_path, name, dtype):
    write, facts, _ = CASES[name]
    stack, path = _stack(dtype), tmp_path / name
    write(path, stack)
    source = data.open_source(str(tmp_path), channels=1, pixel_range="0,200")
    assert len(source) == 3
    pictures = np.stack(list(source.dataset().as_numpy_iterator()))
    np.testing.assert_allclose(pictures[..., 0], stack / 200, rtol=1e-6)
    target = tmp_path / f"b{path.suffix}"
    data.map_pages(path, target, lambda pixels, out: np.copyto(out, pixels + 1))
    before, after = facts(path), facts(target)
    np.testing.assert_array_equal(after[0], stack + 1)
    assert after[0].dtype == before[0].dtype
    assert after[1:] == before[1:]


@pytest.mark.filterwarnings("ignore")  # Of the libraries, about damage.
@pytest.mark.parametrize("name", CASES)
def test_damaged_files_are_errors_or_pictures(tmp_path, name):
    path, target = tmp_path / name, tmp_path / f"new{name[1:]}"
    CASES[name][0](path, _stack("int16"))
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(20):
        content = bytearray(whole[: rng.integers(1, len(whole))])
        content[rng.integers(min(len(content), 300))] = rng.integers(256)
        path.write_bytes(content)
        try:
            data.map_pages(path, target, lambda pixels, out: np.copyto(out, pixels))
        except ValueError as error:
            assert "Received: " in str(error)
            assert not target.exists()
        target.unlink(missing_ok=True)
        assert [file.name for file in tmp_path.iterdir()] == [name]


def _with(content, changes):
    content = bytearray(content)
    for start, value in changes:
        content[start : start + len(value)] = value
    return bytes(content)


def _mrc_bomb(whole):
    return _with(whole, [(0, np.int32([30_000, 30_000]).tobytes())])


def _fits_bomb(whole):
    for axis, size in ((b"1", 9), (b"2", 8)):
        old = b"NAXIS" + axis + b"  =" + str(size).rjust(21).encode()
        assert old in whole
        new = b"NAXIS" + axis + b"  =" + b"30000".rjust(21)
        whole = whole.replace(old, new)
    return whole


def _dicom_bomb(whole):
    tags = (b"\x28\x00\x10\x00US", b"\x28\x00\x11\x00US")
    changes = [(whole.index(tag) + 8, b"\x30\x75") for tag in tags]
    return _with(whole, changes)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "bomb"),
    [("a.mrc", _mrc_bomb), ("a.fits", _fits_bomb), ("a.dcm", _dicom_bomb)],
)
def test_a_header_that_declares_too_much_is_refused(tmp_path, name, bomb):
    path = tmp_path / name
    CASES[name][0](path, _stack("int16"))
    path.write_bytes(bomb(path.read_bytes()))
    with pytest.raises(data.ImageReadError, match="Received: "):
        next(iter(data.read_pages(path, tmp_path)))
    assert not list(tmp_path.glob("*.tmp*"))


def test_other_units_and_compression_of_fits_are_kept(tmp_path):
    fits = pytest.importorskip("astropy.io.fits")
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 200, (16, 20)).astype(np.int16)
    table = fits.BinTableHDU.from_columns([fits.Column("x", "E", array=[1, 2])])
    for name, unit in (
        ("plain.fits", fits.ImageHDU(picture.astype(np.uint16))),
        ("packed.fits", fits.CompImageHDU(picture)),
    ):
        path, target = tmp_path / name, tmp_path / f"new_{name}"
        units = [fits.PrimaryHDU(), unit, table]
        fits.HDUList(units).writeto(path, checksum=True)
        data.map_pages(path, target, lambda page, out: np.copyto(out, page + 1))
        with fits.open(target, memmap=False, checksum=True) as written:
            written.verify("exception")
            np.testing.assert_array_equal(written[1].data, picture + 1)
            assert written[1].data.dtype == unit.data.dtype
            assert written[2].data["x"].tolist() == [1, 2]
            assert hasattr(written[1], "compression_type") == (name == "packed.fits")


def test_fits_and_mrc_change_the_type(tmp_path):
    for name, dtype in (("a.fits", "float32"), ("a.mrc", "float32")):
        path, target = tmp_path / name, tmp_path / f"new{name[1:]}"
        CASES[name][0](path, _stack("uint16"))
        data.map_pages(path, target, lambda page, out: np.copyto(out, page), dtype)
        after = CASES[name][1](target)[0]
        np.testing.assert_array_equal(after, _stack("uint16"))
        assert after.dtype.newbyteorder("=") == dtype


@pytest.mark.parametrize("name", ["a.mrc", "a.fits", "a.dcm"])
def test_planes_are_given_one_by_one(tmp_path, name):
    path, target = tmp_path / name, tmp_path / f"new{name[1:]}"
    CASES[name][0](path, _stack("int16"))

    def copy(plane, out):
        assert plane.shape == out.shape == (8, 9, 1)
        np.copyto(out, plane)

    assert data.map_pages(path, target, copy) == 3 * 8 * 9
    whole = CASES[name][1]
    np.testing.assert_array_equal(whole(path)[0], whole(target)[0])


def test_a_missing_library_names_the_extra(tmp_path, monkeypatch):
    path = tmp_path / "a.fits"
    path.write_bytes(b"SIMPLE  =                    T".ljust(2880))
    monkeypatch.setitem(__import__("sys").modules, "astropy.io.fits", None)
    with pytest.raises(data.ImageReadError, match=r"pip install 'tfflowdn\[astronomy"):
        data.num_pages(path)
