"""What goes past the paper, in the same form: one file each."""
