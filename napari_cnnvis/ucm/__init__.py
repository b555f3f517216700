"""Volume -> Hierarchy: boundary strength, supervoxels, merge tree."""
