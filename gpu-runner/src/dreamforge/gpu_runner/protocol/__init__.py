"""What supervisor and worker say to each other, as values and frames."""
