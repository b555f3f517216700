"""What is at work in one viewer."""
