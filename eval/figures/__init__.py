"""What is said of stored rows: accuracy, effective robustness, overlap, health of attacks."""
