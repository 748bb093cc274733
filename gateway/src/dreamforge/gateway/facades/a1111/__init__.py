"""A1111's API: `/sdapi/v1`, and the lists of its ControlNet extension under `/controlnet`."""
