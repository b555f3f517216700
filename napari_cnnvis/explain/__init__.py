"""Model + Volume (+ Hierarchy) -> Attribution."""
