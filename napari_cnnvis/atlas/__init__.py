"""Label volumes with the names of their regions."""
