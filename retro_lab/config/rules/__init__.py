"""What must hold of settings: bounds of one, and rules between several."""
