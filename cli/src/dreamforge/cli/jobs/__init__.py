"""What the command does with jobs: request options, progress, event descriptions, images."""
