"""Random chains of preparation steps, and what MONAI makes of them."""

import warnings

import nibabel as nib
import numpy as np

ORIENTATIONS = ("RAS", "LPS", "SAR", "PIR", "LAI", "AIL")


def _size(rng, low=5, high=21):
    return tuple(int(n) for n in rng.integers(low, high, 3))


def _pick(rng, *values):
    return values[rng.integers(len(values))]


def _yes(rng):
    return bool(rng.integers(2))


def _resize(rng):
    mode = _pick(rng, "area", "nearest", "nearest-exact", "trilinear", "bilinear", "trilinear")
    align = _pick(rng, None, True, False) if mode.endswith("linear") else None
    return {
        "spatial_size": _size(rng),
        "mode": mode,
        "align_corners": align,
        "anti_aliasing": _yes(rng),
    }


def _percentiles(rng):
    return {
        "lower": _pick(rng, 0, 0.5, 5),
        "upper": _pick(rng, 95, 99.5, 100),
        "b_min": _pick(rng, -1, 0, None),
        "b_max": _pick(rng, 1, 3.5),
        "clip": _yes(rng),
        "channel_wise": _yes(rng),
    }


def _normalize(rng):
    wise = _yes(rng)
    given = rng.integers(2) and (([0.3], [1.7]) if wise else (0.3, 1.7))
    named = {"subtrahend": given[0], "divisor": given[1]} if given else {}
    return {"nonzero": _yes(rng), "channel_wise": wise, **named}


#: how random arguments of each step are drawn
STEPS = {
    "Orientation": lambda rng: {"axcodes": _pick(rng, *ORIENTATIONS)},
    "Spacing": lambda rng: {
        "pixdim": _pick(rng, tuple(rng.uniform(1, 4, 3).round(3).tolist()), 2, (1.5, -1, 2.5)),
        "mode": _pick(rng, "bilinear", "bilinear", "nearest"),
        "padding_mode": _pick(rng, "border", "zeros", "reflection"),
        "align_corners": _yes(rng),
    },
    "Resize": _resize,
    "CenterSpatialCrop": lambda rng: {"roi_size": _pick(rng, _size(rng), 9, (7, -1, 8))},
    "SpatialPad": lambda rng: {
        "spatial_size": _size(rng),
        "method": _pick(rng, "symmetric", "end"),
        "mode": _pick(rng, "constant", "edge", "minimum"),
    },
    "ResizeWithPadOrCrop": lambda rng: {"spatial_size": _pick(rng, _size(rng), 11)},
    "DivisiblePad": lambda rng: {"k": _pick(rng, 4, (3, 4, 8))},
    "BorderPad": lambda rng: {"spatial_border": _pick(rng, 2, (0, 1, 3), (0, 1, 2, 3, 1, 0))},
    "CropForeground": lambda rng: {
        "margin": _pick(rng, 0, 2, (0, 1, 3)),
        "allow_smaller": _yes(rng),
        "k_divisible": _pick(rng, 1, 4),
    },
    "ScaleIntensity": lambda rng: {
        "minv": _pick(rng, 0, -1, None),
        "maxv": _pick(rng, 1, 5),
        "channel_wise": _yes(rng),
    },
    "ScaleIntensityRange": lambda rng: {
        "a_min": 0.1,
        "a_max": _pick(rng, 0.9, 40),
        "b_min": _pick(rng, 0, -2),
        "b_max": 1,
        "clip": _yes(rng),
    },
    "ScaleIntensityRangePercentiles": _percentiles,
    "ClipIntensityPercentiles": lambda rng: {"lower": 2, "upper": _pick(rng, None, 97)},
    "ThresholdIntensity": lambda rng: {
        "threshold": 0.5,
        "above": _yes(rng),
        "cval": _pick(rng, 0, 0.25),
    },
    "NormalizeIntensity": _normalize,
}


def random_chain(rng, longest=6):
    """Names and arguments of steps; the first brings intensities to about 1."""
    names = rng.choice(list(STEPS), rng.integers(2, longest + 1))
    return [("ScaleIntensity", {}), *((str(name), STEPS[name](rng)) for name in names)]


def written(chain):
    """A chain as text."""
    return ", ".join(
        f"{name}({', '.join(f'{k}={v!r}' for k, v in given.items())})" for name, given in chain
    )


def in_bundle(chain, keys="image"):
    """The steps of a bundle's configuration."""
    return [
        {
            "_target_": f"{name}d",
            "keys": keys,
            **({"source_key": "image"} if name == "CropForeground" else {}),
            **{k: list(v) if isinstance(v, tuple) else v for k, v in given.items()},
        }
        for name, given in chain
    ]


def by_monai(chain, path):
    """The scans of one or several files after a chain, and its affine, by MONAI itself."""
    import monai.transforms as mt

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        steps = [getattr(mt, name)(**given) for name, given in chain]
        loaded = mt.LoadImage(image_only=True)(path)
        made = mt.Compose([mt.EnsureChannelFirst(), *steps])(loaded)
    return made.numpy(), made.affine.numpy()


def oblique_affine(rng):
    """Anisotropic, turned by up to 30 degrees, axes permuted and flipped; no shear."""
    turn, _ = np.linalg.qr(np.eye(3) + rng.uniform(-0.4, 0.4, (3, 3)))
    turn *= np.sign(np.diag(turn))
    axes = np.eye(3)[rng.permutation(3)] * rng.choice([-1, 1], 3)
    affine = np.eye(4)
    affine[:3, :3] = turn @ axes @ np.diag(rng.uniform(0.8, 3, 3))
    affine[:3, 3] = rng.uniform(-60, 60, 3)
    return affine


def random_scan(rng, path, power=1):
    """A file with a smooth bright head in noise, 0 around it."""
    shape = rng.integers(8, 19, 3)
    at = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij"))
    radius = np.sqrt((at**2).sum(axis=0))
    data = np.where(radius < 0.9, 300 * np.exp(-(radius**2)) + 30 * rng.random(shape), 0)
    affine = oblique_affine(rng)
    nib.Nifti1Image((data**power).astype(np.float32), affine).to_filename(path)
    return path
