"""The steps that prepare a scan for a network, by MONAI's names, arguments and numbers.

MONAI itself is not needed. Each does what MONAI's transform of the same name does, on the
same grid, and knows the way back to the scan.
"""
