"""Attribution (+ masks, Model) -> scores."""
