"""Make everything in this folder from scratch: scans, ground truth and trained networks.

    pip install napari-cnnvis[sample]
    python sample_data/make_sample_data.py scans
    python sample_data/make_sample_data.py networks

Seeds are fixed. The scans take seconds, the networks about an hour on two cores.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import nibabel as nib
import numpy as np
import simulated_cohort as cohort
import torch
from train_networks import PATIENT_SEED, Recipe, train

from napari_cnnvis.conform import InputSpec
from napari_cnnvis.models.checkpoint import save_model
from napari_cnnvis.models.networks import VoxResNetGAP, VoxVGG

FOLDER = Path(__file__).parent
NETWORKS = {
    "voxvgg": (VoxVGG, Recipe(subjects=128, epochs=8)),
    "voxresnetgap": (
        VoxResNetGAP,
        Recipe(subjects=64, epochs=5, batch=2, paired=True),
    ),
}
INPUT = InputSpec(
    shape=cohort.SHAPE, spacing=(cohort.SPACING,) * 3, orientation="RAS", intensity="max"
)


def save_scan(data: torch.Tensor | np.ndarray, name: str) -> None:
    """Write intensities 0..1 as 12-bit, or a region as 0 and 1; int16 and uint8 keep files small."""
    data = np.asarray(data)
    stored = data.astype(np.uint8) if data.dtype == bool else (data * 4095).round().astype(np.int16)
    image = nib.Nifti1Image(stored, cohort.AFFINE)
    image.header.set_xyzt_units("mm")
    image.set_sform(cohort.AFFINE, code="mni")
    image.set_qform(cohort.AFFINE, code="mni")
    nib.save(image, FOLDER / f"{name}.nii.gz")


def make_scans() -> None:
    """The template, a control, two patients, and the patients' ground truth."""
    template = cohort.load_template()
    save_scan(template.brain, "mni152_t1_2mm")
    control = cohort.make_subject(template, 0, PATIENT_SEED)
    save_scan(control.scan, "simulated_control")
    for name, seed in (("", PATIENT_SEED + 1), ("_severe", PATIENT_SEED + 3)):
        patient = cohort.make_subject(template, 1, seed)
        save_scan(patient.scan, f"simulated_atrophy{name}")
        save_scan(patient.changed.numpy(), f"simulated_atrophy{name}_changed")


def make_network(name: str) -> None:
    """Train one network and save it with its record."""
    kind, recipe = NETWORKS[name]
    torch.manual_seed(recipe.seed)
    net = kind()
    record = train(net, cohort.load_template(), recipe)
    record["cohort"] = "simulated atrophy (sample_data/simulated_cohort.py)"
    path = FOLDER / f"{name}_simulated_atrophy.safetensors"
    save_model(net, path, cohort.CLASS_NAMES, INPUT, record)
    print(f"{path.name}: held-out accuracy {record['held_out_accuracy']:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["scans", "networks", *NETWORKS])
    what = parser.parse_args().what
    if what == "scans":
        make_scans()
    for name in NETWORKS:
        if what in ("networks", name):
            make_network(name)


if __name__ == "__main__":
    main()
