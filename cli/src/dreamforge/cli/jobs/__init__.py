"""What the command does with jobs: request options, progress, story, pictures."""
