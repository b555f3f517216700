"""The panel "Figure": views in 3D, cut-aways, and pictures for print."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.affines import apply_affine
from qtpy.QtCore import Qt

from napari_cnnvis._napari.figure.camera import CameraState, ScanAxes, camera_of, look_from
from napari_cnnvis._napari.figure.capture import canvas_pixels, set_background
from napari_cnnvis._napari.figure.form import FigureForm
from napari_cnnvis._napari.figure.turntable import Turntable
from napari_cnnvis._napari.layers.maps import map_of
from napari_cnnvis._napari.layers.one_volume import to_world
from napari_cnnvis._napari.layers.scans import layer_to_volume, snapshot
from napari_cnnvis._napari.widgets.file_dialogs import FileDialogs
from napari_cnnvis._napari.widgets.guide_window import add_help
from napari_cnnvis._napari.widgets.jobs import JobRunner
from napari_cnnvis._napari.widgets.panel_base import DockedPanel
from napari_cnnvis.errors import CnnVisError
from napari_cnnvis.figure.spec import FigureSpec

__all__ = ["FigurePanel"]

_PICTURES = "PNG (*.png);;TIFF (*.tif);;SVG (*.svg);;PDF (*.pdf)"
_MOVIES = "Animated GIF (*.gif);;Movie, by napari-animation (*.mp4);;Folder of PNG files ()"
_NO_MAP = "Make a map with Explain CNN, or open a saved one, for slices, lightbox and six views."
_UNKNOWN = (
    "The layer does not say how the scan is oriented: left and right, front and back, "
    "top and bottom are those of its axes if they were stored as R, A, S."
)


class FigurePanel(DockedPanel):
    """Looks at a scan from fixed sides, cuts it away, and saves pictures of it.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
    """

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__(napari_viewer, lines=4)
        self._viewer = napari_viewer
        self._saved: CameraState | None = None
        self._dialogs = FileDialogs(self, "figure folder")
        self.jobs = JobRunner(self)
        self.turntable = Turntable(napari_viewer, self)
        self.form = FigureForm(napari_viewer, self)
        add_help(self, "figure")
        self._connect()
        self._on_scan()

    def _connect(self) -> None:
        form = self.form
        form.scan.layer_changed.connect(self._on_scan)
        form.map.layer_changed.connect(self._refresh)
        for name, button in form.presets.items():
            button.clicked.connect(lambda checked=False, name=name: self.look_from(name))
        form.save_view.clicked.connect(lambda: self.save_camera())
        form.go_to_saved.clicked.connect(lambda: self.go_to_saved())
        form.whole.clicked.connect(form.cut_away.reset)
        form.background.currentIndexChanged.connect(self._on_background)
        form.buttons["view"].clicked.connect(lambda: self._ask("3D view", self.save_3d))
        for layout, save in (
            ("views", self.save_views),
            ("slices", self.save_slices),
            ("lightbox", self.save_lightbox),
        ):
            form.buttons[layout].clicked.connect(
                lambda checked=False, layout=layout, save=save: self._ask(layout, save)
            )
        form.buttons["turntable"].clicked.connect(
            lambda: self._ask("turntable", self.save_turntable, _MOVIES)
        )
        form.buttons["open"].clicked.connect(lambda: self._ask_record())
        form.cancel.clicked.connect(self.turntable.stop)
        self.jobs.started.connect(lambda what: self.say(what + " …"))
        self.jobs.failed.connect(self.warn)
        self.jobs.finished.connect(self._refresh)
        self.turntable.advanced.connect(self._on_frame)
        self.turntable.failed.connect(self.warn)
        self.turntable.ended.connect(self._on_turned)
        self.destroyed.connect(self.jobs.close)

    def closed(self) -> None:
        """Leave the viewer alone: nothing is cut away, the canvas has its own colour."""
        self.turntable.stop()
        self.jobs.close()
        self.form.cut_away.reset()
        self.form.cut_away.disconnect_viewer()
        set_background(self._viewer, None)

    # --- looking -------------------------------------------------------------------

    def look_from(self, name: str) -> None:
        """Look at the scan in 3D from its left, right, front, back, top or bottom."""
        if self.form.scan.layer is not None:
            look_from(self._viewer, self.form.scan.layer, name)

    def save_camera(self) -> None:
        """Keep the present 3D view."""
        self._saved = CameraState.of(self._viewer)
        self._refresh()

    def go_to_saved(self) -> None:
        """Show the kept view."""
        if self._saved is not None:
            self._saved.restore(self._viewer)

    def _on_background(self) -> None:
        colour = self.form.background.currentText()
        set_background(self._viewer, "white" if colour == "white" else "black")

    # --- saving --------------------------------------------------------------------

    def spec(self, layout: str = "slices") -> FigureSpec:
        """What the form says, with the limits of the map's layer.

        Raises
        ------
        CnnVisError
            If a value is not possible.
        """
        limits = None
        map_ = map_of(self.form.map.layer)
        if map_ is not None:
            low, high = map_.limits
            largest = max(abs(low), abs(high))
            limits = (-largest, largest) if low < 0 else (low, high)
        return replace(self.form.spec(layout), limits=limits)

    def save_slices(self, path: str | Path) -> None:
        """Save sagittal, coronal and axial slices at the map's peak or the viewer's place."""
        self._save_plate("slices", path)

    def save_lightbox(self, path: str | Path) -> None:
        """Save parallel slices all through the head."""
        self._save_plate("lightbox", path)

    def save_views(self, path: str | Path) -> None:
        """Save six views from outside."""
        self._save_plate("views", path)

    def _save_plate(self, layout: str, path: str | Path) -> None:
        scan, overlay = self.form.scan.layer, self.form.map.layer
        map_ = map_of(overlay)
        if scan is None or map_ is None or self.jobs.busy:
            return
        place = None
        if layout == "slices" and not self.form.at_peak:
            place = apply_affine(np.linalg.inv(to_world(scan)), self._viewer.dims.point[-3:])
        spec = self._try(lambda: self.spec(layout))
        if spec is None:
            return
        taken = self.session.heads.snapshot(scan), snapshot(overlay)
        files = [str(getattr(layer.source, "path", None) or "") for layer in (scan, overlay)]
        provenance = dict(map_.provenance)

        def job(progress: Any, cancel: Any) -> Any:
            from napari_cnnvis.figure.files import write_figure

            volumes = [layer_to_volume(*one) for one in taken]
            # an overlay carries its scan's record, source and all
            volumes[0] = replace(volumes[0], source=volumes[0].source or files[0])
            volumes[1] = replace(volumes[1], source=files[1])
            point = None if place is None else (volumes[0].affine @ [*place, 1])[:3]
            drawn = spec if point is None else replace(spec, positions=(tuple(point),))
            return write_figure(*volumes, drawn, path, provenance, overwrite=True)

        self.jobs.start(f"Drawing {Path(path).name}", job, self._on_written)

    def _on_written(self, record: Any) -> None:
        text = f"Saved {record.picture.name} and {record.picture.with_suffix('.json').name}. "
        if not record.map.path:
            text += "The map is not in a file yet; save it to draw the figure again from its JSON. "
        self.say(text + " ".join(record.notes))

    def save_3d(self, path: str | Path) -> None:
        """Save the canvas as it is seen in 3D, with title, colour bar and scale bar."""
        layer = self.form.scan.layer
        if layer is None:
            return

        def save() -> str:
            from napari_cnnvis.figure.files import check_picture, save_plate
            from napari_cnnvis.figure.record import save_view

            picture, spec = check_picture(path, overwrite=True), self.spec()
            save_plate(self._frame(spec), picture, spec)
            save_view(picture, spec, self._view())
            return f"Saved {picture.name} and {picture.with_suffix('.json').name}."

        text = self._try(save)
        if text:
            self.say(text)

    def _frame(self, spec: FigureSpec) -> Any:
        from napari_cnnvis.explain.record import Record
        from napari_cnnvis.figure.furniture import ColourBar
        from napari_cnnvis.figure.plate import draw_frame

        pixels, zoom = canvas_pixels(self._viewer, spec.background, spec.pixels)
        title, bar, layer = "", None, self.form.map.layer
        map_ = map_of(layer)
        if map_ is not None and layer.visible:
            record = Record(map_.provenance)
            title = record.title or layer.name
            ends = float(np.min(layer.data)), float(np.max(layer.data))
            bar = ColourBar(map_.limits, 0.0, record.unit, ends)
        scale = zoom if camera_of(self._viewer).perspective == 0 else None
        return draw_frame(pixels, spec, title, bar, scale)

    def _view(self) -> dict[str, Any]:
        """What the viewer needs to show the present view again."""
        limits = {
            layer.name: [float(v) for v in layer.contrast_limits]
            for layer in self._viewer.layers
            if hasattr(layer, "contrast_limits")
        }
        return {
            "camera": asdict(CameraState.of(self._viewer)),
            "cut": self.form.cut_away.ranges,
            "contrast_limits": limits,
        }

    def save_turntable(self, path: str | Path, frames: int = 72) -> None:
        """Save a movie once around the head."""
        layer = self.form.scan.layer
        if layer is None or self.turntable.busy:
            return
        if self._viewer.dims.ndisplay != 3:
            self.look_from("anterior")
        background = self.form.background.currentText()
        self.say("Turning …")
        self._try(lambda: self.turntable.start(layer, path, frames, background))
        self._refresh()

    def open_record(self, path: str | Path) -> None:
        """Show what the JSON beside a picture says: the form, and for a 3D view the view."""

        def show() -> str:
            from napari_cnnvis.figure.record import read_figure, read_view

            seen = read_view(path)
            spec = read_figure(path).spec if seen is None else seen[0]
            if seen is not None:
                self._show_view(seen[1])
            self.form.show_spec(spec)
            return f"As in {Path(path).name}."

        text = self._try(show)
        if text:
            self.say(text)

    def _show_view(self, view: dict[str, Any]) -> None:
        try:
            CameraState(**view["camera"]).restore(self._viewer)
            self.form.cut_away.show_ranges(view["cut"])
            for layer in self._viewer.layers:
                if layer.name in view["contrast_limits"]:
                    layer.contrast_limits = view["contrast_limits"][layer.name]
        except (KeyError, TypeError, ValueError) as exc:
            raise CnnVisError("The JSON of this 3D view is damaged.") from exc

    # --- files and words -----------------------------------------------------------

    def _ask(self, what: str, save: Callable[[str], None], kinds: str = _PICTURES) -> None:
        path = self._try(lambda: self._dialogs.save_file(f"Save {what}", kinds, whole=False))
        if path:
            save(path)

    def _ask_record(self) -> None:
        path = self._dialogs.open_file("Open figure", "JSON (*.json)")
        if path:
            self.open_record(path)

    def _try(self, act: Callable[[], Any]) -> Any:
        try:
            return act()
        except CnnVisError as exc:
            self.warn(str(exc))
            return None

    def say(self, text: str) -> None:
        """Show a sentence, and what can be done now."""
        super().say(text)
        self._refresh()

    def _on_frame(self, done: int, total: int) -> None:
        self.form.bar.setRange(0, total)
        self.form.bar.setValue(done)

    def _on_turned(self, written: str) -> None:
        self.say(f"Saved {Path(written).name}." if written else "Stopped.")

    def _on_scan(self) -> None:
        layer = self.form.scan.layer
        self.form.cut_away.reset()
        self.form.cut_away.show_scan(layer)
        known = layer is None or ScanAxes.of(layer).known
        self.form.hint.setText(self.form.scan.hint or ("" if known else _UNKNOWN))
        self._refresh()

    def _refresh(self) -> None:
        """Bring every widget in line with the layers and what is running."""
        form, turning = self.form, self.turntable.busy
        idle = not turning and not self.jobs.busy
        scan, map_ = form.scan.layer is not None, form.map.layer is not None
        for button in (*form.presets.values(), form.save_view, form.whole):
            button.setEnabled(scan and not turning)
        form.go_to_saved.setEnabled(self._saved is not None and not turning)
        for name in ("view", "turntable"):
            form.buttons[name].setEnabled(scan and idle)
        for name in ("views", "slices", "lightbox"):
            form.buttons[name].setEnabled(scan and map_ and idle)
            form.buttons[name].setToolTip("" if map_ else _NO_MAP)
        form.hint.setVisible(bool(form.hint.text()))
        form.bar.setVisible(turning)
        form.cancel.setVisible(turning)
        form.bar.setTextVisible(True)
        form.bar.setAlignment(Qt.AlignmentFlag.AlignCenter)
