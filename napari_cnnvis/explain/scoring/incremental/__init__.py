"""Exact incremental occlusion: only what a region can change is computed again."""
