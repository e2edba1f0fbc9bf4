"""How fast an edit is beside other ways to run the same model, and what it may take."""
