"""The ways to run the model that are compared."""
