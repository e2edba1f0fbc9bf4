"""Reference pictures on their way to fal: each encoded once, and uploaded once."""
