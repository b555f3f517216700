"""Pictures as files, and their JSON."""

import json

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from napari_cnnvis.errors import CnnVisError
from napari_cnnvis.explain.attribution import Attribution
from napari_cnnvis.figure.files import provenance_beside, write_figure
from napari_cnnvis.figure.record import read_figure
from napari_cnnvis.figure.spec import FigureSpec
from napari_cnnvis.scan.files import read_volume

SMALL = {"width_mm": 60, "dpi": 80}


@pytest.fixture
def volumes(files):
    return [read_volume(path) for path in files()]


@pytest.mark.parametrize("layout", ["slices", "lightbox", "views"])
def test_the_json_draws_the_same_pixels_again(tmp_path, volumes, layout):
    spec = FigureSpec(layout=layout, background="white", **SMALL)
    write_figure(*volumes, spec, tmp_path / "plate.png", {"method": "CAM", "class_name": "a"})
    record = read_figure(tmp_path / "plate.json")
    assert record.spec == spec
    again = write_figure(*record.volumes(), record.spec, tmp_path / "b.png", record.provenance)
    assert (tmp_path / "plate.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert again.limits == (0.0, 1.0)


def test_the_json_says_what_was_drawn(tmp_path, volumes):
    write_figure(*volumes, FigureSpec(**SMALL), tmp_path / "plate.png")
    values = json.loads((tmp_path / "plate.json").read_text())
    assert values["scan"]["path"] == "scan.nii.gz"
    assert values["map"]["path"] == "map.nii.gz"
    assert len(values["map"]["sha256"]) == 64
    assert set(values["versions"]) == {"napari-cnnvis", "matplotlib", "numpy"}


def test_figure_and_files_can_be_moved_together(tmp_path, volumes):
    write_figure(*volumes, FigureSpec(**SMALL), tmp_path / "plate.png")
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for name in ("plate.json", "scan.nii.gz", "map.nii.gz"):
        (tmp_path / name).rename(moved / name)
    _, map_ = read_figure(moved / "plate.json").volumes()
    np.testing.assert_array_equal(map_.data, volumes[1].data)


@pytest.mark.parametrize(("ending", "kind"), [(".png", "PNG"), (".tif", "TIFF"), (".TIFF", "TIFF")])
@pytest.mark.parametrize("background", ["black", "transparent"])
def test_pixels_have_size_dpi_and_background(tmp_path, volumes, ending, kind, background):
    path = tmp_path / f"plate{ending}"
    write_figure(*volumes, FigureSpec(background=background, **SMALL), path)
    with Image.open(path) as image:
        assert image.format == kind
        assert image.width == round(60 / 25.4 * 80)
        assert image.mode == ("RGBA" if background == "transparent" else "RGB")
        assert float(image.info["dpi"][0]) == pytest.approx(80, abs=0.01)


@pytest.mark.parametrize("ending", [".svg", ".pdf"])
def test_text_of_vector_files_stays_text(tmp_path, volumes, ending):
    spec = FigureSpec(title="Atrophie · été", **SMALL)
    write_figure(*volumes, spec, tmp_path / f"plate{ending}")
    content = (tmp_path / f"plate{ending}").read_bytes()
    if ending == ".svg":
        assert ">Atrophie · été</text>".encode() in content
        assert b"<image" in content
    else:
        assert b"/Font" in content
        assert b"/Type3" not in content
    write_figure(*volumes, spec, tmp_path / f"again{ending}")
    assert (tmp_path / f"again{ending}").read_bytes() == content


def test_an_attribution_has_its_own_provenance(tmp_path, volumes):
    scan, map_ = volumes
    provenance = {"method": "CAM", "class_name": "atrophy", "layer": "relu4"}
    attribution = Attribution(map_.data, map_.affine, provenance, scan, partial=True)
    record = write_figure(scan, attribution, FigureSpec(**SMALL), tmp_path / "plate.png")
    assert record.provenance == {**provenance, "partial": True}
    with pytest.raises(CnnVisError, match="was not in a file"):
        read_figure(tmp_path / "plate.json").volumes()


def test_a_volume_of_a_4d_file_is_found_again(tmp_path, volumes, marked):
    scan, map_ = marked()
    nib.save(
        nib.Nifti1Image(np.stack([map_.data * 0, map_.data], -1), map_.affine), tmp_path / "f.nii"
    )
    nib.save(nib.Nifti1Image(scan.data, scan.affine), tmp_path / "s.nii")
    pair = read_volume(tmp_path / "s.nii"), read_volume(tmp_path / "f.nii", 1)
    write_figure(*pair, FigureSpec(**SMALL), tmp_path / "plate.png")
    again = read_figure(tmp_path / "plate.json").volumes()[1]
    np.testing.assert_array_equal(again.data, map_.data)


def test_a_changed_file_is_not_drawn_as_if_it_were_the_same(tmp_path, volumes, plain):
    write_figure(*volumes, FigureSpec(**SMALL), tmp_path / "plate.png")
    nib.save(nib.Nifti1Image(volumes[1].data * 2, volumes[1].affine), tmp_path / "map.nii.gz")
    with pytest.raises(CnnVisError, match="not what the figure was made from") as caught:
        read_figure(tmp_path / "plate.json").volumes()
    plain(caught.value, tmp_path / "map.nii.gz")


def test_the_record_of_a_map_is_not_replaced(tmp_path, volumes, plain):
    record = {"method": "CAM", "class_name": "a", "versions": {}}
    (tmp_path / "map.json").write_text(json.dumps(record))
    with pytest.raises(CnnVisError, match="Choose another name") as caught:
        write_figure(*volumes, FigureSpec(**SMALL), tmp_path / "map.png")
    plain(caught.value)
    assert not (tmp_path / "map.png").exists()
    assert provenance_beside(tmp_path / "map.nii.gz") == record


@pytest.mark.parametrize("name", ["plate.jpg", "plate", "nowhere/plate.png"])
def test_what_cannot_be_written_is_refused(tmp_path, volumes, name, plain):
    with pytest.raises(CnnVisError) as caught:
        write_figure(*volumes, FigureSpec(**SMALL), tmp_path / name)
    plain(caught.value)
    assert not list(tmp_path.glob("plate*"))


def test_a_failed_figure_leaves_nothing_behind(tmp_path, volumes):
    before = set(tmp_path.iterdir())
    with pytest.raises(CnnVisError):
        write_figure(
            *volumes, FigureSpec(positions=((900, 0, 0),), **SMALL), tmp_path / "plate.png"
        )
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "{",
        "[]",
        '{"method": "CAM"}',
        '{"napari-cnnvis figure": 1}',
        '{"napari-cnnvis figure": 1, "picture": 3, "spec": {}, "scan": {}, "map": {}}',
        '{"napari-cnnvis figure": 1, "picture": "a", "spec": {"dpi": "x"}, "scan": {}, "map": {}}',
        '{"napari-cnnvis figure": 1, "view": {}, "spec": {}}',
    ],
)
def test_what_is_no_figures_json_is_refused(tmp_path, text, plain):
    path = tmp_path / "plate.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(CnnVisError) as caught:
        read_figure(path)
    plain(caught.value)


def test_the_users_own_settings_of_matplotlib_do_not_matter(tmp_path, volumes):
    import matplotlib as mpl

    write_figure(*volumes, FigureSpec(**SMALL), tmp_path / "a.png")
    with mpl.rc_context({"savefig.bbox": "tight", "font.family": "serif", "text.color": "red"}):
        write_figure(*volumes, FigureSpec(**SMALL), tmp_path / "b.png")
        assert mpl.rcParams["savefig.bbox"] == "tight"
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
