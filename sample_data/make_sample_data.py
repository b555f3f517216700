"""Make everything in this folder from scratch, and cohorts of any size.

    pip install napari-cnnvis[sample,train]
    python sample_data/make_sample_data.py scans
    python sample_data/make_sample_data.py cohort /data/atrophy --subjects 300
    python sample_data/make_sample_data.py cohort /data/held_out --subjects 40 --held-out

Seeds are fixed, so that the same command makes the same scans. The networks are trained with
`napari-cnnvis train`; sample_data/README.md has the commands.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import nibabel as nib
import numpy as np
import simulated_cohort as cohort
import torch

FOLDER = Path(__file__).parent


def save_scan(data: torch.Tensor | np.ndarray, path: Path) -> None:
    """Write intensities 0..1 as 12-bit, regions and labels as they are; small files."""
    data = np.asarray(data)
    if data.dtype == bool:
        data = data.astype(np.uint8)
    elif data.dtype == np.float32:
        data = (data * 4095).round().astype(np.int16)
    image = nib.Nifti1Image(data, cohort.AFFINE)
    image.header.set_xyzt_units("mm")
    image.set_sform(cohort.AFFINE, code="mni")
    image.set_qform(cohort.AFFINE, code="mni")
    nib.save(image, path)


def make_scans() -> None:
    """The template, a control, two patients, and the patients' ground truth."""
    template = cohort.load_template()
    save_scan(template.brain, FOLDER / "mni152_t1_2mm.nii.gz")
    control = cohort.make_subject(template, 0, cohort.PATIENT_SEED)
    save_scan(control.scan, FOLDER / "simulated_control.nii.gz")
    for name, seed in (("", cohort.PATIENT_SEED + 1), ("_severe", cohort.PATIENT_SEED + 3)):
        patient = cohort.make_subject(template, 1, seed)
        save_scan(patient.scan, FOLDER / f"simulated_atrophy{name}.nii.gz")
        save_scan(patient.changed, FOLDER / f"simulated_atrophy{name}_changed.nii.gz")


def make_cohort(options: argparse.Namespace) -> None:
    """A folder of scans, every other one a patient's, with metadata.csv.

    Held-out subjects also get their ground truth (patients) and the atlas as it lies in them.
    """
    folder = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    template = cohort.load_template()
    first_seed = cohort.PATIENT_SEED if options.held_out else cohort.TRAINING_SEED
    rows = []
    for number in range(options.subjects):
        subject = cohort.make_subject(template, number % 2, first_seed + number, options.kind)
        name = f"sub-{number + 1:04}"
        row = {
            "Subject": name,
            "Label": cohort.COHORTS[options.kind][subject.label],
            "Path": f"{name}.nii.gz",
        }
        save_scan(subject.scan, folder / row["Path"])
        if options.held_out:
            row["Rois"] = f"{name}_labels.nii.gz"
            save_scan(subject.labels, folder / row["Rois"])
            row["Truth"] = f"{name}_changed.nii.gz" if subject.label else ""
            if subject.label:
                save_scan(subject.changed, folder / row["Truth"])
        rows.append(row)
    with (folder / "metadata.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    print(f"{len(rows)} scans and metadata.csv are in {folder}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    scans = commands.add_parser("scans", help="the scans of this folder")
    scans.set_defaults(run=lambda _: make_scans())
    many = commands.add_parser("cohort", help="a folder of scans with metadata.csv")
    many.add_argument("folder", type=Path)
    many.add_argument("--kind", choices=cohort.COHORTS, default="atrophy")
    many.add_argument("--subjects", type=int, default=300)
    many.add_argument(
        "--held-out", action="store_true", help="others than to train on, with their ground truth"
    )
    many.set_defaults(run=make_cohort)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
