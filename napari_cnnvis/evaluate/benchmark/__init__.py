"""Every network, method and region of scans with a known truth, scored."""
