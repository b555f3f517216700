"""FreeSurfer's numbers, names and colours: `aseg`, the Desikan-Killiany `aparc`, and `wmparc`.

The numbers are those of `aseg.mgz`, `aparc+aseg.mgz`, `aparc.DKTatlas+aseg.mgz` and
`wmparc.mgz` (Fischl et al. 2002, Desikan et al. 2006), as FastSurfer and SynthSeg write them.
"""

from __future__ import annotations

from functools import cache

__all__ = ["freesurfer_labels"]

Colour = tuple[int, int, int]

#: number on the left, number on the right, name, colour
_SIDES: tuple[tuple[int, int, str, Colour], ...] = (
    (3, 42, "Cerebral-Cortex", (205, 62, 78)),
    (4, 43, "Lateral-Ventricle", (120, 18, 134)),
    (5, 44, "Inf-Lat-Vent", (196, 58, 250)),
    (7, 46, "Cerebellum-White-Matter", (220, 248, 164)),
    (8, 47, "Cerebellum-Cortex", (230, 148, 34)),
    (10, 49, "Thalamus", (0, 118, 14)),
    (11, 50, "Caudate", (122, 186, 220)),
    (12, 51, "Putamen", (236, 13, 176)),
    (13, 52, "Pallidum", (12, 48, 255)),
    (17, 53, "Hippocampus", (220, 216, 20)),
    (18, 54, "Amygdala", (103, 255, 255)),
    (25, 57, "Lesion", (255, 165, 0)),
    (26, 58, "Accumbens-area", (255, 165, 0)),
    (27, 59, "Substancia-Nigra", (0, 255, 127)),
    (28, 60, "VentralDC", (165, 42, 42)),
    (29, 61, "undetermined", (135, 206, 235)),
    (30, 62, "vessel", (160, 32, 240)),
    (78, 79, "WM-hypointensities", (255, 148, 10)),
    (81, 82, "non-WM-hypointensities", (164, 108, 226)),
    (5001, 5002, "UnsegmentedWhiteMatter", (20, 30, 40)),
)
_OTHERS: dict[int, tuple[str, Colour]] = {
    2: ("Left-Cerebral-White-Matter", (245, 245, 245)),
    41: ("Right-Cerebral-White-Matter", (0, 225, 0)),
    14: ("3rd-Ventricle", (204, 182, 142)),
    15: ("4th-Ventricle", (42, 204, 164)),
    16: ("Brain-Stem", (119, 159, 176)),
    24: ("CSF", (60, 60, 60)),
    31: ("Left-choroid-plexus", (0, 200, 200)),
    63: ("Right-choroid-plexus", (0, 200, 221)),
    72: ("5th-Ventricle", (120, 190, 150)),
    77: ("WM-hypointensities", (200, 70, 255)),
    80: ("non-WM-hypointensities", (164, 108, 226)),
    85: ("Optic-Chiasm", (234, 169, 30)),
    251: ("CC_Posterior", (0, 0, 64)),
    252: ("CC_Mid_Posterior", (0, 0, 112)),
    253: ("CC_Central", (0, 0, 160)),
    254: ("CC_Mid_Anterior", (0, 0, 208)),
    255: ("CC_Anterior", (0, 0, 255)),
}
#: the cortex, from 1000 on the left and from 2000 on the right; white matter 2000 higher
_CORTEX: tuple[tuple[str, Colour], ...] = (
    ("unknown", (25, 5, 25)),
    ("bankssts", (25, 100, 40)),
    ("caudalanteriorcingulate", (125, 100, 160)),
    ("caudalmiddlefrontal", (100, 25, 0)),
    ("corpuscallosum", (120, 70, 50)),
    ("cuneus", (220, 20, 100)),
    ("entorhinal", (220, 20, 10)),
    ("fusiform", (180, 220, 140)),
    ("inferiorparietal", (220, 60, 220)),
    ("inferiortemporal", (180, 40, 120)),
    ("isthmuscingulate", (140, 20, 140)),
    ("lateraloccipital", (20, 30, 140)),
    ("lateralorbitofrontal", (35, 75, 50)),
    ("lingual", (225, 140, 140)),
    ("medialorbitofrontal", (200, 35, 75)),
    ("middletemporal", (160, 100, 50)),
    ("parahippocampal", (20, 220, 60)),
    ("paracentral", (60, 220, 60)),
    ("parsopercularis", (220, 180, 140)),
    ("parsorbitalis", (20, 100, 50)),
    ("parstriangularis", (220, 60, 20)),
    ("pericalcarine", (120, 100, 60)),
    ("postcentral", (220, 20, 20)),
    ("posteriorcingulate", (220, 180, 220)),
    ("precentral", (60, 20, 220)),
    ("precuneus", (160, 140, 180)),
    ("rostralanteriorcingulate", (80, 20, 140)),
    ("rostralmiddlefrontal", (75, 50, 125)),
    ("superiorfrontal", (20, 220, 160)),
    ("superiorparietal", (20, 180, 140)),
    ("superiortemporal", (140, 220, 220)),
    ("supramarginal", (80, 160, 20)),
    ("frontalpole", (100, 0, 100)),
    ("temporalpole", (70, 70, 70)),
    ("transversetemporal", (150, 150, 200)),
    ("insula", (255, 192, 32)),
)


@cache
def freesurfer_labels() -> dict[int, tuple[str, Colour]]:
    """Name and colour (0 to 255) of each number; 0, the background, is not among them."""
    labels = dict(_OTHERS)
    for left, right, name, colour in _SIDES:
        labels[left] = f"Left-{name}", colour
        labels[right] = f"Right-{name}", colour
    for first, side in ((1000, "lh"), (2000, "rh")):
        for number, (name, (r, g, b)) in enumerate(_CORTEX, first):
            labels[number] = f"ctx-{side}-{name}", (r, g, b)
            labels[number + 2000] = f"wm-{side}-{name}", (255 - r, 255 - g, 255 - b)
    return labels
