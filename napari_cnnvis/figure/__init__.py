"""Pictures for print: slices, lightboxes and six views of a map on its scan, without a screen."""
