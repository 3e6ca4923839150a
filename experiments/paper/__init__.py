"""The artifacts of the paper, one file each: runs, claims, deviations, figure or table."""
