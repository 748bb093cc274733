"""One module for each group of commands: options in, one call, words or JSON out."""
